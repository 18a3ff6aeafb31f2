//! `oh doctor` on machines without some of the programs.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tempfile::TempDir;

/// Creates a machine with these programs and nothing else.
fn machine(programs: &[(&str, &str)]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("bin")).unwrap();
    for (name, text) in programs {
        let path = place.path().join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    place
}

/// Runs `oh doctor` there; returns whether it succeeds, its output and its errors.
fn doctor(place: &Path) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oh"))
        .arg("doctor")
        .env_clear()
        .env("PATH", place.join("bin"))
        .env("HOME", place)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn doctor_fails_without_python_and_names_a_remedy() {
    let place = machine(&[]);
    let (success, _, errors) = doctor(place.path());
    assert!(!success);
    assert!(errors.contains("no Python 3.12 or newer"), "{errors}");
    assert!(errors.contains("oh provision"), "{errors}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "only bin");
}

#[test]
fn a_broken_pyenv_shim_is_explained() {
    let shim = "#!/bin/sh\necho \"pyenv: python3: command not found\" >&2\necho >&2\n\
                echo \"Note: See 'pyenv help global' for tips\" >&2\nexit 127\n";
    let place = machine(&[("python3", shim)]);
    let (success, output, errors) = doctor(place.path());
    assert!(!success);
    assert!(
        output.contains("a pyenv shim for which no version is selected"),
        "{output}"
    );
    assert!(output.contains("pyenv global"), "{output}");
    assert!(errors.contains("no Python 3.12 or newer"), "{errors}");
}

#[test]
fn a_suitable_python_or_uv_is_enough() {
    let python = "#!/bin/sh\necho '{\"version\": [3, 13, 1], \"executable\": \"/p\", \
                  \"venv\": true, \"server\": null, \"missing\": []}'\n";
    for (name, text) in [("python3", python), ("uv", "#!/bin/sh\n")] {
        let place = machine(&[(name, text)]);
        let (success, output, errors) = doctor(place.path());
        assert!(success, "{name}: {output}{errors}");
    }
}

#[test]
fn an_unusable_environment_is_reported_as_a_problem() {
    let place = machine(&[("uv", "#!/bin/sh\n")]);
    let environment = place.path().join(".cache/openhands-rs/server-1.58.2");
    fs::create_dir_all(environment.join("bin")).unwrap();
    fs::write(environment.join("openhands-rs.complete"), "").unwrap();
    let (success, output, errors) = doctor(place.path());
    assert!(!success);
    assert!(output.contains("is missing"), "{output}");
    assert!(errors.contains("cannot be used"), "{errors}");
}
