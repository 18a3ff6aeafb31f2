//! Which packages an environment gets, and at which versions. Installs nothing.

/// The version of the server that this crate is made for and provisions by default.
pub const SERVER_VERSION: &str = "1.58.0";

/// The versions of the server whose other packages are pinned too, each with its constraints file.
/// `cargo xtask constraints` renews them.
const PINNED: &[(&str, &str)] = &[];

/// The server's own packages at one version, and the bounds that an old version needs.
pub(crate) fn packages(version: &str) -> Vec<String> {
    ["agent-server", "sdk", "tools"]
        .iter()
        .map(|part| format!("openhands-{part}=={version}"))
        .chain(bounds(version).iter().map(|&bound| bound.to_owned()))
        .collect()
}

/// The versions of all other packages that this version of the server was tested with.
pub(crate) fn constraints(version: &str) -> Option<&'static str> {
    let found = PINNED.iter().find(|(pinned, _)| *pinned == version);
    found.map(|(_, constraints)| *constraints)
}

/// Upper bounds that an old version of the server needs and does not state itself.
fn bounds(version: &str) -> &'static [&'static str] {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let release = (numbers.next().flatten(), numbers.next().flatten());
    match release {
        // Until 1.47 its routes pass `lte` to `Query`, which newer versions of fastapi reject.
        (Some(major), Some(minor)) if (major, minor) <= (1, 47) => &["fastapi<0.122"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_up_to_1_47_get_the_fastapi_bound_that_they_need() {
        for (version, bounded) in [
            ("1.40.0", true),
            ("1.43.1", true),
            ("1.45.0", true),
            ("1.47.0", true),
            ("1.48.0", false),
            ("1.58.2", false),
            ("2.0.0", false),
            ("unknown", false),
        ] {
            let found = packages(version).contains(&"fastapi<0.122".to_owned());
            assert_eq!(found, bounded, "{version}");
        }
    }
}
