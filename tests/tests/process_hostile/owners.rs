//! The real server under owners with another locale or another user.
//!
//! Each test runs itself again as that owner.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use openhands::{
    Agent, Conversation, LocalServer, Payload, WorkspaceExt,
    process::{Environment, LocalServerBuilder, Provisioner, Startup, TemplateServer},
    protocol::config::Llm,
    testkit::{Script, ScriptedModel},
};
use serde_json::json;
use tokio::time::timeout;

const ROLE: &str = "OH_TEST_OWNERS";
const LONG: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(30);

/// Locales that are not UTF-8 or do not exist.
const LOCALES: [&[(&str, &str)]; 2] = [
    &[("LC_ALL", "de_DE.ISO-8859-1"), ("LANGUAGE", "ru:xx:")],
    &[
        ("LC_ALL", "xx_YY.UTF-8"),
        ("LC_CTYPE", "C"),
        ("LANG", "ja_JP.EUC-JP"),
    ],
];

fn environment() -> Environment {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Provisioner::new().provision()).unwrap()
}

/// Returns a command that runs a test again under a program, with these variables.
fn again(test: &str, program: &[&str], variables: &[(&str, &str)], place: &Path) -> Command {
    let mut line = program.iter().map(|part| (*part).to_owned());
    let this = std::env::current_exe().unwrap();
    let mut command = match line.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(line).arg(this);
            command
        }
        None => Command::new(this),
    };
    command
        .args(["--exact", "--nocapture", test])
        .env(ROLE, environment().python())
        .env("TMPDIR", place)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn passes(command: std::process::Child, what: &str) {
    let output = command.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{what}: {said}\n{complaint}"
    );
}

fn nothing_is_left(place: &Path) {
    let left: Vec<_> = fs::read_dir(place).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Returns the server's environment if this process is such an owner.
async fn role() -> Option<Environment> {
    let python = std::env::var(ROLE).ok()?;
    let root = Path::new(&python).parent().and_then(Path::parent).unwrap();
    Some(Environment::at(root).await.unwrap())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Checks that commands and agents read and write UTF-8, and get one locale only.
async fn commands_work(builder: LocalServerBuilder, startup: Startup) {
    let server = builder.start().await.unwrap();
    assert_eq!(server.startup(), startup);
    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("printf 'äöü €\n'; env").await.unwrap();
    let said = output.stdout();
    assert!(said.starts_with("äöü €\n"), "{said}");
    for line in said.lines() {
        let locale = line
            .split_once('=')
            .filter(|(name, _)| name.starts_with("LC_") || name.starts_with("LANG"));
        assert!(locale.is_none_or(|(_, value)| value == "C.UTF-8"), "{line}");
    }
    let script = Script::new()
        .call(
            "terminal",
            json!({ "command": "printf 'ß → %s\n' ü$(id -u)" }),
        )
        .finish("Größe.");
    let model = ScriptedModel::start(script).await.unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent);
    let conversation = conversation.start().await.unwrap();
    conversation.send("Schön.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let id = user_id();
    let reported = conversation
        .events()
        .iter()
        .any(|event| match event.payload() {
            Payload::Observation(body) => body.text().contains(&format!("ß → ü{id}")),
            _ => false,
        });
    assert!(reported, "what the terminal has printed");
    conversation.close().await.unwrap();
    let report = server.shutdown(GRACE).await.unwrap();
    assert!(report.success() && !report.killed, "{report}");
}

/// Returns the user id that this process sees.
fn user_id() -> String {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn owners_with_other_locales_have_servers_that_work_cold_and_forked() {
    const TEST: &str = "owners::owners_with_other_locales_have_servers_that_work_cold_and_forked";
    if std::env::var_os(ROLE).is_some() {
        return block_on(async {
            let environment = role().await.unwrap();
            let builder = LocalServer::builder()
                .environment(environment.clone())
                .inherit_all_env();
            let cold = commands_work(builder.clone(), Startup::Cold);
            let forked = async {
                let template = TemplateServer::builder().environment(environment.clone());
                let template = template.start().await.unwrap();
                let builder = LocalServer::builder().environment(environment.clone());
                commands_work(builder.template(&template), Startup::Forked).await;
            };
            tokio::join!(cold, forked);
        });
    }
    let place = tempfile::tempdir().unwrap();
    let owners = LOCALES.map(|locale| {
        let mut command = again(TEST, &[], locale, place.path());
        for name in ["LC_ALL", "LC_CTYPE", "LANG", "LANGUAGE"] {
            if !locale.iter().any(|(set, _)| *set == name) {
                command.env_remove(name);
            }
        }
        (command.spawn().unwrap(), locale)
    });
    for (owner, locale) in owners {
        passes(owner, &format!("{locale:?}"));
    }
    nothing_is_left(place.path());
}

#[test]
fn a_normal_user_without_any_right_starts_a_server() {
    const TEST: &str = "owners::a_normal_user_without_any_right_starts_a_server";
    if std::env::var_os(ROLE).is_some() {
        assert_eq!(user_id(), "1000");
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let none = |set: &str| status.contains(&format!("{set}:\t0000000000000000"));
        assert!(none("CapEff") && none("CapPrm"), "{status}");
        return block_on(async {
            let environment = role().await.unwrap();
            let builder = LocalServer::builder().environment(environment);
            commands_work(builder, Startup::Cold).await;
        });
    }
    let place = tempfile::tempdir().unwrap();
    // In a user namespace the files still belong to this user, who has no rights of root.
    let user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"];
    let owner = again(TEST, &user, &[], place.path()).spawn();
    passes(
        owner.expect("`unshare` of util-linux"),
        "where users may not make namespaces, allow it: sysctl \
         kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0",
    );
    nothing_is_left(place.path());
}
