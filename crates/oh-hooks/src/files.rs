//! Loading, saving and discovery of `hooks.json` files.

use std::{
    env, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use oh_protocol::hooks::HookConfig;

use crate::{Error, ErrorKind, Result, matching, text};

/// Parses a configuration from the text of a `hooks.json` file.
///
/// Keys may be spelt `PreToolUse` or `pre_tool_use`, and all of them may be nested in
/// `{"hooks": …}`. This function accepts and rejects the same files as the server. Keys that the
/// server ignores, such as a `description` next to `hooks` or a misspelt key of a hook, are not
/// sent. [`lint`](crate::lint) lists these keys, because a misspelled key disables the hook.
///
/// # Errors
///
/// Returns [`ErrorKind::Decode`] for invalid JSON, with line and column. Also returns it, with the
/// path of the key, for unknown events, values of the wrong type and hooks that break the server's
/// rules.
pub fn parse(text: &str) -> Result<HookConfig> {
    text::read(text).map_err(|error| Error::new(ErrorKind::Decode, error, None))
}

/// Loads a configuration from a file.
///
/// # Errors
///
/// Returns [`ErrorKind::Io`] if the file cannot be read. Otherwise returns the errors of [`parse`],
/// prefixed with the file's path.
pub fn load(path: impl AsRef<Path>) -> Result<HookConfig> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).map_err(|error| cannot("read", path, error))?;
    parse(&text).map_err(|error| {
        // An error of the whole file names the file, which the path does already.
        let reason = error.to_string();
        let reason = reason.strip_prefix("hooks.json: ").unwrap_or(&reason);
        Error::new(error.kind(), format!("{}: {reason}", path.display()), None)
    })
}

/// Writes a configuration to a file and creates the parent directory if it does not exist.
///
/// The file is replaced atomically: a reader sees either the old or the new content, even with
/// concurrent writers or after a power failure. The file keeps its permissions. If the path is a
/// symbolic link, the file that the link points to is replaced.
///
/// # Errors
///
/// Before anything is written, returns the errors of [`check`](crate::check), and
/// [`ErrorKind::InvalidInput`] for a configuration that [`load`] would reject, such as one with
/// events of a newer server. Returns [`ErrorKind::Io`] if the file cannot be written; in that case
/// the old content is left unchanged.
pub fn save(config: &HookConfig, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    matching::check(config)?;
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| {
        let message = "this configuration cannot be stored in hooks.json";
        Error::new(ErrorKind::InvalidInput, message, Some(source))
    };
    let mut text =
        serde_json::to_string_pretty(config).map_err(|error| unreadable(error.into()))?;
    text.push('\n');
    if let Err(error) = parse(&text) {
        return Err(unreadable(error.into()));
    }
    // A file that does not exist cannot be canonicalized.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(|error| cannot("make", directory, error))?;
    replace(&target, directory, &text).map_err(|error| cannot("write", path, error))
}

fn replace(target: &Path, directory: &Path, text: &str) -> io::Result<()> {
    let mut beside = tempfile::Builder::new();
    beside.prefix(".hooks").suffix(".json");
    // Temporary files are readable only by their owner by default.
    #[cfg(unix)]
    beside.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut beside = beside.tempfile_in(directory)?;
    beside.write_all(text.as_bytes())?;
    if let Ok(found) = fs::metadata(target) {
        beside.as_file().set_permissions(found.permissions())?;
    }
    beside.as_file().sync_all()?;
    beside.persist(target)?;
    Ok(())
}

/// Returns the configuration file that the server's own tools would use for a project.
///
/// The project's file is `.openhands/hooks.json` in its directory. If it does not exist, the user's
/// file is used: `hooks.json` in `$OH_PERSISTENCE_DIR` or else in `~/.openhands`. The two files are
/// not merged. Returns `None` if neither exists.
///
/// The server loads neither file by itself: pass the loaded configuration to the conversation. If
/// the project is on the server, use
/// [`calls::hooks::Discover`](oh_protocol::calls::hooks::Discover), which finds the project's file
/// only.
pub fn discover(project: impl AsRef<Path>) -> Option<PathBuf> {
    let persistence = env::var_os("OH_PERSISTENCE_DIR").map(PathBuf::from);
    discover_in(project.as_ref(), persistence, env::home_dir())
}

fn discover_in(
    project: &Path,
    persistence: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    let user = match persistence.filter(|path| path != Path::new("")) {
        Some(path) => match (path.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(path),
        },
        None => home.map(|home| home.join(".openhands")),
    };
    [Some(project.join(".openhands")), user]
        .into_iter()
        .flatten()
        .map(|directory| directory.join("hooks.json"))
        .find(|path| path.exists())
}

fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {verb} {}", path.display());
    Error::io(message, error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oh_protocol::hooks::{Hook, HookMatcher};

    use super::*;

    #[test]
    fn errors_about_a_file_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hooks.json");
        fs::write(
            &path,
            "{\n\"stop\": [{\"hooks\": [{\"type\": \"prompt\"}]}]}",
        )
        .unwrap();
        let error = load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        let message = error.to_string();
        assert!(
            message.contains("hooks.json: stop[0].hooks[0]: a prompt hook must have"),
            "{message}"
        );
        let none = load(directory.path().join("none")).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Io);
    }

    #[test]
    fn the_message_has_the_reason_once() {
        use std::error::Error as _;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("no\u{1b}[2Jne");
        let error = load(&path).unwrap_err();
        let cause = error.source().unwrap().to_string();
        let shown = error.to_string();
        let place = directory.path().display();
        assert_eq!(
            shown,
            format!("cannot read {place}/no\u{241b}[2Jne: {cause}")
        );
        assert!(format!("{error:?}").contains("No such file"), "{error:?}");
        let newer = r#"{"pre_compact": [{"matcher": "*"}]}"#;
        let newer: HookConfig = serde_json::from_str(newer).unwrap();
        let error = save(&newer, &path).unwrap_err();
        let cause = error.source().unwrap().to_string();
        let shown = error.to_string();
        assert!(
            shown.contains("cannot be stored in hooks.json: "),
            "{shown}"
        );
        assert_eq!(shown.matches(&cause).count(), 1, "{shown}");
        assert_eq!(shown.matches("`pre_compact`").count(), 1, "{shown}");
    }

    #[test]
    fn a_saved_file_is_found_and_loaded_again() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |root: &Path| root.join(".openhands/hooks.json");
        let find = || discover_in(project.path(), None, Some(home.path().to_owned()));
        assert_eq!(find(), None);
        let config = HookConfig::new()
            .stop(Hook::prompt("no").name("n"))
            .stop(Hook::agent("judge").tool("terminal").max_iterations(7))
            .pre_tool_use(
                HookMatcher::regex("a|b").hook(
                    Hook::command("x")
                        .detached()
                        .timeout(Duration::from_secs(1)),
                ),
            );
        save(&config, of(home.path())).unwrap();
        assert_eq!(find(), Some(of(home.path())));
        save(&config, of(project.path())).unwrap();
        assert_eq!(find(), Some(of(project.path())));
        assert_eq!(load(find().unwrap()).unwrap(), config);
    }

    #[test]
    fn the_users_file_is_in_the_servers_directory_for_users() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = home.path().join("kept");
        let config = HookConfig::new().stop(Hook::command("x"));
        save(&config, home.path().join(".openhands/hooks.json")).unwrap();
        save(&config, kept.join("hooks.json")).unwrap();
        let find = |persistence: &str| {
            let persistence = Some(PathBuf::from(persistence));
            discover_in(project.path(), persistence, Some(home.path().to_owned()))
        };
        assert_eq!(find(kept.to_str().unwrap()), Some(kept.join("hooks.json")));
        assert_eq!(find("~/kept"), Some(kept.join("hooks.json")));
        assert_eq!(find(""), Some(home.path().join(".openhands/hooks.json")));
        assert_eq!(find("/no/such/place"), None);
    }

    #[test]
    fn a_rejected_save_leaves_the_file_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hooks.json");
        let good = HookConfig::new().stop(Hook::command("x"));
        save(&good, &path).unwrap();
        let newer = r#"{"pre_compact": [{"matcher": "*"}]}"#;
        let newer: HookConfig = serde_json::from_str(newer).unwrap();
        for bad in [HookConfig::new().stop(Hook::command("")), newer] {
            assert_eq!(
                save(&bad, &path).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        }
        assert_eq!(load(&path).unwrap(), good);
        let none = directory.path().join("hooks.json/none");
        assert_eq!(save(&good, none).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reader_always_sees_a_complete_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hooks.json");
        let of = |count: usize| {
            (0..count).fold(HookConfig::new(), |all, n| {
                all.stop(Hook::command(format!("c{n}")))
            })
        };
        save(&of(1), &path).unwrap();
        std::thread::scope(|scope| {
            for count in [1, 50, 500] {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..40 {
                        save(&of(count), path).unwrap();
                    }
                });
            }
            for _ in 0..200 {
                let count = load(&path).unwrap().iter().count();
                assert!([1, 50, 500].contains(&count), "{count}");
            }
        });
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_are_kept() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (
            directory.path().join("real.json"),
            directory.path().join("link"),
        );
        fs::write(&file, "{}").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let config = HookConfig::new().stop(Hook::command("x"));
        save(&config, &link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(load(&file).unwrap(), config);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o640);
        let fresh = directory.path().join("fresh.json");
        save(&config, &fresh).unwrap();
        let plain = directory.path().join("plain");
        fs::write(&plain, "").unwrap();
        assert_eq!(mode(&fresh), mode(&plain), "what any new file gets here");
    }
}
