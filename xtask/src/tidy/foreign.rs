//! Checks which other crates appear in the public signatures of the published crates. A new major
//! version of such a crate is a breaking change of ours, so the list is short.
//!
//! An item counts as public if it is declared `pub`: the lint `unreachable_pub` rejects all others.
//! Items that a macro of ours declares are not seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Field, File, ImplItem, Item, ItemImpl, Signature, TraitItem, Type, UseTree, Visibility,
    visit::{self, Visit},
};

/// The crates that public signatures may name.
const ALLOWED: &[&str] = &[
    "bytes",
    "futures_core",
    "http",
    "jiff",
    "schemars",
    "secrecy",
    "serde",
    "serde_json",
    "tokio",
    "url",
    "uuid",
];

/// Reports the public signatures of a crate that name a crate that is not allowed. `dependencies`
/// are the names of the other crates that code of this crate can name, ours not included.
pub(super) fn check(
    root: &Path,
    files: &[PathBuf],
    dependencies: &BTreeSet<String>,
    breaches: &mut Vec<String>,
) {
    let mut parsed = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).unwrap_or_default();
        if let Ok(file) = syn::parse_file(&text) {
            parsed.push((path.strip_prefix(root).unwrap_or(path), file));
        }
    }
    let public = public_types(parsed.iter().map(|(_, file)| file));
    for (path, file) in &parsed {
        let mut scope = Scope::new(dependencies, &public);
        scope.items(&file.items);
        for (item, name) in scope.found {
            breaches.push(format!(
                "{}: `{item}` shows a type of `{name}`; public signatures may name only the crates \
                 in ALLOWED in xtask/src/tidy/foreign.rs",
                path.display()
            ));
        }
    }
}

/// Returns the names of the public types and traits.
fn public_types<'a>(files: impl Iterator<Item = &'a File>) -> BTreeSet<String> {
    fn add(items: &[Item], names: &mut BTreeSet<String>) {
        for item in items {
            let (vis, ident) = match item {
                Item::Enum(item) => (&item.vis, &item.ident),
                Item::Struct(item) => (&item.vis, &item.ident),
                Item::Type(item) => (&item.vis, &item.ident),
                Item::Mod(item) => {
                    add(item.content.as_ref().map_or(&[], |(_, items)| items), names);
                    continue;
                }
                _ => continue,
            };
            if is_public(vis) {
                names.insert(ident.to_string());
            }
        }
    }
    let mut names = BTreeSet::new();
    files.for_each(|file| add(&file.items, &mut names));
    names
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// A module that is being checked.
struct Scope<'a> {
    dependencies: &'a BTreeSet<String>,
    public: &'a BTreeSet<String>,
    /// The crate that each imported name comes from.
    imports: BTreeMap<String, String>,
    /// The item that is being checked.
    item: String,
    /// Each item with the crate that it shows.
    found: BTreeSet<(String, String)>,
}

impl<'a> Scope<'a> {
    fn new(dependencies: &'a BTreeSet<String>, public: &'a BTreeSet<String>) -> Self {
        Self {
            dependencies,
            public,
            imports: BTreeMap::new(),
            item: String::new(),
            found: BTreeSet::new(),
        }
    }

    fn items(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Use(item) = item {
                self.import(&item.tree, None);
            }
        }
        items.iter().for_each(|item| self.item(item));
    }

    /// Notes the names of a `use`. `above` is the crate and the module that contain the tree.
    fn import(&mut self, tree: &UseTree, above: Option<(&str, &str)>) {
        let root = above.map(|(root, _)| root.to_owned());
        match tree {
            UseTree::Path(path) => {
                let module = path.ident.to_string();
                let root = root.unwrap_or_else(|| module.clone());
                self.import(&path.tree, Some((&root, &module)));
            }
            UseTree::Name(name) => {
                if let (Some(root), Some((_, module))) = (root, above) {
                    let known = name.ident.to_string();
                    let known = if known == "self" {
                        module.to_owned()
                    } else {
                        known
                    };
                    self.imports.insert(known, root);
                }
            }
            UseTree::Rename(name) => {
                let root = root.unwrap_or_else(|| name.ident.to_string());
                self.imports.insert(name.rename.to_string(), root);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, above));
            }
            UseTree::Glob(_) => {}
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Fn(item) if is_public(&item.vis) => self.signature(&item.sig, ""),
            Item::Struct(item) if is_public(&item.vis) => {
                self.item = item.ident.to_string();
                self.visit_generics(&item.generics);
                item.fields.iter().for_each(|field| self.field(field));
            }
            Item::Enum(item) if is_public(&item.vis) => {
                self.item = item.ident.to_string();
                visit::visit_item_enum(self, item);
            }
            Item::Type(item) if is_public(&item.vis) => {
                self.item = item.ident.to_string();
                visit::visit_item_type(self, item);
            }
            Item::Const(item) if is_public(&item.vis) => {
                self.item = item.ident.to_string();
                self.visit_type(&item.ty);
            }
            Item::Trait(item) if is_public(&item.vis) => {
                let name = item.ident.to_string();
                self.item.clone_from(&name);
                item.supertraits
                    .iter()
                    .for_each(|bound| self.visit_type_param_bound(bound));
                for inner in &item.items {
                    match inner {
                        TraitItem::Fn(inner) => self.signature(&inner.sig, &name),
                        TraitItem::Type(inner) => self.visit_trait_item_type(inner),
                        _ => {}
                    }
                }
            }
            Item::Impl(item) => self.implementation(item),
            Item::Mod(item) => {
                let content = item.content.as_ref().map_or(&[][..], |(_, items)| items);
                if item.ident != "tests" {
                    let mut inner = Scope::new(self.dependencies, self.public);
                    inner.items(content);
                    self.found.append(&mut inner.found);
                }
            }
            _ => {}
        }
    }

    /// Checks the public functions of a public type, and the parameters of the traits that it
    /// implements, such as `From<other::Error>`.
    fn implementation(&mut self, item: &ItemImpl) {
        let Type::Path(of) = &*item.self_ty else {
            return;
        };
        let Some(name) = of.path.segments.last().map(|last| last.ident.to_string()) else {
            return;
        };
        if !self.public.contains(&name) {
            return;
        }
        self.item.clone_from(&name);
        if let Some((of, _)) = &item.trait_ {
            let arguments = of.segments.iter().map(|segment| &segment.arguments);
            arguments.for_each(|arguments| self.visit_path_arguments(arguments));
            return;
        }
        for inner in &item.items {
            match inner {
                ImplItem::Fn(inner) if is_public(&inner.vis) => self.signature(&inner.sig, &name),
                ImplItem::Const(inner) if is_public(&inner.vis) => self.visit_type(&inner.ty),
                _ => {}
            }
        }
    }

    fn signature(&mut self, signature: &Signature, of: &str) {
        let separator = if of.is_empty() { "" } else { "::" };
        self.item = format!("{of}{separator}{}", signature.ident);
        self.visit_signature(signature);
    }

    fn field(&mut self, field: &Field) {
        if is_public(&field.vis) {
            self.visit_type(&field.ty);
        }
    }
}

impl<'ast> Visit<'ast> for Scope<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            let first = first.ident.to_string();
            let root = self.imports.get(&first).unwrap_or(&first);
            if self.dependencies.contains(root) && !ALLOWED.contains(&root.as_str()) {
                self.found.insert((self.item.clone(), root.clone()));
            }
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the items of a crate with one file that show a type of `other` or `third`.
    fn found(text: &str) -> Vec<String> {
        let file = syn::parse_file(text).expect("the source parses");
        let dependencies = ["other", "third", "bytes"].map(str::to_owned).into();
        let public = public_types([&file].into_iter());
        let mut scope = Scope::new(&dependencies, &public);
        scope.items(&file.items);
        let found = scope.found.into_iter();
        found.map(|(item, name)| format!("{item} {name}")).collect()
    }

    #[test]
    fn types_of_other_crates_in_public_signatures_are_found() {
        let text = "
            use other::{Thing, deep::{self, More as Renamed}};
            pub fn a(_: Thing) {}
            pub fn b() -> Option<Vec<Renamed>> { None }
            pub fn c(_: impl Fn(&deep::Most)) {}
            pub struct D { pub thing: third::Thing, hidden: Thing }
            pub enum E { F(Thing) }
            impl D { pub fn new<T: Thing>() -> T {} fn private(_: Thing) {} }
            impl From<Thing> for D { fn from(_: Thing) -> Self {} }
            pub trait G: third::Base { type H: Thing; fn i(&self, _: Thing); }
            pub type J = Thing;
            mod inner { use third::X; pub fn k(_: X) {} }";
        let expected = [
            "D other",
            "D third",
            "D::new other",
            "E other",
            "G other",
            "G third",
            "G::i other",
            "J other",
            "a other",
            "b other",
            "c other",
            "k third",
        ];
        assert_eq!(found(text), expected);
    }

    #[test]
    fn private_items_allowed_crates_and_own_names_are_not_found() {
        let text = "
            use bytes::Bytes;
            use crate::other_things::Thing;
            pub fn a(_: Bytes, _: Thing, _: std::fmt::Error, _: http::Uri) {}
            pub(crate) fn b(_: other::Thing) {}
            struct C { pub thing: other::Thing }
            impl C { pub fn d(_: other::Thing) {} }
            impl From<other::Thing> for C { fn from(_: other::Thing) -> Self {} }
            pub struct E(other::Thing);
            pub fn f() { other::call(); }
            mod tests { pub fn g(_: other::Thing) {} }";
        assert_eq!(found(text), Vec::<String>::new());
    }
}
