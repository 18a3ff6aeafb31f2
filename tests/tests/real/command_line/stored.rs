//! Models, secrets and MCP servers that a server stores.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use openhands::{
    LocalServer,
    admin::Admin,
    secrecy::ExposeSecret as _,
    testkit::{Script, ScriptedModel},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::oh;

/// A server, and how `oh` is run on it.
struct Stage {
    home: TempDir,
    server: LocalServer,
    model: ScriptedModel,
}

impl Stage {
    async fn new() -> Self {
        let home = openhands_tests::home();
        let server = openhands_tests::server(&home).start().await.unwrap();
        let script = Script::new().forever(|script| script.text("Hello."));
        let model = ScriptedModel::builder().script(script).start().await;
        Self {
            home,
            server,
            model: model.unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = oh(self.home.path(), &self.model);
        let key = self.server.session_api_key().expose_secret();
        command.env("SESSION_API_KEY", key);
        // Before the command of an MCP server.
        let (ours, rest) = match arguments.iter().position(|argument| *argument == "--") {
            Some(place) => arguments.split_at(place),
            None => (arguments, &[][..]),
        };
        let command_of = &mut command;
        command_of
            .args(ours)
            .args(["--server", self.server.url().as_str()])
            .args(rest);
        command
    }

    /// Runs `oh` with this stdin; returns its exit code, its output and its errors.
    fn run(&self, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The command may have ended already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(
            !out.contains("canary") && !errors.contains("canary"),
            "{out}{errors}"
        );
        (output.status.code(), out, errors)
    }

    /// Runs `oh`, which must succeed; returns its output.
    fn output(&self, arguments: &[&str]) -> String {
        let (code, output, errors) = self.run(arguments, "");
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        output
    }

    /// Runs `oh`, which must fail with code 3; returns its errors.
    fn rejected(&self, arguments: &[&str]) -> String {
        let (code, output, errors) = self.run(arguments, "");
        assert_eq!((code, &*output), (Some(3), ""), "{arguments:?}: {errors}");
        errors
    }

    fn admin(&self) -> Admin {
        Admin::of(self.server.client())
    }
}

/// Returns the objects of a list.
fn rows(lines: &str) -> Vec<Value> {
    let row = |line| serde_json::from_str(line).unwrap();
    lines.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_stored_shown_and_removed() {
    let stage = Stage::new().await;
    assert_eq!(stage.output(&["profiles", "ls"]), "");
    stage.output(&["profiles", "set", "default", "--check", "--activate"]);
    assert_eq!(stage.model.requests().len(), 1, "the model was tried");
    stage.output(&["profiles", "set", "other", "--model", "openai/other"]);
    let listed = rows(&stage.output(&["profiles", "ls", "--json"]));
    let expected = json!({"name": "default", "model": ScriptedModel::MODEL, "key": true,
        "base_url": stage.model.base_url(), "active": true});
    assert!(listed.contains(&expected), "{listed:?}");
    assert_eq!(listed.len(), 2);
    let shown = stage.output(&["profiles", "ls"]);
    assert!(
        shown.contains("* default") && shown.contains("  other"),
        "{shown}"
    );
    let shown: Value = serde_json::from_str(&stage.output(&["profiles", "show", "other"])).unwrap();
    assert_eq!(shown["model"], "openai/other");

    stage.output(&["profiles", "use", "other"]);
    let active = stage.admin().profiles().list().await.unwrap();
    assert_eq!(active.active_profile.as_deref(), Some("other"));
    stage.output(&["profiles", "rm", "default"]);
    for verb in ["rm", "show", "use"] {
        let errors = stage.rejected(&["profiles", verb, "othre"]);
        assert!(errors.contains("did you mean `other`?"), "{errors}");
    }
    assert_eq!(rows(&stage.output(&["profiles", "ls", "--json"])).len(), 1);
    // A model that does not respond is not stored.
    let broken = [
        "profiles",
        "set",
        "new",
        "--check",
        "--base-url",
        "http://127.0.0.1:9/",
    ];
    let (code, _, errors) = stage.run(&broken, "");
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("the model cannot be used"), "{errors}");
    assert_eq!(rows(&stage.output(&["profiles", "ls", "--json"])).len(), 1);
    assert!(stage.rejected(&["profiles", "set", "a b"]).contains("a b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_value_of_a_secret_comes_from_stdin_and_is_never_shown() {
    let stage = Stage::new().await;
    let set = ["secrets", "set", "TOKEN", "--description", "For the tests."];
    let (code, output, errors) = stage.run(&set, "canary\nof two lines\n");
    assert_eq!((code, &*output), (Some(0), ""), "{errors}");
    let value = stage.admin().secrets().value("TOKEN").await.unwrap();
    assert_eq!(value.expose_secret(), "canary\nof two lines");
    let listed = rows(&stage.output(&["secrets", "ls", "--json"]));
    assert_eq!(
        listed,
        [json!({"name": "TOKEN", "description": "For the tests."})]
    );
    assert_eq!(stage.output(&["secrets", "ls"]), "TOKEN  For the tests.\n");

    let (code, _, errors) = stage.run(&["secrets", "set", "TOKEN"], "\n");
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("value of TOKEN is empty"), "{errors}");
    let (code, _, errors) = stage.run(&["secrets", "set", "not a name"], "canary");
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        stage
            .rejected(&["secrets", "rm", "TOKNE"])
            .contains("`TOKEN`?")
    );
    stage.output(&["secrets", "rm", "TOKEN"]);
    assert!(
        stage
            .rejected(&["secrets", "rm", "TOKEN"])
            .contains("the server has none")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_does_not_show_the_value_of_a_secret() {
    let stage = Stage::new().await;
    let asked = |answer: &str| {
        let inner = stage.command(&["secrets", "set", "TOKEN"]);
        let mut words = vec![inner.get_program().to_str().unwrap()];
        words.extend(inner.get_args().map(|word| word.to_str().unwrap()));
        // `script` gives the program a terminal.
        let mut command = Command::new("script");
        command.env("SHELL", "/bin/sh");
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let mut child = command
            .args(["--quiet", "--return", "--command"])
            .arg(format!(
                "trap : INT; {}; code=$?; stty -a; exit $code",
                words.join(" ")
            ))
            .arg("/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains("value of TOKEN: ") {
            let mut buffer = [0; 1024];
            let count = stdout.read(&mut buffer).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&shown));
            shown.extend(&buffer[..count]);
        }
        stdin.write_all(answer.as_bytes()).unwrap();
        stdout.read_to_end(&mut shown).unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!shown.contains("canary"), "{shown}");
        // The terminal shows what is typed next.
        assert!(shown.contains(" echo "), "{shown}");
        (child.wait().unwrap().code(), shown)
    };
    let (code, shown) = asked("canary\n");
    assert_eq!(code, Some(0), "{shown}");
    let value = stage.admin().secrets().value("TOKEN").await.unwrap();
    assert_eq!(value.expose_secret(), "canary");
    let (code, shown) = asked("canary again\u{3}");
    assert_eq!(code, Some(130), "{shown}");
    let value = stage.admin().secrets().value("TOKEN").await.unwrap();
    assert_eq!(value.expose_secret(), "canary");
}

#[tokio::test(flavor = "multi_thread")]
async fn mcp_servers_are_stored_tested_and_removed() {
    let stage = Stage::new().await;
    let python = stage.server.environment().python().to_owned();
    let python = python.to_str().unwrap();
    let program = stage.home.path().join("echo.py");
    let text = "import os\nfrom fastmcp import FastMCP\nm = FastMCP('echo')\n\
                @m.tool\ndef echo(text: str) -> str:\n    return text\n\
                assert os.environ['ECHO_TOKEN'].startswith('canary')\n\
                m.run(show_banner=False)\n";
    fs::write(&program, format!("{}{text}", openhands_tests::TIDY)).unwrap();
    let add = [
        "mcp",
        "add",
        "echo",
        "--env",
        "ECHO_TOKEN",
        "--",
        python,
        program.to_str().unwrap(),
    ];
    let mut command = stage.command(&add);
    let added = command.env("ECHO_TOKEN", "canary").output().unwrap();
    assert!(added.status.success(), "{added:?}");
    let file = stage.home.path().join("mcp.json");
    let servers = json!({"mcpServers": {
        "broken": {"command": "/no/such/program"},
        "far": {"url": "https://mcp.example.com/canary-of-the-path?key=canary"}}});
    fs::write(&file, servers.to_string()).unwrap();
    let file = file.to_str().unwrap();
    assert!(
        stage
            .rejected(&["mcp", "add", "none", "--file", file])
            .contains("broken, far")
    );
    stage.output(&["mcp", "add", "--file", file]);
    assert!(
        stage
            .rejected(&["mcp", "add", "broken", "--file", file])
            .contains("broken")
    );

    let listed = rows(&stage.output(&["mcp", "ls", "--json"]));
    let names: Vec<_> = listed
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["broken", "echo", "far"]);
    assert_eq!(listed[1]["command"], python);
    let far = listed[2]["url"].as_str().unwrap();
    assert!(far.starts_with("https://mcp.example.com"), "{far}");
    let shown = stage.output(&["mcp", "ls"]);
    assert!(shown.contains("/no/such/program"), "{shown}");

    assert_eq!(stage.output(&["mcp", "test", "echo"]), "echo\n");
    let errors = stage.rejected(&["mcp", "test", "broken"]);
    assert!(errors.contains("`broken` does not work"), "{errors}");
    for verb in ["test", "rm"] {
        let errors = stage.rejected(&["mcp", verb, "ecko"]);
        assert!(errors.contains("did you mean `echo`?"), "{errors}");
    }
    stage.output(&["mcp", "rm", "echo"]);
    assert_eq!(rows(&stage.output(&["mcp", "ls", "--json"])).len(), 2);
}
