//! Tests of commands on a server whose responses and sockets fail.

use std::{future::IntoFuture, time::Duration};

use oh_testkit::{FakeServer, Fault, Link, Proxy, fake::CommandOutput};
use oh_transport::Client;
use oh_workspace::{ErrorKind, Workspace};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);

/// Runs `echo WORD` at once, `after MS WORD` late, `big N` as N thousand characters.
async fn server() -> FakeServer {
    let shell = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["after", ms, word] => {
            CommandOutput::ok(word).after(Duration::from_millis(ms.parse().unwrap()))
        }
        ["exit", code] => CommandOutput::exit(code.parse().unwrap()),
        [_, word] => CommandOutput::ok(word),
        _ => CommandOutput::exit(127),
    };
    FakeServer::builder().commands(shell).start().await.unwrap()
}

fn client(server: &FakeServer, url: String) -> Client {
    let builder = Client::builder(url).session_api_key(server.session_api_key());
    builder.build().unwrap()
}

fn workspace(server: &FakeServer) -> Workspace {
    Workspace::new(&client(server, server.url()), "/w")
}

#[tokio::test]
async fn pitfall_18_failed_responses_are_never_an_exit_code() {
    let server = server().await;
    let workspace = workspace(&server);
    // The socket is refused, so the end is polled, and half of the responses fail.
    server.inject(Fault::status(403).on("/sockets/bash-events"));
    server.inject(Fault::html(502).on("/bash_events/search").one_in(2));
    for n in 0..10 {
        let run = workspace.execute(format!("after {} w{n}", n * 20));
        let output = timeout(LONG, run.into_future()).await.unwrap().unwrap();
        assert_eq!(
            (output.stdout(), output.exit_code()),
            (&*format!("w{n}"), Some(0))
        );
    }
    // Rejected permanently: an error with the command's id.
    server.heal();
    server.inject(Fault::status(403).on("/sockets/bash-events"));
    server.inject(Fault::status(401).on("/bash_events/search"));
    let run = workspace.execute("after 50 late").into_future();
    let error = timeout(LONG, run).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let theirs = error.transport_error().unwrap().kind();
    assert_eq!(theirs, oh_transport::ErrorKind::Unauthorized);
    // The command is found again, with its whole output.
    server.heal();
    let found = workspace
        .command(error.command_id().unwrap())
        .await
        .unwrap();
    assert_eq!(found.wait().await.unwrap().stdout(), "late");
}

#[tokio::test]
async fn pitfall_18_a_start_with_a_lost_response_is_found_and_not_repeated() {
    let server = server().await;
    let workspace = workspace(&server);
    server.inject(Fault::lost_answer().on("/start_bash_command").times(1));
    let error = workspace.execute("after 100 word").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
    let found = workspace
        .command(error.command_id().unwrap())
        .await
        .unwrap();
    assert_eq!(found.wait().await.unwrap().stdout(), "word");
    let commands = workspace.history().commands().page().await.unwrap();
    assert_eq!(commands.items.len(), 1);
}

#[tokio::test]
async fn a_broken_socket_loses_no_output() {
    let server = server().await;
    let workspace = workspace(&server);
    for fault in [
        Fault::cut(),
        Fault::tear(),
        Fault::close(1013, "Too many bash event connections"),
        Fault::gap(),
        Fault::duplicate(),
        Fault::stall(),
    ] {
        let name = format!("{fault:?}");
        server.inject(fault.on("/sockets/bash-events").one_in(2));
        for n in 0..6 {
            let run = workspace
                .execute(format!("after {} w{n}", n * 10))
                .into_future();
            let output = timeout(LONG, run).await.expect(&name).unwrap();
            assert_eq!(output.stdout(), format!("w{n}"), "{name}");
        }
        server.heal();
    }
}

#[tokio::test]
async fn a_connection_cut_anywhere_ends_in_a_result_or_a_typed_error() {
    let server = server().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let workspace = Workspace::new(&client(&server, proxy.url()), "/w");
    let (mut results, mut errors) = (0, 0);
    for bytes in (0..2400).step_by(120) {
        proxy.links(move |_| Link::new().cut_after(bytes));
        let run = workspace.execute("echo word").into_future();
        match timeout(LONG, run).await.unwrap() {
            Ok(output) => {
                assert_eq!((output.stdout(), output.exit_code()), ("word", Some(0)));
                results += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Interrupted, "{bytes}: {error:?}");
                errors += 1;
            }
        }
    }
    assert!(
        results > 0 && errors > 0,
        "{results} results, {errors} errors"
    );
}

/// Gateways cut connections that are silent for a while, and a long command is silent.
#[tokio::test]
async fn pitfall_26_a_long_command_holds_no_request_open() {
    let server = server().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let workspace = Workspace::new(&client(&server, proxy.url()), "/w");
    let command = workspace.execute("after 3000 late").start().await.unwrap();
    let running = tokio::spawn(async move { command.wait().await });
    // Each new connection is cut, as often as the command's time allows.
    let mut cuts = 0;
    while !running.is_finished() && cuts < 4 {
        let accepted = proxy.accepted();
        proxy.cut();
        cuts += 1;
        while !running.is_finished() && proxy.accepted() == accepted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let output = timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert_eq!((output.stdout(), output.exit_code()), ("late", Some(0)));
    assert!(cuts > 1 && proxy.accepted() > cuts, "{cuts}");
}

#[tokio::test]
async fn many_commands_at_once_never_mix() {
    let server = server().await;
    let workspace = workspace(&server);
    server.inject(Fault::gap().on("/sockets/bash-events").one_in(5));
    server.inject(Fault::cut().on("/sockets/bash-events").one_in(50));
    let running = (0..60).map(|n| {
        let workspace = workspace.clone();
        tokio::spawn(async move {
            let run = workspace.execute(format!("after {} w{n}", n * 7 % 50));
            let output = timeout(LONG, run.into_future()).await.unwrap().unwrap();
            assert_eq!(output.stdout(), format!("w{n}"));
        })
    });
    for task in running.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn an_exit_code_is_the_servers_value() {
    let server = server().await;
    let workspace = workspace(&server);
    for code in [0, 1, 255, -9] {
        let output = workspace.execute(format!("exit {code}")).await.unwrap();
        assert_eq!(
            (output.exit_code(), output.timed_out()),
            (Some(code), false)
        );
    }
    // Later responses do not matter: this server runs no commands at all.
    let none = FakeServer::start().await.unwrap();
    let none = Workspace::new(&client(&none, none.url()), "/w");
    let error = none.execute("pwd").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
}
