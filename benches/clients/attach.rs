//! Measures attaching to a long conversation on the real server: a recorded one, extended on its
//! disk. The floor drains the session socket.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use openhands::{
    Agent, Conversation, ConversationId, Llm, LocalServer, WorkspaceExt,
    testkit::{Script, ScriptedModel},
};
use openhands_benches::{Corpus, Outcome, Subject, python, row, skipped, typescript, us, wanted};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;

pub(crate) const GRACE: Duration = Duration::from_secs(30);

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let (count, rounds) = if smoke { (300, 1) } else { (20_000, 4) };
    let directory = tempfile::tempdir()?;
    let (id, count) = grown(directory.path(), count).await?;
    let server = LocalServer::builder()
        .state_dir(directory.path())
        .start()
        .await?;
    // The first reader only warms the server's own caches.
    let mut bytes = None;
    let url = server.url().as_str();
    let key = Some(server.session_api_key());
    take(us("attach-floor")?, url, key, id, count).await?;
    for round in 0..rounds {
        let subjects = [
            ("bare drain", Some(us("attach-floor")?)),
            ("ours", Some(us("attach")?)),
            ("TypeScript client", typescript("attach")),
            ("Python SDK", python("attach").filter(|_| round % 2 == 0)),
        ];
        for (name, command) in subjects {
            if !wanted(name) {
                continue;
            }
            let Some(command) = command else {
                if round == 0 {
                    skipped("attach", name, "not provisioned");
                }
                continue;
            };
            let taken = take(command, url, key, id, count).await?;
            bytes = bytes.or(taken.bytes);
            row("attach", name, taken.seconds * 1e3, "ms");
            row("attach, processor time", name, taken.cpu * 1e3, "ms");
            if let Some(bytes) = bytes.filter(|_| name != "bare drain") {
                row("retained memory", name, taken.held / bytes, "bytes/byte");
            }
        }
    }
    row("retained memory", "promised", 1.5, "bytes/byte");
    server.shutdown(GRACE).await?;
    Ok(())
}

/// Measured values of an attachment.
pub(crate) struct Taken {
    pub(crate) seconds: f64,
    /// CPU time of the subject.
    pub(crate) cpu: f64,
    /// Memory growth in bytes.
    pub(crate) held: f64,
    /// Size of the events in bytes, if the subject reports it.
    bytes: Option<f64>,
}

pub(crate) async fn take(
    mut command: Command,
    url: &str,
    key: Option<&SecretString>,
    id: ConversationId,
    count: usize,
) -> Outcome<Taken> {
    if let Some(key) = key {
        command.env("OPENHANDS_KEY", key.expose_secret());
    }
    let mut subject = Subject::start(command, &[url, &id.to_string(), &count.to_string()])?;
    subject.wait_for("up").await?;
    let (memory, cpu) = (subject.memory()?, subject.cpu()?);
    let begun = Instant::now();
    subject.send("go").await?;
    subject.wait_for("done").await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = subject.cpu()? - cpu;
    let held = subject.memory()? - memory;
    subject.send("end").await?;
    let said = subject.ended().await?;
    let bytes = said.and_then(|line| line.strip_prefix("bytes ")?.parse().ok());
    Ok(Taken {
        seconds,
        cpu,
        held,
        bytes,
    })
}

/// Creates a conversation of about `count` events on the real server, and returns its exact length.
/// The conversation is recorded first, and then extended on disk while the server is stopped.
pub(crate) async fn grown(state: &Path, count: usize) -> Outcome<(ConversationId, usize)> {
    let model = ScriptedModel::start(Script::new().finish("Done.")).await?;
    let server = LocalServer::builder().state_dir(state).start().await?;
    let workspace = server.workspace(server.workspace_dir());
    let llm = Llm::new(ScriptedModel::MODEL)
        .api_key("none")
        .base_url(model.base_url());
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent).start().await?;
    conversation.send("Say that you are done.").await?;
    let outcome = conversation.run().await?;
    if !outcome.is_finished() {
        return Err(format!("the run to grow from ended as {outcome}").into());
    }
    let id = conversation.id();
    conversation.close().await?;
    server.shutdown(GRACE).await?;

    let events = find(state, "events")?;
    let held = fs::read_dir(&events)?.filter(is_event);
    let mut last = held.count();
    // Status events do not change the state here, because the state is in a separate file.
    let corpus = Corpus::recorded()?.of_default_tools()?;
    for event in corpus.events(count.saturating_sub(last)) {
        let id = std::str::from_utf8(&event[7..43])?;
        fs::write(events.join(format!("event-{last:05}-{id}.json")), &event)?;
        last += 1;
    }
    Ok((id, last))
}

/// Returns the events directory of the only conversation.
fn find(state: &Path, name: &str) -> Outcome<PathBuf> {
    let mut directories = vec![state.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            if entry.file_name() == name && fs::read_dir(entry.path())?.any(|file| is_event(&file))
            {
                return Ok(entry.path());
            }
            directories.push(entry.path());
        }
    }
    Err("the server kept no events".into())
}

fn is_event(file: &io::Result<fs::DirEntry>) -> bool {
    let name = file.as_ref().map(fs::DirEntry::file_name);
    name.is_ok_and(|name| name.to_string_lossy().starts_with("event-"))
}
