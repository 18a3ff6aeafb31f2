//! `oh completions` and `oh man`, for the whole command line.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{fs, process::Command};

/// Runs `oh`; returns its exit code, its output and its errors.
fn oh(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oh"));
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn completions_know_every_verb() {
    let (_, help, _) = oh(&["--help"]);
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs: Vec<_> = verbs
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(verbs.len() > 10, "{help}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, errors) = oh(&["completions", shell]);
        assert_eq!(code, Some(0), "{errors}");
        for verb in &verbs {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
    assert_eq!(oh(&["completions", "sh"]).0, Some(2));
}

#[test]
fn man_prints_a_page_or_writes_all_pages() {
    let (code, page, errors) = oh(&["man"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(page.contains(".TH oh 1") && page.contains("130"), "{page}");
    let place = tempfile::tempdir().unwrap();
    let pages = place.path().join("share/man1");
    let (code, output, errors) = oh(&["man", pages.to_str().unwrap()]);
    assert_eq!((code, &*output), (Some(0), ""), "{errors}");
    assert_eq!(fs::read_to_string(pages.join("oh.1")).unwrap(), page);
    let run = fs::read_to_string(pages.join("oh-run.1")).unwrap();
    assert!(run.contains("output\\-dir"), "{run}");
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, errors) = oh(&["man", file.to_str().unwrap()]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("file"), "{errors}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_oh"));
    let command = command.args(["completions", "bash"]).stdout(full.unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("cannot write the output"), "{errors}");
}
