//! Commands and files on a server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use openhands::{
    LocalServer,
    secrecy::ExposeSecret as _,
    testkit::{Script, ScriptedModel},
};

use openhands_tests::containers::eventually;

use super::{LONG, Running, oh, on};

/// Creates a command for this server.
fn at(home: &Path, model: &ScriptedModel, server: &LocalServer, verb: &str) -> Command {
    let mut command = oh(home, model);
    command
        .env("SESSION_API_KEY", server.session_api_key().expose_secret())
        .args([verb, "--server", server.url().as_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_shows_its_output_at_once_and_returns_its_exit_code() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let model = ScriptedModel::builder().start().await.unwrap();
    let work = server.workspace_dir().to_owned();
    let exec = |options: &[&str], words: &[&str]| {
        let mut command = at(home.path(), &model, &server, "exec");
        command
            .arg("--dir")
            .arg(&work)
            .args(options)
            .arg("--")
            .args(words);
        command
    };
    let run = |options: &[&str], words: &[&str]| ended(&exec(options, words).output().unwrap());
    let line = "printf 'a\\377b'; echo err >&2; pwd >pwd; exit 7";
    let output = exec(&[], &[line]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"a\xffb"[..], &b"err\n"[..])
    );
    let pwd = fs::read_to_string(work.join("pwd")).unwrap();
    assert_eq!(
        fs::canonicalize(pwd.trim()).unwrap(),
        fs::canonicalize(&work).unwrap()
    );
    let (code, words, errors) = run(&[], &["printf", "%s|", "a", "b  c", "$HOME"]);
    assert_eq!((code, &*words), (Some(0), "a|b  c|$HOME|"), "{errors}");
    assert_eq!(run(&[], &["kill -9 $$"]).0, Some(137));
    let (code, _, errors) = run(&["--timeout", "1"], &["sleep 60"]);
    assert_eq!(code, Some(124), "{errors}");
    assert!(errors.contains("1 s"), "{errors}");

    // The command waits until its first line has been read here.
    let mut child = exec(&[], &["mkfifo go; echo one; read _ <go; echo two"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    fs::write(work.join("go"), "\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert!(child.wait().unwrap().success());

    // Ctrl-C stops the command there, and a closed output does the same without a message.
    let wait = "trap 'touch stopped; exit' TERM; echo on; sleep 1000 & while :; do wait; done";
    let mut child = exec(&[], &[wait]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "on");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(work.join("stopped").exists());
    fs::remove_file(work.join("stopped")).unwrap();
    let lines = "trap 'touch stopped; exit' TERM; while :; do echo x; sleep 0.05; done";
    let mut child = exec(&[], &[lines]).spawn().unwrap();
    drop(child.stdout.take());
    let (code, _, errors) = ended(&child.wait_with_output().unwrap());
    assert_eq!((code, &*errors), (Some(0), ""));
    assert!(work.join("stopped").exists());

    let mut gone = at(home.path(), &model, &server, "exec");
    let (code, _, errors) = ended(
        &gone
            .args(["--dir", "/gone", "--", "true"])
            .output()
            .unwrap(),
    );
    assert_eq!(code, Some(3), "{errors}");
    let mut wrong = exec(&[], &["true"]);
    let (code, _, errors) = ended(&wrong.env("SESSION_API_KEY", "wrong").output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    server.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_whole_or_not_at_all() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let builder = ScriptedModel::builder().script(Script::new().finish("Done."));
    let model = builder.start().await.unwrap();
    let mut command = oh(home.path(), &model);
    let running = Running::start(on(&mut command, &server, "Do nothing."));
    let id = running.line("started")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(running.end().0, 0);
    let (work, here) = (server.workspace_dir(), home.path().join("here"));
    fs::create_dir_all(&here).unwrap();
    fs::create_dir(work.join("sub dir")).unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(here.join("big file"), &content).unwrap();
    let there = |path: &str| format!("{}:{path}", &id[..8]);
    let cp = |from: &str, to: &str| {
        let mut command = at(home.path(), &model, &server, "cp");
        ended(
            &command
                .current_dir(&here)
                .args([from, to])
                .output()
                .unwrap(),
        )
    };
    let copied = |from: &str, to: &str| {
        let (code, out, errors) = cp(from, to);
        assert_eq!((code, &*out, &*errors), (Some(0), "", ""), "{from} {to}");
    };
    copied("big file", &there(""));
    copied("big file", &there("sub dir"));
    copied("./big file", &there("-it's"));
    for path in ["big file", "sub dir/big file", "-it's"] {
        assert!(fs::read(work.join(path)).unwrap() == content, "{path}");
    }
    copied(&there("sub dir/big file"), "copy");
    copied(&there("-it's"), ".");
    let absolute = format!("server:{}", work.join("-it's").display());
    copied(&absolute, "new/third");
    for path in ["copy", "-it's", "new/third"] {
        assert!(fs::read(here.join(path)).unwrap() == content, "{path}");
    }
    fs::write(work.join("text"), "text\n").unwrap();
    assert_eq!(cp(&there("text"), "-").1, "text\n");

    // What fails changes nothing.
    fs::write(here.join("kept"), "kept").unwrap();
    fs::write(work.join("kept"), "kept").unwrap();
    for (from, to, expected) in [
        (there("gone"), "kept".to_owned(), 3),
        (there("sub dir"), "kept".to_owned(), 2),
        ("gone".to_owned(), there("kept"), 3),
        ("new".to_owned(), there("kept"), 2),
        ("kept".to_owned(), there("kept/under"), 3),
        ("kept".to_owned(), "copy".to_owned(), 2),
        (there("kept"), there("other"), 2),
        ("ffffffff:kept".to_owned(), "kept".to_owned(), 2),
    ] {
        let (code, _, errors) = cp(&from, &to);
        assert_eq!(code, Some(expected), "{from} {to}: {errors}");
        assert!(errors.starts_with("oh: "), "{errors}");
    }
    assert_eq!(fs::read_to_string(here.join("kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(work.join("kept")).unwrap(), "kept");
    assert_eq!(incomplete(work), [""; 0]);

    let mut exec = at(home.path(), &model, &server, "exec");
    let output = exec
        .args(["--in", &id, "--dir", "sub dir", "--", "ls"])
        .output()
        .unwrap();
    assert_eq!(ended(&output).1, "big file\n");
    server.shutdown(LONG).await.unwrap();
}

/// Returns the names of the files that `oh cp` has not renamed yet.
fn incomplete(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.contains(".oh-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_leaves_the_target_and_nothing_else() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let model = ScriptedModel::builder().start().await.unwrap();
    let (work, source) = (server.workspace_dir(), home.path().join("large"));
    let target = work.join("target");
    fs::write(&target, "kept").unwrap();
    fs::File::create(&source)
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let there = format!("server:{}", target.display());
    let cp = |from: &str, to: &str| {
        let mut command = at(home.path(), &model, &server, "cp");
        command.args([from, to]).stdin(Stdio::piped());
        command.spawn().unwrap()
    };
    let interrupted = |child: Child| {
        signal(&child, "INT");
        let (code, _, errors) = ended(&child.wait_with_output().unwrap());
        assert_eq!((code, &*errors), (Some(130), ""));
        assert_eq!(incomplete(work), [""; 0]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    };

    // The server has received the file, and writes it.
    let child = cp(source.to_str().unwrap(), &there);
    eventually("the server writes the file", || {
        !incomplete(work).is_empty()
    });
    interrupted(child);

    // The source has not ended.
    let mut child = cp("-", &there);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![b'a'; 2 << 20]).unwrap();
    interrupted(child);
    drop(stdin);

    // A download.
    fs::rename(&source, work.join("large")).unwrap();
    let here = home.path().join("here");
    fs::create_dir(&here).unwrap();
    let from = format!("server:{}", work.join("large").display());
    let child = cp(&from, here.join("copy").to_str().unwrap());
    eventually("the download begins", || {
        here.read_dir().unwrap().count() > 0
    });
    interrupted(child);
    assert_eq!(here.read_dir().unwrap().count(), 0);
    server.shutdown(LONG).await.unwrap();
}
