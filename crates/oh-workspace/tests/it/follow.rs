//! Tests of the stream of a history and of what follows.

use std::{collections::HashSet, future::IntoFuture as _, time::Duration};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use oh_protocol::calls::bash::BashEvent;
use oh_testkit::{FakeServer, Fault, fake::CommandOutput};
use oh_transport::{Client, Liveness};
use oh_workspace::{ErrorKind, HistoryStream, Workspace};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);

async fn server() -> FakeServer {
    let shell = |line: &str| CommandOutput::ok(line).after(Duration::from_millis(5));
    FakeServer::builder().commands(shell).start().await.unwrap()
}

fn workspace(server: &FakeServer) -> Workspace {
    Workspace::new(&server.client().unwrap(), "/w")
}

async fn next(events: &mut HistoryStream) -> BashEvent {
    let next = timeout(LONG, events.next()).await.expect("no event");
    next.expect("the stream ended").unwrap()
}

fn id(event: &BashEvent) -> String {
    match event {
        BashEvent::Command(command) => command.id.clone(),
        BashEvent::Output(output) => output.id.clone(),
        other => panic!("{other:?}"),
    }
}

/// Returns the line of each command, and the output that ends it, as they arrive.
async fn commands(events: &mut HistoryStream, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ended = 0;
    while ended < count {
        match next(events).await {
            BashEvent::Command(command) => {
                assert_eq!(
                    command.cwd.as_deref(),
                    Some("/w"),
                    "the directory is marked"
                );
                lines.push(command.command);
            }
            BashEvent::Output(output) if output.exit_code.is_some() => ended += 1,
            _ => {}
        }
    }
    lines
}

#[tokio::test]
async fn the_past_is_followed_by_commands_of_other_clients() {
    let server = server().await;
    workspace(&server).execute("before").await.unwrap();
    let mut events = workspace(&server).history().follow();
    assert_eq!(commands(&mut events, 1).await, ["before"]);
    // Waits for the socket, and for more than one page.
    let reading = tokio::spawn(async move { (commands(&mut events, 60).await, events) });
    let other = workspace(&server);
    for n in 0..60 {
        other.execute(format!("c{n}")).await.unwrap();
    }
    let (lines, mut events) = timeout(LONG, reading).await.unwrap().unwrap();
    let expected: Vec<_> = (0..60).map(|n| format!("c{n}")).collect();
    assert_eq!(lines, expected);
    // A stream from now on has no past.
    let mut fresh = workspace(&server)
        .history()
        .since(Timestamp::now())
        .follow();
    other.execute("later").await.unwrap();
    assert_eq!(commands(&mut fresh, 1).await, ["later"]);
    assert_eq!(commands(&mut events, 1).await, ["later"]);
    let filtered = workspace(&server).history().commands().follow();
    let kinds: Vec<_> = filtered.take(62).collect().await;
    assert!(
        kinds
            .iter()
            .all(|kind| matches!(kind, Ok(BashEvent::Command(_))))
    );
}

#[tokio::test]
async fn every_event_arrives_once_under_faults() {
    let server = server().await;
    let mut events = workspace(&server).history().follow();
    let search = "/bash_events/search";
    let socket = "/sockets/bash-events";
    let sockets = [Fault::cut(), Fault::gap(), Fault::duplicate()];
    let sockets = sockets.map(|fault| fault.on(socket).one_in(3));
    let searches = [Fault::lost_answer(), Fault::status(503)];
    let searches = searches.map(|fault| fault.on(search).times(3));
    for faults in [sockets.to_vec(), searches.to_vec()] {
        let name = format!("{faults:?}");
        for fault in faults {
            server.inject(fault);
        }
        let other = workspace(&server);
        let (mut seen, mut ended) = (Vec::new(), 0);
        let work = async {
            for n in 0..10 {
                // A start is not repeated, and its command is reported in any case.
                _ = other.execute(format!("c{n}")).await;
            }
        };
        let read = async {
            while ended < 10 {
                let event = next(&mut events).await;
                if matches!(&event, BashEvent::Output(output) if output.exit_code.is_some()) {
                    ended += 1;
                }
                seen.push(id(&event));
            }
        };
        timeout(LONG, async { tokio::join!(work, read) })
            .await
            .expect(&name);
        let unique: HashSet<_> = seen.iter().collect();
        assert_eq!((unique.len(), seen.len()), (20, 20), "{name}");
        server.heal();
    }
    let all: Vec<_> = workspace(&server).history().stream().collect().await;
    assert_eq!(all.len(), 40);
}

#[tokio::test]
async fn a_server_without_a_socket_is_polled() {
    let server = server().await;
    server.inject(Fault::status(403).on("/sockets/bash-events"));
    let mut events = workspace(&server).history().follow();
    let reading = tokio::spawn(async move { commands(&mut events, 1).await });
    // The first pass finds nothing.
    timeout(LONG, async {
        while !server
            .requests()
            .iter()
            .any(|seen| seen.path.ends_with("/search"))
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    workspace(&server).execute("polled").await.unwrap();
    let lines = timeout(LONG, reading.into_future()).await.unwrap().unwrap();
    assert_eq!(lines, ["polled"]);
}

/// Returns how many searches the server has received.
fn searches(server: &FakeServer) -> usize {
    let requests = server.requests();
    let searches = requests
        .iter()
        .filter(|seen| seen.path.ends_with("/search"));
    searches.count()
}

#[tokio::test]
async fn the_intervals_of_the_passes_can_be_set() {
    let server = server().await;
    let hour = Duration::from_secs(60 * 60);
    let short = Duration::from_millis(20);
    // With a socket that announces nothing, and without a socket. The other interval is too long.
    for refused in [false, true] {
        if refused {
            server.inject(Fault::status(403).on("/sockets/bash-events"));
        }
        let (check, poll) = match refused {
            true => (hour, short),
            false => (short, hour),
        };
        let history = workspace(&server).history();
        let mut events = history.check_every(check).poll_every(poll).follow();
        let before = searches(&server);
        let reading = tokio::spawn(async move { events.next().await });
        timeout(Duration::from_secs(3), async {
            while searches(&server) < before + 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        reading.abort();
    }
}

#[tokio::test]
async fn a_rejected_search_ends_the_stream() {
    let server = server().await;
    let stranger = Client::builder(server.url())
        .session_api_key("wrong")
        .build()
        .unwrap();
    let mut events = Workspace::new(&stranger, "/w").history().follow();
    let error = timeout(LONG, events.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(events.next().await.is_none());

    let history = || workspace(&server).history();
    for (history, setter) in [
        (history().until(Timestamp::now()), "until"),
        (history().newest_first(), "newest_first"),
        (history().from_page("page"), "from_page"),
    ] {
        let mut events = history.follow();
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(setter), "{error}");
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_server_that_its_supervisor_reports_as_gone_ends_the_stream() {
    let server = server().await;
    let client = server.client().unwrap();
    let mut events = Workspace::new(&client, "/w").history().follow();
    Workspace::new(&client, "/w").execute("last").await.unwrap();
    assert_eq!(commands(&mut events, 1).await, ["last"]);
    server.inject(Fault::status(503).on("/bash_events/search"));
    let reading = tokio::spawn(async move { events.next().await });
    client.set_liveness(Liveness::Gone("exit status 1".into()));
    let ended = timeout(LONG, reading).await.unwrap().unwrap();
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerGone);
    assert!(error.to_string().contains("exit status 1"), "{error}");
}
