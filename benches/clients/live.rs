//! Measures live events over one socket into a mirror and one callback. The floor reads frames and
//! drops them.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use bytes::Bytes;
use openhands::{
    Agent, Client, Llm,
    protocol::{
        calls::conversations::{Create, Delete},
        config::StartConversation,
    },
    testkit::{FakeServer, fake::FakeConversation},
};
use openhands_benches::{Corpus, Outcome, Subject, python, row, skipped, typescript, us, wanted};
use tempfile::NamedTempFile;
use tokio::{process::Command, time::sleep};

/// Measured values of a subject.
pub(crate) struct Taken {
    /// Time from the first logged event until every callback has received the last one.
    pub(crate) seconds: f64,
    /// CPU time of the subject during that time.
    pub(crate) cpu: f64,
    /// Memory growth in bytes, with all connections open and all events received.
    pub(crate) held: f64,
    pub(crate) threads: f64,
    /// Number of requests while idle.
    pub(crate) asked: f64,
}

/// Work for a subject.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    conversations: usize,
    /// Number of events of each conversation.
    events: usize,
    /// Number of callbacks of each conversation.
    readers: usize,
    in_turns: bool,
    idle: Duration,
}

impl Work {
    /// Sends each conversation all of its events at once.
    pub(crate) fn new(conversations: usize, events: usize, readers: usize) -> Self {
        Self {
            conversations,
            events,
            readers,
            in_turns: false,
            idle: Duration::ZERO,
        }
    }

    /// Sends one event at a time to each conversation in turn, as if all were running.
    pub(crate) fn in_turns(mut self) -> Self {
        self.in_turns = true;
        self
    }

    /// Sends nothing for this time after all events have been received.
    pub(crate) fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }
}

/// Time of a turn per conversation. Long enough that no conversation receives its next event
/// together with the previous one.
const TURN: Duration = Duration::from_micros(100);

/// A server and the events that are sent through it.
pub(crate) struct Stage {
    server: FakeServer,
    client: Client,
    events: Vec<Bytes>,
}

impl Stage {
    pub(crate) async fn new(events: usize) -> Outcome<Self> {
        let server = FakeServer::builder().open().start().await?;
        let client = Client::builder(server.url()).ignore_environment().build()?;
        let events = Corpus::recorded()?.events(events).collect();
        Ok(Self {
            server,
            client,
            events,
        })
    }

    pub(crate) fn server(&self) -> &FakeServer {
        &self.server
    }

    pub(crate) fn events(&self, count: usize) -> impl Iterator<Item = Bytes> {
        self.events[..count].iter().cloned()
    }

    /// Returns how many runs were requested.
    pub(crate) fn runs(&self) -> usize {
        let requests = self.server.requests();
        let runs = requests.iter().filter(|seen| seen.path.ends_with("/run"));
        runs.count()
    }

    pub(crate) fn bytes(&self, events: usize) -> usize {
        self.events[..events].iter().map(Bytes::len).sum()
    }

    /// Creates a conversation with an agent that every client can decode.
    pub(crate) async fn conversation(&self) -> Outcome<FakeConversation> {
        let agent = Agent::default_preset(Llm::new("openai/scripted")).cli_mode(true);
        let start = StartConversation::new(agent, "/fake");
        let created = self.client.call(&Create::new(start)).await?;
        Ok(self.server.conversation(created.info.id())?)
    }

    /// Lets a subject follow conversations while they receive events.
    pub(crate) async fn follow(&self, subject: Command, work: Work) -> Outcome<Taken> {
        let Work {
            conversations,
            events,
            readers,
            in_turns,
            idle,
        } = work;
        let mut logs = Vec::new();
        let mut ids = NamedTempFile::new()?;
        for _ in 0..conversations {
            let log = self.conversation().await?;
            writeln!(ids, "{}", log.id())?;
            logs.push(log);
        }
        let path = ids.path().display().to_string();
        let (count, readers) = (events.to_string(), readers.to_string());
        let url = self.server.url();
        let mut subject = Subject::start(subject, &[&url, &path, &count, &readers])?;
        subject.wait_for("up").await?;
        let before = subject.memory()?;
        subject.send("go").await?;
        subject.wait_for("ready").await?;
        let (cpu, begun) = (subject.cpu()?, Instant::now());
        if in_turns {
            for event in self.events(events) {
                for log in &logs {
                    log.log_all([event.clone()]).await;
                }
                sleep(TURN * u32::try_from(conversations)?).await;
            }
        } else {
            for log in &logs {
                log.log_all(self.events(events)).await;
            }
        }
        subject.wait_for("done").await?;
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), subject.cpu()? - cpu);
        let asked = self.server.requests().len();
        sleep(idle).await;
        let taken = Taken {
            seconds,
            cpu,
            asked: (self.server.requests().len() - asked) as f64,
            held: subject.memory()? - before,
            threads: subject.threads()?,
        };
        subject.send("end").await?;
        subject.ended().await?;
        for log in logs {
            self.forget(&log).await?;
        }
        Ok(taken)
    }

    /// Deletes the conversation, so that every subject starts with an empty server.
    pub(crate) async fn forget(&self, log: &FakeConversation) -> Outcome {
        self.client.call(&Delete::new(log.id())).await?;
        Ok(())
    }
}

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let (count, rounds) = if smoke { (500, 1) } else { (200_000, 4) };
    let stage = Stage::new(count).await?;
    for round in 0..rounds {
        let slow = round % 2 == 0;
        let subjects = [
            ("bare frame reader", Some(us("live-floor")?), true),
            ("ours", Some(us("live")?), true),
            ("TypeScript client", typescript("live"), true),
            ("Python SDK", python("live"), slow),
        ];
        for (name, command, takes_part) in subjects {
            if !takes_part || !wanted(name) {
                continue;
            }
            let Some(command) = command else {
                skipped("live", name, "not provisioned");
                continue;
            };
            let taken = stage.follow(command, Work::new(1, count, 1)).await?;
            row("live", name, count as f64 / taken.seconds, "events/s");
            let each = taken.cpu * 1e6 / count as f64;
            row("live, processor time", name, each, "µs/event");
            let over = taken.held / stage.bytes(count) as f64;
            row("memory", name, over, "bytes/byte");
        }
    }
    Ok(())
}
