//! Failures of a template: each leads to a clear error or a cold start, and leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::common::{
    StandIn, again, answers, eventually, reason, runs, seen, signal, site_packages, telltale,
    template,
};
use oh_process::{
    Environment, ErrorKind, LocalServer, RestartPolicy, Startup, Status, TemplateServer,
};
use rustix::process::{Pid, Resource, Rlimit, Signal};

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_module_that_starts_a_thread_is_named_and_no_template_is_made() {
    let stand_in = StandIn::new().await;
    let code = "import threading, time\n\
        threading.Thread(target=time.sleep, args=(600,), name='worker', daemon=True).start()\n";
    telltale(&stand_in, code);
    let builder = TemplateServer::builder().environment(stand_in.environment.clone());
    let error = builder.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadEnvironment);
    let shown = error.to_string();
    for word in ["worker", "module telltale", "more than one thread"] {
        assert!(shown.contains(word), "{shown}");
    }
}

#[tokio::test]
async fn a_late_or_unwanted_template_leaves_nothing() {
    let stand_in = StandIn::new().await;
    telltale(&stand_in, "import time\ntime.sleep(600)\n");
    let builder = TemplateServer::builder().environment(stand_in.environment.clone());
    let place = stand_in.directory.path().display().to_string();
    let late = builder.clone().ready_within(Duration::from_millis(300));
    let error = late.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    eventually("gone", || super::common::processes(&place).is_empty()).await;
    let unwanted = tokio::time::timeout(Duration::from_millis(300), builder.start());
    unwanted.await.unwrap_err();
    eventually("gone", || super::common::processes(&place).is_empty()).await;
}

#[tokio::test]
async fn a_thread_started_later_prevents_the_fork() {
    let stand_in = StandIn::new().await;
    let trigger = telltale(&stand_in, "");
    let code = format!(
        "import os, posix, threading, time\nstat = posix.stat\n\
         def watched(path, *rest, **named):\n    \
         if os.path.exists({trigger:?}) and threading.active_count() == 1:\n        \
         threading.Thread(target=time.sleep, args=(600,), name='late', daemon=True).start()\n    \
         return stat(path, *rest, **named)\nposix.stat = watched\n"
    );
    telltale(&stand_in, &code);
    let template = template(&stand_in).await;
    let builder = stand_in.builder("").template(&template);
    fs::write(&trigger, "").unwrap();
    // The check of the environment starts the thread.
    let cold = builder.start().await.unwrap();
    assert!(reason(&cold).contains("late"), "{}", reason(&cold));
    answers(&cold).await;
}

#[tokio::test]
async fn an_environment_that_changes_ends_the_template() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let builder = stand_in.builder("").template(&template);
    let first = template.pid().unwrap();
    let site = site_packages(&stand_in.directory.path().join("venv"));
    fs::create_dir(site.join("another-2.0.dist-info")).unwrap();
    let cold = builder.clone().start().await.unwrap();
    assert!(
        reason(&cold).contains("environment has changed"),
        "{}",
        reason(&cold)
    );
    answers(&cold).await;
    eventually("replaced", || {
        template.pid().is_some_and(|pid| pid != first)
    })
    .await;
    assert_eq!(builder.start().await.unwrap().startup(), Startup::Forked);
}

#[tokio::test]
async fn a_template_that_fails_to_fork_leads_to_a_cold_start() {
    let stand_in = StandIn::new().await;
    let trigger = telltale(&stand_in, "");
    // A signal that arrives during the fork changes nothing.
    let code = format!(
        "import errno, os, posix\nfork, template = posix.fork, os.getpid()\n\
         def failing():\n    \
         way = open({trigger:?}).read() if os.path.exists({trigger:?}) else ''\n    \
         if way == 'kill': os.kill(os.getpid(), 9)\n    \
         if way == 'keeper' and os.getpid() != template: raise OSError(errno.EAGAIN, 'no')\n    \
         if way == 'memory': raise MemoryError('no memory')\n    \
         if way in ('EAGAIN', 'ENOMEM'): raise OSError(getattr(errno, way), 'no ' + way)\n    \
         if way == 'signal': [os.kill(os.getpid(), n) for n in (1, 2, 3, 15, 17, 29)]\n    \
         return fork()\nposix.fork = failing\n"
    );
    telltale(&stand_in, &code);
    let template = template(&stand_in).await;
    let builder = stand_in.builder("").template(&template);
    for way in ["EAGAIN", "ENOMEM", "memory"] {
        fs::write(&trigger, way).unwrap();
        let cold = builder.clone().start().await.unwrap();
        assert!(
            reason(&cold).contains("cannot fork"),
            "{way}: {}",
            reason(&cold)
        );
        answers(&cold).await;
    }
    fs::write(&trigger, "signal").unwrap();
    let forked = builder.clone().start().await.unwrap();
    assert_eq!(forked.startup(), Startup::Forked);
    answers(&forked).await;
    // The forked keeper cannot fork the server.
    fs::write(&trigger, "keeper").unwrap();
    let error = builder.clone().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn);
    let shown = error.to_string();
    assert!(
        shown.contains("Resource temporarily unavailable"),
        "{shown}"
    );
    assert_eq!(template.statistics().ended, 0);
    fs::write(&trigger, "kill").unwrap();
    let cold = builder.clone().start().await.unwrap();
    assert!(
        reason(&cold).contains("ended while it was forking"),
        "{}",
        reason(&cold)
    );
    fs::remove_file(&trigger).unwrap();
    eventually("replaced", || template.pid().is_some()).await;
    assert_eq!(builder.start().await.unwrap().startup(), Startup::Forked);
    drop((cold, forked));
    eventually("all gone", || stand_in.processes().is_empty()).await;
}

#[tokio::test]
async fn a_template_without_free_descriptors_leads_to_a_cold_start() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let pid = template.pid().unwrap();
    let limit = |current| {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(4096),
        };
        rustix::process::prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    limit(4);
    let builder = stand_in.builder("").template(&template);
    let cold = builder.clone().start().await.unwrap();
    assert!(
        reason(&cold).starts_with("the template"),
        "{}",
        reason(&cold)
    );
    answers(&cold).await;
    eventually("a template", || template.pid().is_some()).await;
}

#[tokio::test]
async fn a_template_that_hangs_is_replaced() {
    let stand_in = StandIn::new().await;
    let template = TemplateServer::builder()
        .environment(stand_in.environment.clone())
        .fork_within(Duration::from_millis(300))
        .start()
        .await
        .unwrap();
    let first = template.pid().unwrap();
    signal(first, Signal::STOP);
    let builder = stand_in.builder("").template(&template);
    let cold = builder.start().await.unwrap();
    assert!(
        reason(&cold).contains("did not fork within"),
        "{}",
        reason(&cold)
    );
    answers(&cold).await;
    eventually("replaced", || {
        template.pid().is_some_and(|pid| pid != first)
    })
    .await;
}

#[tokio::test]
async fn nothing_planted_is_imported_by_a_forked_server() {
    let stand_in = StandIn::new().await;
    let template = template(&stand_in).await;
    let place = stand_in.directory.path();
    let marker = place.join("imported");
    let (workspace, state) = (place.join("workspace"), place.join("state"));
    for directory in [
        &workspace,
        &state,
        &state.join("workspace"),
        &state.join("home"),
    ] {
        super::common::plant(directory, &marker);
    }
    let file = place.join("seen.json");
    let server = stand_in
        .builder(&format!("environment:{}", file.display()))
        .template(&template)
        .state_dir(&state)
        .workspace_dir(&workspace)
        .env("PYTHONPATH", &workspace)
        .restart(RestartPolicy::on_failure(1).delays(Duration::from_millis(1), GRACE))
        .start()
        .await
        .unwrap();
    assert_eq!(server.startup(), Startup::Forked);
    let mut status = server.status();
    super::common::kill(server.pid());
    status.changed().await;
    status
        .wait_for(|status| *status == Status::Ready)
        .await
        .unwrap();
    let paths = seen(&file)["path"].to_string();
    assert!(
        !paths.contains("\"\"") && !paths.contains("workspace"),
        "{paths}"
    );
    server.shutdown(GRACE).await.unwrap();
    assert!(!marker.exists());
}

const ROLE: &str = "OH_TEST_OWNER";
const VENV: &str = "OH_TEST_VENV";
const TAG: &str = "OH_TEST_TAG";

/// Acts as the owner of a template and two servers, if this process is the child.
async fn plays() -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        return false;
    };
    let environment = Environment::at(std::env::var(VENV).unwrap()).await.unwrap();
    let template = TemplateServer::builder()
        .environment(environment)
        .env("TAG", std::env::var(TAG).unwrap());
    if role == "early" {
        println!("HERE 0");
    }
    let template = template.start().await.unwrap();
    let builder = || {
        LocalServer::builder()
            .template(&template)
            .env("STAND_IN", "daemon")
            .env("TAG", std::env::var(TAG).unwrap())
    };
    let (one, two) = tokio::join!(builder().start(), builder().start());
    let _held = (one.unwrap(), two.unwrap());
    println!("HERE {}", template.pid().unwrap());
    std::future::pending::<()>().await;
    true
}

/// Runs this test again as an owner. Returns it and the process that it names when it has reached
/// the state of its role.
fn owner(test: &str, role: &str, stand_in: &StandIn, scratch: &Path) -> (std::process::Child, u32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &again(module_path!(), test)])
        .env(ROLE, role)
        .env(VENV, stand_in.directory.path().join("venv"))
        .env(TAG, &stand_in.tag)
        .env("TMPDIR", scratch)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.by_ref().map_while(Result::ok);
    let line = lines.find(|line| line.contains("HERE")).unwrap();
    let pid = line.rsplit(' ').next().unwrap().parse().unwrap();
    (child, pid)
}

#[tokio::test]
async fn a_killed_owner_leaves_neither_template_nor_servers() {
    if plays().await {
        return;
    }
    let stand_in = StandIn::new().await;
    let scratch = stand_in.directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let test = "a_killed_owner_leaves_neither_template_nor_servers";
    let left = || fs::read_dir(&scratch).unwrap().count() + stand_in.processes().len();
    // Interrupt at several moments during the imports, and after everything is running.
    for after in (0..400).step_by(40) {
        let (mut child, _) = owner(test, "early", &stand_in, &scratch);
        std::thread::sleep(Duration::from_millis(after));
        child.kill().unwrap();
        child.wait().unwrap();
        eventually(&format!("gone after {after} ms"), || left() == 0).await;
    }
    let (mut child, template) = owner(test, "late", &stand_in, &scratch);
    assert!(runs(template));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("all gone", || left() == 0 && !runs(template)).await;
    // Both are killed at the same time.
    let (mut child, template) = owner(test, "late", &stand_in, &scratch);
    signal(template, Signal::KILL);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("all gone", || left() == 0).await;
}
