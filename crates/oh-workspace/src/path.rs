//! Paths on the server, which may run another operating system. They are classified and joined by
//! their own form, never by the rules of the local system.

use crate::{Error, Result};

/// Returns whether a path is absolute on any system: `/a`, `C:\a`, `C:/a`, `\\host\a`.
pub(crate) fn is_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    let drive = bytes.len() >= 3
        && bytes[0].is_ascii_alphabetic()
        && bytes[1] == b':'
        && matches!(bytes[2], b'\\' | b'/');
    drive || path.starts_with('/') || path.starts_with(r"\\")
}

/// Returns an absolute path unchanged, and joins a relative one to `directory`. Windows accepts
/// forward slashes too.
pub(crate) fn join(directory: &str, path: &str) -> Result<String> {
    if path.is_empty() {
        return Err(Error::invalid("the path must not be empty"));
    }
    if path.contains('\0') || directory.contains('\0') {
        return Err(Error::invalid("the path must not contain a NUL character"));
    }
    if is_absolute(path) {
        return Ok(path.to_owned());
    }
    if !is_absolute(directory) {
        let context = "the workspace's directory must be an absolute path on the server";
        return Err(Error::invalid(context).at(directory));
    }
    let mut rest = path;
    while let Some(shorter) = rest.strip_prefix("./") {
        rest = shorter;
    }
    if matches!(rest, "." | "") {
        return Ok(directory.to_owned());
    }
    let joint = if directory.ends_with(['/', '\\']) {
        ""
    } else {
        "/"
    };
    Ok(format!("{directory}{joint}{rest}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_by_the_rules_of_the_server() {
        for (directory, path, expected) in [
            ("/w", "a/b", "/w/a/b"),
            ("/", "a", "/a"),
            ("/w/", "./a", "/w/a"),
            ("/w", ".", "/w"),
            ("/w", "./", "/w"),
            ("/w", "/etc/passwd", "/etc/passwd"),
            ("/w", r"C:\x", r"C:\x"),
            (r"C:\w", "a/b", r"C:\w/a/b"),
            (r"C:\w\", "a", r"C:\w\a"),
            (r"\\host\share", "a", r"\\host\share/a"),
            ("D:/w", "a b", "D:/w/a b"),
            // A file name may contain a colon.
            ("/w", "c:a", "/w/c:a"),
            ("", "/a", "/a"),
        ] {
            assert_eq!(
                join(directory, path).unwrap(),
                expected,
                "{directory} {path}"
            );
        }
    }

    #[test]
    fn paths_without_a_directory_are_rejected() {
        for (directory, path) in [
            ("/w", ""),
            ("w", "a"),
            ("", "."),
            ("/w", "a\0"),
            ("/\0", "a"),
        ] {
            let kind = join(directory, path).unwrap_err().kind();
            assert_eq!(kind, crate::ErrorKind::InvalidInput, "{directory} {path}");
        }
    }
}
