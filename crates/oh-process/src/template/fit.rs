//! Decides whether a server can be forked from a template, by comparing their variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::Path,
};

/// Variables whose values a template has fixed.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// Names of the variables that were read while the modules were imported.
    pub(crate) read: BTreeSet<String>,
    /// Names of variables that hold directories. Each server gets its own directories, even where a
    /// module has kept the template's.
    pub(crate) places: BTreeSet<String>,
}

/// Prefixes of variables that are read at import without the template noticing: by the interpreter,
/// by C libraries or by iterating over all variables.
const READ_UNSEEN: &[&str] = &[
    "LC_",
    "LANG",
    "LD_",
    "GLIBC_",
    "MALLOC_",
    "OPENSSL_",
    "SSL_CERT_",
    "FASTMCP_",
    "MCP_",
    "DOCKET_",
    "LITELLM_",
    "OTEL_",
];

impl Fixed {
    /// Returns why a server with these variables cannot be forked, or `None`.
    pub(crate) fn refusal(&self, wanted: &[(OsString, OsString)]) -> Option<String> {
        let wanted: BTreeMap<&OsStr, &OsStr> = wanted
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
            .collect();
        let names = self.variables.keys().map(OsString::as_os_str);
        let names: BTreeSet<&OsStr> = names.chain(wanted.keys().copied()).collect();
        for name in names {
            let theirs = wanted.get(name).copied();
            let shown = name.to_string_lossy();
            if self.places.contains(shown.as_ref()) {
                if !theirs.is_some_and(|value| Path::new(value).is_absolute()) {
                    return Some(format!(
                        "environment variable {shown} must be an absolute path"
                    ));
                }
            } else if theirs != self.variables.get(name).map(OsString::as_os_str)
                && self.reads(&shown)
            {
                return Some(format!(
                    "environment variable {shown} is read when the server's modules are imported, \
                     and the template has another value; set the variable on the template"
                ));
            }
        }
        None
    }

    fn reads(&self, name: &str) -> bool {
        read_at_import(name, &self.read)
    }
}

/// Returns whether a variable is read at import: one of those noted, or one that is read unseen.
pub(crate) fn read_at_import(name: &str, noted: &BTreeSet<String>) -> bool {
    noted.contains(name) || READ_UNSEEN.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Fixed {
        Fixed {
            variables: [("LOG_LEVEL", "INFO"), ("HOME", "/t/home"), ("TAG", "t")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            read: ["LOG_LEVEL", "HOME", "CI"].map(str::to_owned).into(),
            places: ["HOME".to_owned()].into(),
        }
    }

    fn refusal(wanted: &[(&str, &str)]) -> Option<String> {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        fixed().refusal(&wanted)
    }

    #[test]
    fn variables_that_nothing_reads_at_import_and_places_may_differ() {
        let wanted = [("LOG_LEVEL", "INFO"), ("HOME", "/s/home"), ("PROJECT", "x")];
        assert_eq!(refusal(&wanted), None);
    }

    #[test]
    fn a_variable_that_is_read_at_import_must_be_the_templates() {
        for (name, value) in [
            ("LOG_LEVEL", "DEBUG"),
            ("CI", "1"),
            ("LITELLM_LOG", "DEBUG"),
            ("LC_ALL", "de_DE.UTF-8"),
        ] {
            let reason = refusal(&[("HOME", "/s"), ("LOG_LEVEL", "INFO"), (name, value)]);
            let reason = reason.expect(name);
            assert!(reason.contains(name), "{reason}");
        }
        // A missing variable is a different value, too.
        let reason = refusal(&[("HOME", "/s")]).expect("no level");
        assert!(reason.contains("LOG_LEVEL"), "{reason}");
    }

    #[test]
    fn a_home_must_be_an_absolute_path() {
        for wanted in [
            &[("LOG_LEVEL", "INFO")][..],
            &[("LOG_LEVEL", "INFO"), ("HOME", "")],
            &[("LOG_LEVEL", "INFO"), ("HOME", "home")],
        ] {
            let reason = refusal(wanted).expect("no home");
            assert!(reason.contains("HOME"), "{reason}");
        }
    }
}
