//! `oh doctor --full`, which starts a server.

use std::{env, fs, path::Path, path::PathBuf};

use openhands::testkit::{Script, ScriptedModel};

use super::oh;

/// Returns the directory with the installed servers.
fn cache() -> PathBuf {
    let set = |name| env::var_os(name).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("OPENHANDS_CACHE_DIR").unwrap_or_else(|| cache.unwrap().join("openhands-rs"))
}

/// Runs `oh doctor --full` in this home. Returns its exit code, its output and its errors.
fn doctor(home: &Path, model: &ScriptedModel) -> (Option<i32>, String, String) {
    let mut command = oh(home, model);
    command
        .args(["doctor", "--full"])
        .env("OPENHANDS_CACHE_DIR", cache())
        .env("HOME", home.join("me"))
        .env("TMPDIR", home.join("tmp"));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn server_shell_and_model_are_tried_and_leave_nothing() {
    let script = Script::new().forever(|script| script.text("Hello."));
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let (me, tmp) = (home.path().join("me"), home.path().join("tmp"));
    fs::create_dir(&me).unwrap();
    fs::create_dir(&tmp).unwrap();
    fs::write(me.join(".bashrc"), "sleep 2\n").unwrap();
    let (code, shown, errors) = doctor(home.path(), &model);
    assert_eq!(code, Some(3), "{errors}");
    for expected in [
        "command: works",
        "model: openai/scripted works",
        "ready after",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
    assert!(errors.contains("your shell needs 2."), "{errors}");
    assert!(!shown.contains("canary") && !errors.contains("canary"));
    assert_eq!(model.requests().len(), 1);
    let names = |path: &Path| {
        let entries = path.read_dir().unwrap().flatten();
        entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&me), [".bashrc"]);
    assert_eq!(names(&tmp), [""; 0]);
    assert!(!home.path().join("state").exists());
}
