//! Servers forked from a template keep the guarantees of a cold start. Servers that cannot be
//! forked are started cold.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::common::{
    StandIn, answers, eventually, parent, reason, runs, seen, signal, telltale, template,
};
use oh_process::{
    AttachedServer, ErrorKind, LogLevel, RestartPolicy, Startup, Status, TemplateServer, Webhook,
};
use rustix::process::Signal;

const GRACE: Duration = Duration::from_secs(20);

type Json = serde_json::Value;

#[tokio::test]
async fn a_forked_server_equals_a_cold_started_one() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let file = stand_in.directory.path().join("seen.json");
    let mode = format!("environment:{}", file.display());
    let mut both = Vec::new();
    for builder in [
        stand_in.builder(&mode),
        stand_in.builder(&mode).template(&template),
    ] {
        let server = builder.start().await.unwrap();
        let state = server.state_dir().display().to_string();
        let mut seen = seen(&file);
        // Remove what differs between any two servers.
        let text = seen.to_string().replace(&state, "STATE");
        seen = serde_json::from_str(&text).unwrap();
        seen["environ"] = Json::Null;
        for name in ["OPENHANDS_RS_OWNED", "OH_WORKSPACE_PATH"] {
            seen["env"][name] = Json::Null;
        }
        let argv = seen["argv"].as_array_mut().unwrap();
        argv.pop();
        let cwd = seen["cwd"].as_str().unwrap().to_owned();
        assert!(cwd.starts_with("STATE/start-"), "{cwd}");
        seen["cwd"] = Json::Null;
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        // The server has its own process group, in the session of the keeper.
        assert_eq!(fields[2], server.pid().to_string());
        assert_eq!(fields[3], fields[1]);
        both.push((server.startup(), seen));
        answers(&server).await;
        let report = server.shutdown(GRACE).await.unwrap();
        assert!(report.success() && report.signal == Some(15), "{report}");
    }
    assert_eq!(both[0].0, Startup::Cold);
    assert_eq!(both[1].0, Startup::Forked);
    assert_eq!(both[0].1, both[1].1);
    assert_eq!(template.statistics().forked, 1);
    eventually("all gone", || stand_in.processes().is_empty()).await;
}

#[tokio::test]
async fn neither_a_template_nor_the_process_table_shows_a_key() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let server = stand_in
        .builder("")
        .template(&template)
        .session_api_key("canary-session-key-1")
        .secret_key("canary-secret-key-xx")
        .webhook(Webhook::new("http://127.0.0.1:1").header("authorization", "canary-header"))
        .start()
        .await
        .unwrap();
    assert_eq!(server.startup(), Startup::Forked);
    let (server_pid, template_pid) = (server.pid(), template.pid().unwrap());
    for pid in [server_pid, parent(server_pid), template_pid] {
        for name in ["environ", "cmdline"] {
            let shown = fs::read(format!("/proc/{pid}/{name}")).unwrap();
            let shown = String::from_utf8_lossy(&shown).into_owned();
            assert!(!shown.contains("canary"), "{pid} {name}");
        }
        for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target.to_string_lossy().contains("configuration") {
                assert_eq!(fs::read_to_string(descriptor.path()).unwrap(), "{}");
            }
        }
    }
    // Process listings must still distinguish the processes.
    let line = |pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        line.replace('\0', " ").trim().to_owned()
    };
    let port = format!(
        "openhands.agent_server --host 127.0.0.1 --port {}",
        server.port()
    );
    assert!(line(server_pid).ends_with(&port), "{}", line(server_pid));
    assert!(line(parent(server_pid)).ends_with("(keeper of an agent server)"));
    assert!(line(template_pid).ends_with("(template of agent servers)"));
    drop(server);
}

#[tokio::test]
async fn servers_of_one_template_have_keys_and_directories_of_their_own() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let builder = stand_in.builder("").template(&template);
    let (one, two) = tokio::join!(builder.clone().start(), builder.start());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(
        (one.startup(), two.startup()),
        (Startup::Forked, Startup::Forked)
    );
    assert_ne!(one.state_dir(), two.state_dir());
    assert_ne!(parent(one.pid()), parent(two.pid()));
    let client = oh_transport::Client::builder(two.url().as_str());
    let crossed = client
        .session_api_key(one.session_api_key().clone())
        .build()
        .unwrap();
    let error = AttachedServer::attach(crossed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    one.shutdown(GRACE).await.unwrap();
    answers(&two).await;
}

#[tokio::test]
async fn a_forked_server_that_dies_is_noticed_and_forked_again() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(10), GRACE);
    let builder = stand_in
        .builder("daemon")
        .template(&template)
        .restart(policy);
    let server = builder.start().await.unwrap();
    let (first, keeper) = (server.pid(), parent(server.pid()));
    let mut status = server.status();
    super::common::kill(first);
    let restarting = |status: &Status| matches!(status, Status::Restarting { .. });
    status.wait_for(restarting).await.unwrap();
    status.wait_for(|now| *now == Status::Ready).await.unwrap();
    assert_ne!(server.pid(), first);
    assert_eq!(parent(server.pid()), keeper);
    answers(&server).await;
    super::common::kill(server.pid());
    let exited = |status: &Status| matches!(status, Status::Exited(_));
    let Some(Status::Exited(report)) = status.wait_for(exited).await else {
        unreachable!()
    };
    assert_eq!(report.signal, Some(9));
    assert_eq!(report.left_behind, 2, "the daemon and the sleeper");
    drop(server);
    eventually("all gone", || stand_in.processes().is_empty()).await;
}

#[tokio::test]
async fn exit_codes_and_last_lines_of_a_forked_server_are_reported() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let error = stand_in
        .builder("exit:5")
        .template(&template)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died);
    assert_eq!(error.exit().unwrap().code, Some(5));
    assert!(
        error
            .log_tail()
            .iter()
            .any(|line| line.contains("about to fail"))
    );
    let server = stand_in
        .builder("tell")
        .template(&template)
        .secret_env("TOKEN", "canary-token-value")
        .start()
        .await
        .unwrap();
    eventually("the lines", || server.log_tail().len() >= 2).await;
    let tail = server.log_tail().join("\n");
    assert!(tail.contains("plain <redacted> <redacted>"), "{tail}");
    assert!(!tail.contains("canary"), "{tail}");
}

#[tokio::test]
async fn a_killed_template_is_replaced_and_its_servers_keep_running() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(10), GRACE);
    let builder = stand_in.builder("").template(&template).restart(policy);
    let server = builder.clone().start().await.unwrap();
    let first = template.pid().unwrap();
    signal(first, Signal::KILL);
    eventually("noticed", || template.pid() != Some(first)).await;
    answers(&server).await;
    let cold = builder.clone().start().await.unwrap();
    let why = reason(&cold);
    assert!(
        why.contains("being replaced") || cold.startup() == Startup::Forked,
        "{why}"
    );
    eventually("replaced", || template.pid().is_some()).await;
    assert_eq!(template.statistics().ended, 1);
    assert_eq!(builder.start().await.unwrap().startup(), Startup::Forked);
    // The first server is still supervised.
    let mut status = server.status();
    let pid = server.pid();
    super::common::kill(pid);
    let restarting = |status: &Status| matches!(status, Status::Restarting { .. });
    status.wait_for(restarting).await.unwrap();
    status.wait_for(|now| *now == Status::Ready).await.unwrap();
    answers(&server).await;
    let report = server.shutdown(GRACE).await.unwrap();
    assert!(report.success(), "{report}");
}

#[tokio::test]
async fn a_dropped_template_ends_and_its_servers_keep_running() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let builder = stand_in.builder("").template(&template);
    let server = builder.clone().start().await.unwrap();
    let pid = template.pid().unwrap();
    drop(template);
    eventually("the template gone", || !runs(pid)).await;
    answers(&server).await;
    let cold = builder.start().await.unwrap();
    assert_eq!(reason(&cold), "the template was dropped");
    let report = server.shutdown(GRACE).await.unwrap();
    assert!(report.success(), "{report}");
}

#[tokio::test]
async fn a_killed_keeper_ends_its_forked_server() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let server = stand_in
        .builder("")
        .template(&template)
        .start()
        .await
        .unwrap();
    let mut status = server.status();
    let pid = server.pid();
    signal(parent(pid), Signal::KILL);
    let exited = |status: &Status| matches!(status, Status::Exited(_));
    status.wait_for(exited).await.unwrap();
    eventually("gone", || !runs(pid)).await;
    drop(server);
    assert!(stand_in.servers().is_empty());
}

#[tokio::test]
async fn a_variable_that_is_read_at_import_is_the_templates_or_the_start_is_cold() {
    let stand_in = StandIn::new().await;
    telltale(
        &stand_in,
        "import os\nLEVEL = os.environ.get('LOG_LEVEL'), os.getenv('MODE')\n",
    );
    let template = TemplateServer::builder()
        .environment(stand_in.environment.clone())
        .env("MODE", "one")
        .start()
        .await
        .unwrap();
    let builder = stand_in.builder("").template(&template);
    let one = builder.clone().env("MODE", "one").start().await.unwrap();
    assert_eq!(one.startup(), Startup::Forked);
    let two = builder.clone().env("MODE", "two").start().await.unwrap();
    assert!(reason(&two).contains("MODE"), "{}", reason(&two));
    let builder = builder.env("MODE", "one").log_level(LogLevel::Debug);
    let three = builder.start().await.unwrap();
    assert!(reason(&three).contains("LOG_LEVEL"), "{}", reason(&three));
    answers(&three).await;
    let statistics = template.statistics();
    assert_eq!((statistics.forked, statistics.cold_starts), (1, 2));
    let other = StandIn::new().await;
    let builder = other.builder("").template(&template);
    let elsewhere = builder
        .environment(other.environment.clone())
        .start()
        .await
        .unwrap();
    assert!(reason(&elsewhere).contains("another environment"));
}

#[tokio::test]
async fn state_of_modules_is_reset_in_a_forked_server() {
    let stand_in = StandIn::new().await;
    let code = "import os, pathlib, random, tempfile, time, uuid\n\
        HOME = pathlib.Path.home() / '.cache'\n\
        PLACES = [pathlib.Path(os.environ['OH_PERSISTENCE_DIR']) / 'x', (pathlib.Path.home(),)]\n\
        TEXT = os.path.expanduser('~/text')\n\
        TEMP, CWD = tempfile.gettempdir(), pathlib.Path.cwd()\n\
        def default(path=pathlib.Path.home() / 'd'): return str(path)\n\
        BEGUN, TICK, MY_PID = time.time(), time.monotonic(), os.getpid()\n\
        def facts():\n    return dict(home=str(HOME), places=str(PLACES), text=TEXT, default=default(),\n        \
        temp=tempfile.gettempdir(), cwd=str(CWD) == os.getcwd(), age=[time.time() - BEGUN, \
        time.monotonic() - TICK], pid=MY_PID == os.getpid(), random=[random.random(), \
        str(uuid.uuid4()), tempfile.mktemp()], hash=hash(HOME) == hash(pathlib.Path(str(HOME))))\n";
    telltale(&stand_in, code);
    let template = template(&stand_in).await;
    let file = stand_in.directory.path().join("facts.json");
    let mut drawn = Vec::new();
    for _ in 0..2 {
        let mode = format!("captured:{}", file.display());
        let begun = Instant::now();
        let server = stand_in
            .builder(&mode)
            .template(&template)
            .start()
            .await
            .unwrap();
        assert_eq!(server.startup(), Startup::Forked);
        let facts = seen(&file);
        let state = server.state_dir().display().to_string();
        assert_eq!(facts["home"], format!("{state}/home/.cache"));
        let places = facts["places"].as_str().unwrap();
        let expected =
            format!("[PosixPath('{state}/persistence/x'), (PosixPath('{state}/home'),)]");
        assert_eq!(places, expected);
        assert_eq!(facts["text"], format!("{state}/home/text"));
        assert_eq!(facts["default"], format!("{state}/home/d"));
        assert_eq!(facts["temp"], format!("{state}/tmp"));
        assert_eq!(
            (&facts["cwd"], &facts["pid"]),
            (&Json::Bool(true), &Json::Bool(true))
        );
        assert_eq!(facts["hash"], Json::Bool(true));
        for age in facts["age"].as_array().unwrap() {
            let age = Duration::from_secs_f64(age.as_f64().unwrap());
            assert!(age < begun.elapsed(), "{age:?}: older than the server");
        }
        drawn.push(facts["random"].clone());
    }
    for (one, two) in drawn[0]
        .as_array()
        .unwrap()
        .iter()
        .zip(drawn[1].as_array().unwrap())
    {
        assert_ne!(one, two);
    }
}

#[tokio::test]
async fn a_module_that_reads_the_configuration_is_left_to_the_server() {
    let stand_in = StandIn::new().await;
    let log = stand_in.directory.path().join("log");
    let code = format!(
        "import os\nfile = os.environ['OPENHANDS_AGENT_SERVER_CONFIG_PATH']\n\
         with open({:?}, 'a') as out: out.write('read')\n\
         def facts(): return 1\n",
        log.display()
    );
    telltale(&stand_in, &code);
    let template = template(&stand_in).await;
    assert!(!log.exists());
    let file = stand_in.directory.path().join("facts.json");
    let mode = format!("captured:{}", file.display());
    let server = stand_in
        .builder(&mode)
        .template(&template)
        .start()
        .await
        .unwrap();
    assert_eq!(server.startup(), Startup::Forked);
    assert_eq!(fs::read_to_string(log).unwrap(), "read");
}
