//! Reads the modules of a crate: what each defines, imports and mentions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Attribute, Item, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

/// The modules of a crate by path. The root's path is empty.
pub(super) type Sources = BTreeMap<Vec<String>, Module>;

/// A module of a crate.
#[derive(Default)]
pub(super) struct Module {
    /// Name in reports. A module written within a file counts as a part of the file's module.
    pub(super) name: String,
    /// Names of the items that the module defines itself, macros included.
    pub(super) defined: BTreeSet<String>,
    /// Items imported with `use`, by their local names.
    pub(super) imports: BTreeMap<String, Import>,
    /// Paths of `use …::*`.
    pub(super) globs: Vec<Vec<String>>,
    /// Paths in the module's code.
    pub(super) mentions: BTreeSet<Vec<String>>,
}

/// A name brought in by `use`.
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// Whether other modules see the name too. A private import uses what it names.
    pub(super) public: bool,
}

/// Where the text of a module is.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// The module is this file.
    File(&'a Path),
    /// The module is written within the file of the module of this name.
    Within(&'a str),
    /// All modules of the crate are in one text.
    #[cfg(test)]
    OneText,
}

/// Reads the crate with this root file.
pub(super) fn read(root: &Path) -> Result<Sources, String> {
    let mut sources = Sources::new();
    file(root, Vec::new(), &mut sources)?;
    Ok(sources)
}

/// Reads a crate that consists of one file.
#[cfg(test)]
pub(super) fn parse(text: &str) -> syn::Result<Sources> {
    let mut sources = Sources::new();
    let items = syn::parse_file(text)?.items;
    let read = module(items, Vec::new(), Place::OneText, &mut sources);
    read.map_err(|error| syn::Error::new(proc_macro2::Span::call_site(), error))?;
    Ok(sources)
}

fn file(path: &Path, name: Vec<String>, sources: &mut Sources) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parsed = syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    module(parsed.items, name, Place::File(path), sources)
}

fn module(
    items: Vec<Item>,
    path: Vec<String>,
    place: Place<'_>,
    sources: &mut Sources,
) -> Result<(), String> {
    let name = match (place, path.as_slice()) {
        (Place::Within(name), _) => name.to_owned(),
        (_, []) => "the root".to_owned(),
        (_, path) => path.join("::"),
    };
    let mut children = Vec::new();
    // Two files may be the same module, each on other platforms.
    let mut reader = Reader {
        module: sources.remove(&path).unwrap_or_default(),
    };
    reader.module.name.clone_from(&name);
    for item in items {
        match item {
            Item::Mod(child) if only_for_tests(&child.attrs) => {}
            Item::Mod(child) => children.push(child),
            item => {
                reader.define(&item);
                reader.visit_item(&item);
            }
        }
    }
    sources.insert(path.clone(), reader.module);
    for child in children {
        let word = child.ident.to_string();
        let child_path = [path.as_slice(), std::slice::from_ref(&word)].concat();
        match (child.content, place) {
            (Some((_, items)), Place::File(_)) => {
                module(items, child_path, Place::Within(&name), sources)?;
            }
            (Some((_, items)), place) => module(items, child_path, place, sources)?,
            (None, Place::File(parent)) => {
                file(
                    &child_file(parent, &word, &child.attrs),
                    child_path,
                    sources,
                )?;
            }
            (None, _) => {
                return Err(format!(
                    "{name} declares the file of a module inside a module"
                ));
            }
        }
    }
    Ok(())
}

fn child_file(parent: &Path, name: &str, attributes: &[Attribute]) -> PathBuf {
    let directory = parent.parent().unwrap_or(parent);
    if let Some(path) = attributes.iter().find_map(path_attribute) {
        return directory.join(path);
    }
    let stem = parent.file_stem().and_then(|stem| stem.to_str());
    let directory = match stem {
        Some(stem) if !["lib", "main", "mod"].contains(&stem) => directory.join(stem),
        _ => directory.to_owned(),
    };
    let flat = directory.join(format!("{name}.rs"));
    if flat.exists() {
        flat
    } else {
        directory.join(name).join("mod.rs")
    }
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            ..
        }) if pair.path.is_ident("path") => Some(text.value()),
        _ => None,
    }
}

fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

struct Reader {
    module: Module,
}

impl Reader {
    fn define(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Macro(item) => {
                self.define_within(item.mac.tokens.clone());
                match &item.ident {
                    Some(name) => name,
                    None => return,
                }
            }
            _ => return,
        };
        self.module.defined.insert(name.to_string());
    }

    /// Finds the types that a macro makes of its tokens or names in its body.
    fn define_within(&mut self, tokens: TokenStream) {
        let mut after_keyword = false;
        for token in tokens {
            let word = match token {
                TokenTree::Ident(word) => word.to_string(),
                TokenTree::Group(group) => {
                    self.define_within(group.stream());
                    String::new()
                }
                _ => String::new(),
            };
            if after_keyword && !word.is_empty() {
                self.module.defined.insert(word.clone());
            }
            after_keyword = ["struct", "enum", "trait"].contains(&word.as_str());
        }
    }

    fn import(&mut self, tree: &UseTree, mut path: Vec<String>, public: bool) {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.import(&step.tree, path, public);
            }
            UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                if let Some(last) = path.last().cloned() {
                    self.module.imports.insert(last, Import { path, public });
                }
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                let name = if rename.rename == "_" {
                    format!("_ {}", path.join("::"))
                } else {
                    rename.rename.to_string()
                };
                self.module.imports.insert(name, Import { path, public });
            }
            UseTree::Glob(_) => self.module.globs.push(path),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, path.clone(), public);
                }
            }
        }
    }

    /// Finds paths in tokens that are not parsed: bodies and arguments of macros.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        // The marks since the last word.
        let mut marks = String::new();
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if marks != "::" {
                        self.mention(std::mem::take(&mut path), false);
                    }
                    // A field, a method or a macro's variable begins no path.
                    let begins = !marks.ends_with(['.', '$']) || word == "crate";
                    path.push(format!("{}{word}", if begins { "" } else { "." }));
                    marks.clear();
                }
                TokenTree::Punct(mark) => {
                    if marks.is_empty() && mark.as_char() == '!' {
                        self.mention(std::mem::take(&mut path), true);
                    }
                    marks.push(mark.as_char());
                }
                TokenTree::Group(group) => {
                    let called = marks.is_empty() && group.delimiter() == Delimiter::Parenthesis;
                    self.mention(std::mem::take(&mut path), called);
                    self.tokens(group.stream());
                    marks = "()".to_owned();
                }
                TokenTree::Literal(_) => marks = "literal".to_owned(),
            }
        }
        self.mention(path, false);
    }

    /// Notes a path. A lower-case word alone may be a variable, unless it is called.
    fn mention(&mut self, path: Vec<String>, called: bool) {
        let word = match path.as_slice() {
            [] => return,
            [word] => word,
            _ => {
                self.module.mentions.insert(path);
                return;
            }
        };
        if called || word.starts_with(char::is_uppercase) {
            self.module.mentions.insert(path);
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect()
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !only_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let only_for_tests = match item {
            syn::ImplItem::Fn(item) => only_for_tests(&item.attrs),
            syn::ImplItem::Const(item) => only_for_tests(&item.attrs),
            _ => false,
        };
        if !only_for_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, Vec::new(), public);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = call.func.as_ref() {
            self.mention(segments(&function.path), true);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.mention(segments(path), false);
        visit::visit_path(self, path);
    }

    /// Serde's attributes name functions in strings.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            for token in list.tokens.clone() {
                if let TokenTree::Literal(literal) = token
                    && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                    && let Ok(path) = text.parse::<syn::Path>()
                {
                    self.mention(segments(&path), true);
                }
            }
        }
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.mention(segments(&invocation.path), true);
        self.tokens(invocation.tokens.clone());
    }
}
