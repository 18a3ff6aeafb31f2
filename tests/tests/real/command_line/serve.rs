//! Servers that `oh serve` runs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use openhands::testkit::{Script, ScriptedModel};

use super::{LONG, oh};

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_server_is_used_by_its_file_and_ends_with_it() {
    let home = openhands_tests::home();
    let model = ScriptedModel::builder()
        .script(Script::new())
        .start()
        .await
        .unwrap();
    let (file, work) = (home.path().join("server.json"), home.path().join("work"));
    let serve = |options: &[&str]| {
        let mut command = oh(home.path(), &model);
        command.args(["serve", "--detach", "server.json"]);
        command.args(options).current_dir(home.path());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    // The address must be allowed.
    let (code, _, errors) = serve(&["--host", "0.0.0.0"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("0.0.0.0") && !file.exists(), "{errors}");

    let (code, text, errors) = serve(&["--dir", "work", "--state-dir", "state-of-it"]);
    assert_eq!((code, &*text), (Some(0), "server.json\n"), "{errors}");
    assert!(work.is_dir(), "{errors}");
    let on_it = |arguments: &[&str]| {
        let mut command = oh(home.path(), &model);
        command.args(arguments).args(["--server", "server.json"]);
        let output = command.current_dir(home.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    on_it(&["profiles", "set", "default"]);
    assert!(on_it(&["profiles", "ls"]).contains("default"));
    let (code, _, errors) = serve(&[]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("server.json exists"), "{errors}");

    // The state is free as soon as the server has ended.
    fs::remove_file(&file).unwrap();
    let lock = fs::File::open(home.path().join("state-of-it/lock")).unwrap();
    let freed = async {
        while lock.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, freed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_server_prints_its_key_and_ends_with_a_signal() {
    let home = openhands_tests::home();
    let model = ScriptedModel::builder()
        .script(Script::new())
        .start()
        .await
        .unwrap();
    let mut command = oh(home.path(), &model);
    let mut child = command.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let (url, key) = (line(), line());
    let mut list = oh(home.path(), &model);
    list.env("SESSION_API_KEY", &key);
    let list = list
        .args(["secrets", "ls", "--server", &url])
        .output()
        .unwrap();
    assert!(list.status.success(), "{list:?}");
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
