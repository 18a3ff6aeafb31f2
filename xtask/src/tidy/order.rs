//! Checks the order of the folders of a crate: each uses only those before it.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles::Uses;

/// For each crate, the module that contains the folders, and the folders and files in it in their
/// order. Those of one line do not use each other. The root of a crate is not in the list.
const ORDERS: &[(&str, &str, &[&[&str]])] = &[
    (
        "oh-protocol",
        "",
        &[
            &["error", "errors", "printable", "redact", "time"],
            &["id", "json", "reason"],
            &["hooks"],
            &["config", "state"],
            &["call", "event"],
            &["calls", "frame"],
        ],
    ),
    (
        "oh-transport",
        "",
        &[
            &["automation", "backoff", "environment", "error", "liveness"],
            &[
                "attempt",
                "auth",
                "capability",
                "errors",
                "net",
                "origin",
                "request_future",
            ],
            &["http"],
            &["fuzzing", "ws"],
            &["client", "network"],
            &["builder", "call", "workspace"],
            &["lease"],
        ],
    ),
    (
        "oh-conversation",
        "",
        &[
            &["error", "limits", "lock"],
            &["client_tools", "mirror", "request"],
            &["link", "read"],
            &["conversation"],
            &["gate"],
            &["run"],
            &["ops"],
            &["start"],
            &["bulk"],
        ],
    ),
    (
        "oh-hooks",
        "",
        &[
            &["error", "input", "json", "pattern", "tools"],
            &["author", "matching", "text", "verdict"],
            &["dry_run", "files", "watch"],
            &["session"],
        ],
    ),
    (
        "oh-testkit",
        "",
        &[
            &["chance", "error", "gate", "seen"],
            &["fault", "http", "mock"],
            &["model"],
            &["fake"],
            &["messages"],
            &["proxy"],
            &["hosted", "kubernetes"],
        ],
    ),
    (
        "oh-testkit",
        "fake",
        &[
            &["wire"],
            &["state"],
            &["agent"],
            &["routes", "sockets"],
            &["serve"],
            &["control", "lifecycle"],
            &["builder"],
        ],
    ),
];

/// Checks the orders of a crate.
pub(super) fn check(package: &str, uses: &Uses, breaches: &mut Vec<String>) {
    for (_, above, order) in ORDERS.iter().filter(|(of, ..)| *of == package) {
        let found = violations(above, order, uses);
        breaches.extend(found.iter().map(|found| format!("{package}: {found}")));
    }
}

fn violations(above: &str, order: &[&[&str]], uses: &Uses) -> Vec<String> {
    let place: BTreeMap<&str, usize> = (0..)
        .zip(order)
        .flat_map(|(place, names)| names.iter().map(move |name| (*name, place)))
        .collect();
    let mut found = BTreeSet::new();
    for (from, used) in uses {
        let Some(folder) = folder(above, from) else {
            continue;
        };
        let Some(at) = place.get(folder) else {
            found.insert(format!(
                "add `{folder}` to ORDERS in xtask/src/tidy/order.rs"
            ));
            continue;
        };
        for (to, names) in used {
            let other = self::folder(above, to);
            let Some(other) = other.filter(|other| *other != folder) else {
                continue;
            };
            if place.get(other).is_some_and(|before| before >= at) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                found.insert(format!(
                    "`{folder}` must not use `{other}`, which is not below it: {from} uses {to} \
                     ({})",
                    names.join(", ")
                ));
            }
        }
    }
    let known = |name: &&&str| {
        !uses
            .keys()
            .any(|module| folder(above, module) == Some(name))
    };
    for name in place.keys().filter(known) {
        found.insert(format!(
            "`{name}` is in ORDERS in xtask/src/tidy/order.rs, but not in the crate"
        ));
    }
    found.into_iter().collect()
}

/// Returns the name of the folder or file below a module that contains another module.
fn folder<'a>(above: &str, module: &'a str) -> Option<&'a str> {
    let rest = match above {
        "" if module == "the root" => return None,
        "" => module,
        above => module.strip_prefix(above)?.strip_prefix("::")?,
    };
    rest.split("::").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(edges: &[(&str, &str)]) -> Uses {
        let mut uses = Uses::new();
        for (from, to) in edges {
            uses.entry((*to).to_owned()).or_default();
            let used = uses.entry((*from).to_owned()).or_default();
            used.insert((*to).to_owned(), ["X".to_owned()].into());
        }
        uses
    }

    #[test]
    fn a_folder_uses_only_those_before_it() {
        let order: &[&[&str]] = &[&["a"], &["b", "c"], &["d"]];
        let fine = [
            ("b::x", "a::y"),
            ("d", "a"),
            ("d", "c"),
            ("b::x", "b::y"),
            ("the root", "d"),
        ];
        assert_eq!(violations("", order, &uses(&fine)), Vec::<String>::new());
        for wrong in [("a::y", "d"), ("b::x", "c"), ("c", "d")] {
            let edges = [&fine[..], &[wrong]].concat();
            let found = violations("", order, &uses(&edges));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].contains(&format!("{} uses {}", wrong.0, wrong.1)),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_order_and_the_folders_have_the_same_names() {
        let found = violations(
            "in",
            &[&["a", "gone"]],
            &uses(&[("in::new::x", "in::a"), ("b", "c")]),
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("`gone`") && found[1].contains("`new`"),
            "{found:?}"
        );
    }
}
