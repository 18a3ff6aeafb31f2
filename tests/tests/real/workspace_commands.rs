//! Commands on the real server. All scenarios share one server, because starting it takes long.

use std::{
    fs,
    future::{IntoFuture, poll_fn},
    path::Path,
    pin::Pin,
    time::Duration,
};

use futures_core::Stream;
use openhands::{
    Agent, Conversation, Workspace, WorkspaceExt, WorkspaceHandle,
    protocol::{calls::bash::BashEvent, config::Llm},
    workspace::{ErrorKind, OutputChunk},
};

/// A duration longer than any operation takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

/// Waits until a command has created this file in the directory of the workspace.
async fn exists(workspace: &Workspace, name: &str) {
    let file = Path::new(workspace.working_dir()).join(name);
    let created = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let created = tokio::time::timeout(LONG, created).await;
    created.unwrap_or_else(|_| panic!("no file {name}"));
}

#[tokio::test]
async fn commands_work_on_the_real_server() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    results_are_exact(&workspace).await;
    time_limits_are_kept(&workspace).await;
    what_cannot_run_is_an_error(&workspace).await;
    much_output_comes_whole_and_in_order(&workspace).await;
    pitfall_19_output_comes_when_the_server_has_it(&workspace).await;
    concurrent_commands_never_mix(&workspace).await;
    a_dropped_command_is_stopped(&workspace).await;
    a_command_is_found_again(&workspace).await;
    the_history_is_searched_and_cleared(&workspace).await;
    a_conversation_has_commands_of_its_own(&workspace).await;
    server.shutdown(Duration::from_secs(30)).await.unwrap();
}

async fn results_are_exact(workspace: &Workspace) {
    let output = workspace.execute("pwd").await.unwrap();
    assert_eq!(output.stdout().trim_end(), workspace.working_dir());
    assert!(output.success() && output.stderr().is_empty());

    let output = workspace
        .execute("echo out; echo err >&2; exit 3")
        .await
        .unwrap();
    assert_eq!(output.exit_code(), Some(3));
    assert_eq!((output.stdout(), output.stderr()), ("out\n", "err\n"));
    assert!(!output.timed_out());

    let output = workspace.execute("true").await.unwrap();
    assert_eq!((output.stdout(), output.exit_code()), ("", Some(0)));

    let output = workspace
        .execute("printf '%s|%s' \"$GREETING\" \"$(pwd)\"")
        .env("GREETING", "it's \"fine\" $HOME\nüñ")
        .cwd("/")
        .await
        .unwrap();
    assert_eq!(output.stdout(), "it's \"fine\" $HOME\nüñ|/");

    for (line, signal) in [("kill -9 $$", -9), ("kill -HUP $$", -1)] {
        let output = workspace.execute(line).await.unwrap();
        assert_eq!(
            (output.exit_code(), output.timed_out()),
            (Some(signal), false),
            "{line}"
        );
    }
}

async fn time_limits_are_kept(workspace: &Workspace) {
    // The server counts whole seconds: half a second must become neither zero nor one. On a busy
    // machine the shell may not have written anything within this limit.
    let late = workspace
        .execute("echo early; sleep 300")
        .timeout(Duration::from_millis(500))
        .await
        .unwrap();
    assert!(late.timed_out() && late.exit_code().is_none());
    assert!("early\n".starts_with(late.stdout()), "{late:?}");
    assert!(
        late.duration() >= Duration::from_millis(500),
        "{:?}",
        late.duration()
    );

    // The exit code after the timeout does not matter.
    let handled = workspace
        .execute("trap 'echo bye; exit 0' TERM; sleep 300 & wait")
        .timeout(Duration::from_millis(700))
        .await
        .unwrap();
    let found = (handled.timed_out(), handled.exit_code(), handled.success());
    assert_eq!(found, (true, None, false), "{handled:?}");

    let quick = workspace
        .execute("sleep 0.2; echo done")
        .timeout(Duration::from_millis(90_500))
        .await
        .unwrap();
    assert_eq!((quick.stdout(), quick.timed_out()), ("done\n", false));

    // A limit that leaves the shell enough time to write. In the second case a background child
    // holds the pipe, so the command times out instead of ending.
    let limit = Duration::from_secs(5);
    let late = workspace.execute("echo early; sleep 300").timeout(limit);
    let held = workspace
        .execute("sleep 300 & echo started")
        .timeout(limit + Duration::from_millis(500));
    let (late, held) = tokio::join!(late.into_future(), held.into_future());
    for (ended, written) in [(late, "early\n"), (held, "started\n")] {
        let ended = ended.unwrap();
        assert!(ended.timed_out(), "{ended:?}");
        assert_eq!(ended.stdout(), written);
    }
}

async fn what_cannot_run_is_an_error(workspace: &Workspace) {
    let error = workspace
        .execute("pwd")
        .cwd("/no/such/place")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStarted);
    assert!(error.to_string().contains("/no/such/place"), "{error}");
    assert!(error.command_id().is_some());

    // Longer than the system's limit for a command line.
    let line = format!("echo {}", "x".repeat(10 * 1024 * 1024));
    let error = workspace.execute(line).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStarted);
    assert!(
        error.to_string().len() < 300,
        "{} bytes",
        error.to_string().len()
    );

    for (line, limit) in [("", 1000), ("  \n", 1000), ("echo a\0b", 1000), ("true", 0)] {
        let limit = Duration::from_millis(limit);
        let error = workspace.execute(line).timeout(limit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{line:?}");
    }
    let error = workspace.execute("true").env("A=B", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = workspace.execute("true").cwd("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

async fn much_output_comes_whole_and_in_order(workspace: &Workspace) {
    // Several million characters on both streams, at the same time.
    let line = "seq 1 900000 & seq 1000001 1700000 >&2; wait";
    let output = workspace.execute(line).await.unwrap();
    let numbers = |from: u32, to: u32| (from..=to).map(|n| format!("{n}\n")).collect::<String>();
    assert!(
        output.stdout() == numbers(1, 900_000),
        "{} bytes",
        output.stdout().len()
    );
    assert!(
        output.stderr() == numbers(1_000_001, 1_700_000),
        "{} bytes",
        output.stderr().len()
    );

    // Streamed while it runs, to a slow reader.
    let command = workspace.execute("seq 1 1500000").start().await.unwrap();
    let mut stream = command.output();
    let (mut text, mut pieces) = (String::new(), 0);
    let end = loop {
        match next(&mut stream).await.unwrap().unwrap() {
            OutputChunk::Stdout(piece) => {
                text.push_str(&piece);
                pieces += 1;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            OutputChunk::Ended(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert!(end.success() && next(&mut stream).await.is_none());
    assert!(pieces > 5, "{pieces}");
    assert!(text == numbers(1, 1_500_000), "{} bytes", text.len());
    // Read again from the start.
    assert_eq!(command.wait().await.unwrap().stdout().len(), text.len());
}

/// The server holds back a command's output until it has a million characters, or the command ends.
/// If a server starts to send output earlier, this test fails and the documentation must be
/// updated.
async fn pitfall_19_output_comes_when_the_server_has_it(workspace: &Workspace) {
    let line = "echo first; sleep 1; echo last";
    let command = workspace.execute(line).start().await.unwrap();
    let mut output = command.output();
    let first = next(&mut output).await.unwrap().unwrap();
    assert_eq!(first, OutputChunk::Stdout("first\nlast\n".to_owned()));
    // A million characters are sent at once.
    let line = "head -c 1500000 /dev/zero | tr '\\0' x; touch written; sleep 600";
    let command = workspace.execute(line).start().await.unwrap();
    let mut output = command.output();
    let first = tokio::time::timeout(LONG, next(&mut output)).await;
    let Some(Ok(OutputChunk::Stdout(first))) = first.unwrap() else {
        panic!("no output")
    };
    assert_eq!(first.len(), 1_048_576);
    exists(workspace, "written").await;
    command.stop().await.unwrap();
    assert!(
        matches!(next(&mut output).await, Some(Ok(OutputChunk::Stdout(rest))) if rest.len() == 451_424)
    );
    assert!(
        matches!(next(&mut output).await, Some(Ok(OutputChunk::Ended(end))) if end.exit_code() == Some(-15))
    );
}

async fn concurrent_commands_never_mix(workspace: &Workspace) {
    let running = (0..20).map(|n| {
        let workspace = workspace.clone();
        tokio::spawn(async move {
            let line = format!("for i in 1 2 3; do echo {n}; sleep 0.0{}; done", n % 7);
            let output = workspace.execute(line).await.unwrap();
            assert_eq!(output.stdout(), format!("{n}\n").repeat(3));
        })
    });
    for task in running.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Returns whether a process that sleeps `seconds` seconds exists.
async fn sleeps(workspace: &Workspace, seconds: u32) -> bool {
    let line = format!("pgrep -x -f 'sleep {seconds}' >/dev/null");
    workspace.execute(line).await.unwrap().success()
}

/// Waits until a process that sleeps `seconds` seconds exists, or until none does.
async fn until_it_sleeps(workspace: &Workspace, seconds: u32, exists: bool) {
    let changed = async {
        while sleeps(workspace, seconds).await != exists {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let changed = tokio::time::timeout(LONG, changed).await;
    changed.unwrap_or_else(|_| panic!("`sleep {seconds}` exists: {}", !exists));
}

/// Awaits a command until its process runs, and drops the command.
async fn runs_and_is_dropped(
    workspace: &Workspace,
    seconds: u32,
    command: impl IntoFuture<Output: std::fmt::Debug>,
) {
    tokio::select! {
        ended = command.into_future() => panic!("`sleep {seconds}` has ended: {ended:?}"),
        () = until_it_sleeps(workspace, seconds, true) => {}
    }
}

async fn a_dropped_command_is_stopped(workspace: &Workspace) {
    runs_and_is_dropped(workspace, 7771, workspace.execute("exec sleep 7771")).await;
    // Dropped while the start request is in progress.
    let at_once = workspace.execute("exec sleep 7772");
    let at_once = tokio::time::timeout(Duration::from_millis(2), at_once.into_future());
    assert!(at_once.await.is_err());
    // A dropped stream also stops the command.
    let mut output = workspace.execute("exec sleep 7774").stream().await.unwrap();
    runs_and_is_dropped(workspace, 7774, next(&mut output)).await;
    drop(output);
    let detached = workspace.execute("exec sleep 7773").detached();
    runs_and_is_dropped(workspace, 7773, detached).await;

    for stopped in [7771, 7772, 7774] {
        until_it_sleeps(workspace, stopped, false).await;
    }
    assert!(sleeps(workspace, 7773).await);
    workspace.execute("pkill -x -f 'sleep 7773'").await.unwrap();
}

async fn a_command_is_found_again(workspace: &Workspace) {
    let line = "echo before; touch begun; sleep 300; echo after";
    let command = workspace.execute(line).start().await.unwrap();
    let id = command.id().to_owned();
    drop(command);
    let found = workspace.command(&id).await.unwrap();
    // The id can be written with or without dashes.
    let dashed = format!("{}-{}", &id[..8], &id[8..]);
    assert_eq!(workspace.command(dashed).await.unwrap().id(), id);
    assert_eq!(found.line(), line);
    let waiting = tokio::spawn({
        let workspace = workspace.clone();
        let id = id.clone();
        async move { workspace.command(id).await.unwrap().wait().await }
    });
    exists(workspace, "begun").await;
    found.stop().await.unwrap();
    let output = waiting.await.unwrap().unwrap();
    assert_eq!(
        (output.exit_code(), output.stdout()),
        (Some(-15), "before\n")
    );
    found.stop().await.unwrap();
    assert_eq!(found.wait().await.unwrap(), output);

    let unknown = workspace.command("0".repeat(32)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    // An id that belongs to no command is reported as such.
    let events = workspace.history().of_command(&id).page().await.unwrap();
    let Some(BashEvent::Output(output)) = events.items.first() else {
        panic!("{events:?}")
    };
    let unknown = workspace.command(&output.id).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

async fn the_history_is_searched_and_cleared(workspace: &Workspace) {
    let mark = workspace.execute("echo mark").await.unwrap();
    let mut lines = Vec::new();
    let mut commands = Box::pin(workspace.history().commands().page_size(7).stream());
    while let Some(event) = next(&mut commands).await {
        let BashEvent::Command(command) = event.unwrap() else {
            panic!("a command was asked for")
        };
        lines.push((command.timestamp, command.id, command.command));
    }
    assert!(lines.len() > 30 && lines.is_sorted());
    let (moment, id, line) = lines.last().unwrap();
    assert_eq!((id.as_str(), line.as_str()), (mark.id(), "echo mark"));

    let newest = workspace.history().commands().newest_first().page_size(1);
    let newest = newest.page().await.unwrap();
    assert!(matches!(&newest.items[..], [BashEvent::Command(command)] if command.id == mark.id()));
    assert!(newest.next_page_id.is_some());
    let since = workspace
        .history()
        .since(moment.parse().unwrap())
        .page()
        .await
        .unwrap();
    assert_eq!(since.items.len(), 2, "{since:?}");
    let until = workspace
        .history()
        .commands()
        .until(moment.parse().unwrap());
    let before = until.newest_first().page().await.unwrap();
    assert!(!matches!(&before.items[0], BashEvent::Command(command) if command.id == mark.id()));

    // Read page by page, continuing after the last page.
    let page = workspace.history().commands().page_size(2);
    let first = page.clone().page().await.unwrap();
    let second = page
        .from_page(first.next_page_id.unwrap())
        .page()
        .await
        .unwrap();
    let id = |event: &BashEvent| match event {
        BashEvent::Command(command) => command.id.clone(),
        other => panic!("{other:?}"),
    };
    let seen: Vec<_> = first.items.iter().chain(&second.items).map(id).collect();
    let expected: Vec<_> = lines[..4].iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(seen, expected);
    let long = workspace.execute("seq 1 400000").await.unwrap();
    let rest = workspace.history().of_command(long.id()).after(0);
    let rest = rest.page().await.unwrap();
    assert!(
        matches!(&rest.items[..], [BashEvent::Output(one), BashEvent::Output(last)]
            if one.order == 1 && last.order == 2 && last.exit_code == Some(0)),
        "{rest:?}"
    );
    let nonsense = workspace.history().of_command("nonsense").page().await;
    assert_eq!(nonsense.unwrap_err().kind(), ErrorKind::Validation);

    let ids = ["0".repeat(32), mark.id().to_owned()];
    let events = workspace.history_events(ids).await.unwrap();
    assert!(
        matches!(&events[..], [None, Some(BashEvent::Command(_))]),
        "{events:?}"
    );

    // Clearing the history also removes the output of a running command, which is reported as an
    // error.
    let running = workspace
        .execute("seq 1 400000; while [ ! -e cleared ]; do sleep 0.05; done; echo end")
        .start()
        .await
        .unwrap();
    let mut output = running.output();
    assert!(matches!(
        next(&mut output).await,
        Some(Ok(OutputChunk::Stdout(_)))
    ));
    drop(output);
    assert!(workspace.clear_history().await.unwrap() > 30);
    fs::write(Path::new(workspace.working_dir()).join("cleared"), "").unwrap();
    let error = running.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutputLost, "{error}");
    assert!(workspace.history().page().await.unwrap().items.len() <= 2);
}

async fn a_conversation_has_commands_of_its_own(workspace: &Workspace) {
    let llm = Llm::new("openai/none")
        .base_url("http://127.0.0.1:9")
        .api_key("none");
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent)
        .start()
        .await
        .unwrap();
    let own = workspace.in_conversation(conversation.id());
    assert_eq!(own.conversation(), Some(conversation.id()));

    let output = own.execute("echo own; pwd").await.unwrap();
    assert_eq!(
        output.stdout(),
        format!("own\n{}\n", workspace.working_dir())
    );
    let found = own.command(output.id()).await.unwrap();
    assert_eq!(found.wait().await.unwrap(), output);
    assert_eq!(
        own.history().commands().page().await.unwrap().items.len(),
        1
    );
    let mut events = own.history().follow();
    for expected in ["the command", "its output"] {
        let event = tokio::time::timeout(LONG, events.next()).await.unwrap();
        let id = match event.unwrap().unwrap() {
            BashEvent::Command(command) => command.id,
            BashEvent::Output(piece) => piece.command_id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id, output.id(), "{expected}");
    }
    // Other commands of the server do not appear.
    workspace.execute("echo elsewhere").await.unwrap();
    let (more, event) = tokio::join!(own.execute("echo more"), events.next());
    let BashEvent::Command(command) = event.unwrap().unwrap() else {
        panic!("not the next command");
    };
    assert_eq!(command.id, more.unwrap().id());
    let unknown = workspace.command(output.id()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let outside = own.execute("pwd").cwd("/").await.unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::OutsideWorkspace, "{outside}");
    let late = own
        .execute("sleep 9")
        .timeout(Duration::from_millis(300))
        .await
        .unwrap();
    assert!(late.timed_out());
    conversation.close().await.unwrap();
}
