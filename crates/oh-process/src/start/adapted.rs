//! Adapts the values of environment variables to a server. They would otherwise mean something else
//! for the server than for its owner: search paths, certificates and the addresses that bypass
//! proxies.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// Names and values of variables.
pub(crate) type Pairs = Vec<(OsString, OsString)>;

/// Lists of directories that programs and the dynamic linker search. An empty or relative entry
/// names a part of the current directory. For programs that the server runs, this is the workspace.
const SEARCHED: &[&str] = &[
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
];

/// The search path of a server whose owner has none. Without the variable, some shells search the
/// current directory.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Files and directories of trusted certificates. The server runs in another directory than its
/// owner, so a relative path would name another file, which the agent may have written.
const CERTIFICATES: &[&str] = &[
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// Adapts the values that would otherwise mean something else for the server than for its owner:
/// search paths, certificates and the addresses that bypass proxies. Sets a search path and the
/// bypass in any case.
pub(crate) fn sanitized(mut built: Pairs, local: &[String]) -> Pairs {
    if cfg!(unix) && !built.iter().any(|(name, _)| name == "PATH") {
        built.push(("PATH".into(), OsString::new()));
    }
    with_no_proxy(built, local)
}

/// Adapts the variables for a server that already runs, in the same way. They override those that
/// it was started with.
pub(crate) fn adapted_for_activation(variables: Pairs) -> Pairs {
    let is_no_proxy = |(name, _): &(OsString, OsString)| name.eq_ignore_ascii_case("NO_PROXY");
    match variables.iter().any(is_no_proxy) {
        true => with_no_proxy(variables, &[]),
        false => adapted(variables),
    }
}

/// Adapts the variables and sets the hosts that bypass proxies.
fn with_no_proxy(built: Pairs, local: &[String]) -> Pairs {
    let no_proxy = no_proxy(&built, local);
    let mut built = adapted(built);
    for name in ["NO_PROXY", "no_proxy"] {
        built.push((name.into(), no_proxy.clone().into()));
    }
    built
}

/// Returns the variables without relative directories, and without those of proxy exceptions.
fn adapted(mut built: Pairs) -> Pairs {
    for (name, value) in &mut built {
        let name = name.to_string_lossy();
        if SEARCHED.contains(&name.as_ref()) {
            *value = absolute_only(value);
            if cfg!(unix) && name == "PATH" && value.is_empty() {
                *value = DEFAULT_PATH.into();
            }
        } else if CERTIFICATES.contains(&name.as_ref()) {
            *value = made_absolute(value);
        }
    }
    // An empty list of libraries would name the current directory.
    built.retain(|(name, value)| {
        let listed = SEARCHED.iter().any(|searched| name == searched);
        let omitted = listed && value.is_empty();
        !omitted && !name.eq_ignore_ascii_case("NO_PROXY")
    });
    built
}

/// Returns the hosts that bypass proxies: those of the given variables, this machine's loopback
/// addresses, and `local`.
fn no_proxy(built: &Pairs, local: &[String]) -> String {
    let mut hosts: Vec<String> = Vec::new();
    for (name, value) in built {
        if name.eq_ignore_ascii_case("NO_PROXY") {
            let value = value.to_string_lossy();
            hosts.extend(value.split(',').map(|host| host.trim().to_owned()));
        }
    }
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    hosts.extend(loopback.into_iter().chain(local.iter().cloned()));
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| !host.is_empty() && seen.insert(host.clone()));
    hosts.join(",")
}

/// Removes relative and empty entries from a list of directories.
pub(crate) fn absolute_only(list: &OsStr) -> OsString {
    // The dynamic linker also separates entries by semicolons.
    let absolute = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let mut parts = text.split(';').skip(1);
        path.is_absolute() && (cfg!(windows) || parts.all(|part| part.starts_with('/')))
    };
    // Cannot fail: the entries were just separated.
    env::join_paths(env::split_paths(list).filter(absolute)).unwrap_or_default()
}

/// Resolves relative paths in a list against the directory of this process.
fn made_absolute(list: &OsStr) -> OsString {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    env::join_paths(env::split_paths(list).map(absolute)).unwrap_or_else(|_| list.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(name: &str, value: &str) -> Pairs {
        sanitized(vec![(name.into(), value.into())], &[])
    }

    fn value(pairs: &Pairs, name: &str) -> Option<String> {
        let found = pairs.iter().find(|(other, _)| other == name)?;
        Some(found.1.to_string_lossy().into_owned())
    }

    #[test]
    fn a_search_path_holds_absolute_directories_only() {
        let built = built("PATH", ":/usr/bin:.:bin:../up:/bin:");
        assert_eq!(value(&built, "PATH").as_deref(), Some("/usr/bin:/bin"));
    }

    #[test]
    fn a_search_path_without_absolute_directories_is_replaced() {
        for path in ["", ":", ".:bin", "::", "./bin:../up"] {
            let path = value(&built("PATH", path), "PATH");
            assert_eq!(path.as_deref(), Some(DEFAULT_PATH));
        }
        let none = sanitized(Pairs::new(), &[]);
        assert_eq!(value(&none, "PATH").as_deref(), Some(DEFAULT_PATH));
    }

    #[test]
    fn libraries_are_searched_in_absolute_directories_only() {
        for (list, kept) in [
            ("/a:/b", Some("/a:/b")),
            ("/a:", Some("/a")),
            (":/a:.:lib:/b", Some("/a:/b")),
            ("/a;/b:/c;.:/d;:/e", Some("/a;/b:/e")),
            ("", None),
            (".", None),
        ] {
            for name in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
                let found = value(&built(name, list), name);
                assert_eq!(found.as_deref(), kept, "{list}");
            }
        }
    }

    #[test]
    fn relative_paths_of_certificates_name_the_owners_files() {
        let here = env::current_dir().expect("a directory");
        for name in CERTIFICATES {
            let found = value(&built(name, "certs/ca.pem"), name);
            assert_eq!(found, here.join("certs/ca.pem").to_str().map(str::to_owned));
            let found = value(&built(name, "/ca.pem"), name);
            assert_eq!(found.as_deref(), Some("/ca.pem"));
            let found = value(&built(name, ""), name);
            assert_eq!(found.as_deref(), Some(""));
        }
    }
}
