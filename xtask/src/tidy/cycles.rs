//! Finds cycles among the modules of a crate. A re-exported name counts as a use of the module
//! that defines it, so a `pub use` in `lib.rs` or `mod.rs` neither hides a cycle nor makes one.
//! Only names count: a method whose type is not named leaves no trace.

mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use sources::{Module, Sources};

/// For each module, the modules that it uses, and the names that it uses them by.
pub(super) type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns the uses of the modules of the crate with this root file.
pub(super) fn of_crate(root: &Path) -> Result<Uses, String> {
    sources::read(root).map(|sources| uses(&sources))
}

/// Returns a line for each cycle among modules.
pub(super) fn described(uses: &Uses) -> Vec<String> {
    let cycles = cycles(uses).into_iter();
    cycles.map(|cycle| describe(&cycle, uses)).collect()
}

fn describe(cycle: &BTreeSet<String>, uses: &Uses) -> String {
    let edges: Vec<String> = cycle
        .iter()
        .flat_map(|from| uses[from].iter().map(move |(to, names)| (from, to, names)))
        .filter(|(_, to, _)| cycle.contains(*to))
        .map(|(from, to, names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!("    {from} uses {to} ({})", names.join(", "))
        })
        .collect();
    format!(
        "{} modules form a cycle:\n{}",
        cycle.len(),
        edges.join("\n")
    )
}

/// Groups the modules that reach each other.
fn cycles(uses: &Uses) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = uses
        .keys()
        .map(|module| (module, reached_from(module, uses)))
        .collect();
    let mut cycles: Vec<BTreeSet<String>> = Vec::new();
    for (module, others) in &reached {
        if others.contains(module) && !cycles.iter().any(|cycle| cycle.contains(*module)) {
            let mutual = others
                .iter()
                .filter(|other| reached[*other].contains(module));
            cycles.push(mutual.map(|other| (*other).clone()).collect());
        }
    }
    cycles
}

fn reached_from<'a>(module: &String, uses: &'a Uses) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&String> = uses[module].keys().collect();
    while let Some(next) = waiting.pop() {
        if reached.insert(next) {
            waiting.extend(uses[next].keys());
        }
    }
    reached
}

fn uses(sources: &Sources) -> Uses {
    let mut uses: Uses = sources
        .values()
        .map(|module| (module.name.clone(), BTreeMap::new()))
        .collect();
    for (path, module) in sources {
        let imported = module
            .imports
            .values()
            .filter(|import| !import.public)
            .map(|import| &import.path);
        for name in imported.chain(&module.globs) {
            record(sources, path, name, &mut uses);
        }
        for name in &module.mentions {
            record(sources, path, name, &mut uses);
        }
    }
    uses
}

fn record(sources: &Sources, from: &[String], name: &[String], uses: &mut Uses) {
    let found = resolve(sources, from, name, &mut BTreeSet::new());
    let Some(Found::Item(owner, item)) = found else {
        return;
    };
    let (from, owner) = (&sources[from].name, &owner.name);
    if from != owner {
        let names = uses.entry(from.clone()).or_default();
        names.entry(owner.clone()).or_default().insert(item);
    }
}

enum Found<'a> {
    /// The path names a whole module. That alone is no use of it: what matters are the items that
    /// are reached through it.
    Module,
    /// The path names an item that this module defines, by this name.
    Item(&'a Module, String),
}

/// Follows a path from a module to the module that defines the item.
fn resolve<'a>(
    sources: &'a Sources,
    from: &[String],
    path: &[String],
    followed: &mut BTreeSet<(Vec<String>, String)>,
) -> Option<Found<'a>> {
    let (first, rest) = path.split_first()?;
    let parent = || from.split_last().map(|(_, parent)| parent);
    match first.as_str() {
        "crate" => lookup(sources, &[], rest, followed),
        "self" => lookup(sources, from, rest, followed),
        "super" if rest.first().is_some_and(|next| next == "super") => {
            resolve(sources, parent()?, rest, followed)
        }
        "super" => lookup(sources, parent()?, rest, followed),
        _ => lookup(sources, from, path, followed),
    }
}

fn lookup<'a>(
    sources: &'a Sources,
    at: &[String],
    path: &[String],
    followed: &mut BTreeSet<(Vec<String>, String)>,
) -> Option<Found<'a>> {
    let module = sources.get(at)?;
    let Some((first, rest)) = path.split_first() else {
        return Some(Found::Module);
    };
    if module.defined.contains(first) {
        return Some(Found::Item(module, first.clone()));
    }
    let child = [at, std::slice::from_ref(first)].concat();
    if sources.contains_key(&child) {
        return lookup(sources, &child, rest, followed);
    }
    if !followed.insert((at.to_vec(), first.clone())) {
        return None;
    }
    if let Some(import) = module.imports.get(first) {
        let whole = [import.path.as_slice(), rest].concat();
        return resolve(sources, at, &whole, followed);
    }
    module.globs.iter().find_map(|glob| {
        let whole = [glob.as_slice(), path].concat();
        resolve(sources, at, &whole, followed)
    })
}

#[cfg(test)]
mod tests {
    use super::{cycles, sources, uses};

    /// Returns the cycles of a crate that is given as one file with inline modules.
    fn found(text: &str) -> Vec<Vec<String>> {
        let sources = sources::parse(text).expect("the sources parse");
        cycles(&uses(&sources))
            .into_iter()
            .map(|cycle| cycle.into_iter().collect())
            .collect()
    }

    fn one(modules: &[&str]) -> Vec<Vec<String>> {
        vec![modules.iter().map(|name| (*name).to_owned()).collect()]
    }

    #[test]
    fn two_modules_that_use_each_other_form_a_cycle() {
        let text = "
            mod a { use crate::b::B; pub struct A(B); }
            mod b { pub struct B; fn f() { crate::a::A::new(); } }";
        assert_eq!(found(text), one(&["a", "b"]));
    }

    #[test]
    fn modules_that_use_each_other_in_one_direction_form_none() {
        let text = "
            mod a { use super::{b::B, c::C}; pub struct A(B, C); }
            mod b { use super::c::C; pub struct B(C); }
            mod c { pub struct C; }";
        assert_eq!(found(text), Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_re_export_leads_to_the_module_that_defines_the_name() {
        let text = "
            mod a { use crate::{Renamed, folder}; pub struct A(Renamed, folder::Deep); }
            mod b { pub struct B(crate::A); }
            mod folder { mod deep { use crate::A; pub struct Deep(A); } pub use deep::Deep; }
            pub use {a::A, b::B as Renamed};";
        assert_eq!(found(text), one(&["a", "b", "folder::deep"]));
    }

    #[test]
    fn a_re_export_alone_uses_nothing() {
        let text = "
            mod a { pub mod b { use super::A; pub struct B(A); } pub use b::B; pub struct A; }";
        assert_eq!(found(text), Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_parent_that_uses_a_name_that_it_re_exports_uses_the_child() {
        let text = "
            mod a { pub mod b { use super::A; pub struct B(A); } pub use b::B; pub struct A;
                    fn f(_: B) {} }";
        assert_eq!(found(text), one(&["a", "a::b"]));
    }

    #[test]
    fn a_glob_import_uses_the_modules_whose_names_appear() {
        let text = "
            mod a { use crate::api::*; pub struct A(B); }
            mod api { pub use crate::{b::B, c::C}; }
            mod b { pub struct B(crate::a::A); }
            mod c { pub struct C(crate::a::A); }";
        assert_eq!(found(text), one(&["a", "b"]));
    }

    #[test]
    fn a_path_within_a_macro_counts() {
        let text = "
            mod a { macro_rules! make { () => { $crate::b::B } } pub(crate) use make;
                    pub struct A; }
            mod b { pub struct B; fn f() { println!(\"{}\", super::a::A::new()); } }";
        assert_eq!(found(text), one(&["a", "b"]));
    }

    #[test]
    fn a_type_that_a_macro_declares_belongs_to_the_module_of_the_macro() {
        let text = "
            mod a { macro_rules! make { () => { pub enum A { B(crate::b::B) } } } make!(); }
            mod b { make! { pub struct B { a: crate::A } } }
            pub use a::*;";
        assert_eq!(found(text), one(&["a", "b"]));
    }

    #[test]
    fn an_alias_of_a_module_leads_to_the_items_used_through_it() {
        let text = "
            mod a { use crate::b as other; fn f() { other::deep::go(); } pub struct A; }
            mod b { pub mod deep { pub fn go(_: crate::a::A) {} } pub struct B(crate::a::A); }";
        assert_eq!(found(text), one(&["a", "b::deep"]));
    }

    #[test]
    fn code_that_only_tests_compile_does_not_count() {
        let text = "
            mod a { pub struct A; #[cfg(test)] mod tests { use crate::b::B; fn f(_: B) {} }
                    #[cfg(test)] fn g(_: crate::b::B) {} }
            mod b { pub struct B(crate::a::A); }";
        assert_eq!(found(text), Vec::<Vec<String>>::new());
    }

    #[test]
    fn names_that_are_no_items_of_the_crate_do_not_count() {
        let text = "
            mod a { use std::fmt; pub struct A; fn f(b: A) { let run = b.run(); fmt::x(run); } }
            mod b { pub fn run(_: crate::a::A) {} }
            pub(crate) use b::run;";
        assert_eq!(found(text), Vec::<Vec<String>>::new());
    }
}
