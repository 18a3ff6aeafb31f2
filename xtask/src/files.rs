//! Lists the files of the workspace.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// Returns all files below a directory that have one of the extensions.
pub(crate) fn with_extension(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return files;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            let hidden = name.to_string_lossy().starts_with('.') && name != ".github";
            if name != "target" && !hidden {
                files.extend(with_extension(&path, extensions));
            }
        } else if (path.extension().and_then(OsStr::to_str))
            .is_some_and(|one| extensions.contains(&one))
        {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the Rust files of a package, without those of nested packages.
pub(crate) fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return files;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            // A nested package is checked separately.
            if name != "target" && !path.join("Cargo.toml").exists() {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
