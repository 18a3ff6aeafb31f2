//! Tests that a secret variable is only in the server's process and in the processes that the
//! server starts.

use std::{fs, time::Duration};

use super::common::{StandIn, parent, processes};
use oh_process::{LocalServer, RestartPolicy, Startup, Status};

const GRACE: Duration = Duration::from_secs(20);

/// Checks that only the server and the processes that it has started contain a secret.
fn only_the_server_has_it(server: &LocalServer, secret: &str) {
    let holders = processes(secret);
    assert!(holders.contains(&server.pid()), "the server has none");
    for holder in holders {
        let mut pid = holder;
        while pid != server.pid() {
            assert!(pid > 1, "process {holder} shows the secret");
            pid = parent(pid);
        }
    }
}

/// Returns a secret that no other test's process contains.
fn canary() -> String {
    format!("canary-{}", uuid::Uuid::new_v4().simple())
}

async fn ready_again(server: &LocalServer, killed: u32) {
    let mut status = server.status();
    super::common::kill(killed);
    let restarting = |status: &Status| matches!(status, Status::Restarting { .. });
    status.wait_for(restarting).await.unwrap();
    status.wait_for(|now| *now == Status::Ready).await.unwrap();
}

#[tokio::test]
async fn a_secret_variable_is_only_in_the_process_of_the_server() {
    let stand_in = StandIn::new().await;
    let policy = RestartPolicy::on_failure(2).delays(Duration::from_millis(1), GRACE);
    for forked in [false, true] {
        let secret = canary();
        let mut builder = stand_in
            .builder("daemon")
            .secret_env("TOKEN", secret.as_str())
            .restart(policy.clone());
        let template = match forked {
            true => Some(super::common::template(&stand_in).await),
            false => None,
        };
        if let Some(template) = &template {
            builder = builder.template(template);
        }
        let server = builder.start().await.unwrap();
        assert_eq!(server.startup() == Startup::Forked, forked);
        only_the_server_has_it(&server, &secret);
        ready_again(&server, server.pid()).await;
        only_the_server_has_it(&server, &secret);
        // After a restart, the keeper is another process.
        ready_again(&server, parent(server.pid())).await;
        only_the_server_has_it(&server, &secret);
        let report = server.shutdown(GRACE).await.unwrap();
        assert!(report.success(), "{report}");
        drop(template);
        assert_eq!(processes(&secret), [0; 0]);
        // The daemon of the server whose keeper was killed.
        stand_in.end_forgetful();
    }
}

#[tokio::test]
async fn a_secret_variable_is_not_in_the_shell_that_is_measured() {
    let stand_in = StandIn::new().await;
    let home = stand_in.directory.path().join("home");
    fs::create_dir(&home).unwrap();
    let script = "(tr '\\0' '\\n' </proc/self/environ; env) >\"$HOME/shell\"
        tr '\\0' '\\n' </proc/$PPID/environ >\"$HOME/keeper\"; touch \"$HOME/done\"\n";
    fs::write(home.join(".bashrc"), script).unwrap();
    let secret = canary();
    // The stand-in is ready once the shell has reported.
    let start = stand_in
        .builder(&format!("after:{}", home.join("done").display()))
        .env("HOME", &home)
        .secret_env("TOKEN", secret.as_str())
        .start();
    let server = start.await.unwrap();
    for name in ["shell", "keeper"] {
        let environ = fs::read_to_string(home.join(name)).unwrap();
        assert!(!environ.is_empty(), "{name}");
        assert!(!environ.contains(&secret), "{name}: {environ}");
    }
    server.shutdown(GRACE).await.unwrap();
}
