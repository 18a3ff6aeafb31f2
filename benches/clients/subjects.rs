//! The processes that a measurement starts, for this library and for the floor.

use std::{
    fs,
    hint::black_box,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use openhands::{Client, Conversation, ConversationId, Cursor, protocol::calls::events::Search};
use openhands_benches::{Outcome, say, upgraded, wait_for};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{docker, main_job, tail::WANTED};

/// Number of connections opened at the same time.
const AT_ONCE: usize = 32;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);

pub(crate) async fn play(role: &str, arguments: &[&str]) -> Outcome {
    match (role, arguments) {
        ("live", [url, ids, count, readers]) => {
            live(url, &ids_of(ids)?, count.parse()?, readers.parse()?).await
        }
        ("live-floor", [url, ids, count, _]) => {
            live_floor(url, &ids_of(ids)?, count.parse()?).await
        }
        ("attach", [url, id, count]) => attach(url, id, count.parse()?).await,
        ("attach-floor", [url, id, count]) => attach_floor(url, id, count.parse()?).await,
        ("tail", [url, id, _]) => tail(url, id).await,
        ("older", [url, id, count]) => older(url, id, count.parse()?).await,
        ("older-floor", [url, id, count]) => older_floor(url, id, count.parse()?).await,
        ("returns", [url, id]) => returns(url, id).await,
        ("docker", [image]) => docker::play(image).await,
        ("main-job-floor", []) => main_job::floor().await,
        _ => Err(format!("no role `{role}` of so many arguments").into()),
    }
}

fn client(url: &str) -> Outcome<Client> {
    let mut builder = Client::builder(url).ignore_environment();
    if let Some(key) = key() {
        builder = builder.session_api_key(key);
    }
    Ok(builder.build()?)
}

fn key() -> Option<String> {
    std::env::var("OPENHANDS_KEY").ok()
}

fn ids_of(path: &str) -> Outcome<Vec<String>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Follows conversations, each with `readers` callbacks, until every callback has received `count`
/// events.
async fn live(url: &str, ids: &[String], count: usize, readers: usize) -> Outcome {
    let client = client(url)?;
    say("up", &json!({}));
    wait_for("go")?;
    let conversations: Vec<Conversation> = stream::iter(ids)
        .map(async |id| Outcome::Ok(Conversation::attach(&client, id.parse()?).await?))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let (done, mut finished) = mpsc::unbounded_channel();
    for conversation in &conversations {
        for _ in 0..readers {
            let (done, mut seen) = (done.clone(), 0);
            let callback = conversation.on_event(move |event| {
                black_box(event.kind());
                seen += 1;
                if seen == count {
                    _ = done.send(());
                }
            });
            callback.detach();
        }
    }
    say("ready", &json!({}));
    for _ in 0..conversations.len() * readers {
        timeout(PATIENCE, finished.recv()).await?;
    }
    say("done", &json!({}));
    wait_for("end")?;
    for conversation in &conversations {
        if conversation.events().len() != count {
            return Err("a mirror holds other events than it was sent".into());
        }
    }
    Ok(())
}

/// Reads frames from one socket per conversation and drops them.
async fn live_floor(url: &str, ids: &[String], count: usize) -> Outcome {
    let address = url.trim_start_matches("http://").to_owned();
    say("up", &json!({}));
    wait_for("go")?;
    let sockets: Vec<_> = stream::iter(ids)
        .map(async |id| {
            let target = format!("/sockets/session/{id}?after_seq=-1");
            let mut socket = upgraded(&address, &target, None).await?;
            while !is_snapshot(socket.next().await?) {}
            Outcome::Ok(socket)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut tasks = JoinSet::new();
    for mut socket in sockets {
        tasks.spawn(async move {
            let mut seen = 0;
            while seen < count {
                seen += usize::from(is_durable(socket.next().await?));
            }
            Outcome::Ok(socket)
        });
    }
    say("ready", &json!({}));
    let mut kept = Vec::new();
    while let Some(done) = tasks.join_next().await {
        kept.push(done??);
    }
    say("done", &json!({}));
    wait_for("end")?;
    Ok(())
}

fn is_durable(frame: &[u8]) -> bool {
    frame.starts_with(br#"{"type":"durable""#)
}

fn is_snapshot(frame: &[u8]) -> bool {
    frame.starts_with(br#"{"type":"transient""#)
}

/// Attaches to a conversation and loads all of it.
async fn attach(url: &str, id: &str, count: usize) -> Outcome {
    let (client, id): (_, ConversationId) = (client(url)?, id.parse()?);
    say("up", &json!({}));
    wait_for("go")?;
    let conversation = Conversation::attach(&client, id).await?;
    say("done", &json!({}));
    wait_for("end")?;
    let events = conversation.events();
    if events.len() != count || events.iter().any(|event| event.malformed().is_some()) {
        return Err(format!("attached to {} events", events.len()).into());
    }
    let bytes: usize = events.iter().map(|event| event.raw().len()).sum();
    say("bytes", &json!(bytes));
    conversation.close().await?;
    Ok(())
}

/// Drains the session socket up to the snapshot that follows the history.
async fn attach_floor(url: &str, id: &str, count: usize) -> Outcome {
    say("up", &json!({}));
    wait_for("go")?;
    let target = format!("/sockets/session/{id}?after_seq=-1");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut socket = upgraded(address, &target, key().as_deref()).await?;
    let mut seen = 0;
    loop {
        let frame = socket.next().await?;
        if is_snapshot(frame) {
            break;
        }
        seen += usize::from(is_durable(frame));
    }
    say("done", &json!({}));
    if seen != count {
        return Err(format!("{seen} frames for {count} events").into());
    }
    wait_for("end")?;
    Ok(())
}

/// Attaches to the newest events of a conversation.
async fn tail(url: &str, id: &str) -> Outcome {
    let (client, id): (_, ConversationId) = (client(url)?, id.parse()?);
    say("up", &json!({}));
    wait_for("go")?;
    let conversation = Conversation::attach(&client, id).tail(WANTED).await?;
    say("done", &json!({}));
    wait_for("end")?;
    let held = conversation.events().len();
    if !(WANTED..WANTED * 3).contains(&held) {
        return Err(format!("{held} events are held").into());
    }
    conversation.close().await?;
    Ok(())
}

/// Loads the first events of a conversation through a handle that holds only the newest.
async fn older(url: &str, id: &str, count: usize) -> Outcome {
    let (client, id): (_, ConversationId) = (client(url)?, id.parse()?);
    let conversation = Conversation::attach(&client, id).tail(WANTED).await?;
    say("up", &json!({}));
    wait_for("go")?;
    let mut events = conversation.subscribe(Cursor::Start);
    for _ in 0..count {
        let event = timeout(PATIENCE, events.next()).await?;
        black_box(event.ok_or("the events ended")??);
    }
    say("done", &json!({}));
    wait_for("end")?;
    conversation.close().await?;
    Ok(())
}

/// Loads the same events page by page, as text.
async fn older_floor(url: &str, id: &str, count: usize) -> Outcome {
    let (client, id): (_, ConversationId) = (client(url)?, id.parse()?);
    say("up", &json!({}));
    wait_for("go")?;
    let (mut seen, mut call) = (0, Search::new(id).limit(100));
    while seen < count {
        let page = client.call(&call).await?;
        seen += page.items.len();
        let next = page.next_page_id.ok_or("the events ended")?;
        call = Search::new(id).limit(100).page_id(next);
    }
    say("done", &json!({}));
    wait_for("end")?;
    Ok(())
}

/// Runs whenever the driver requests it, and prints when each run returned.
async fn returns(url: &str, id: &str) -> Outcome {
    let conversation = Conversation::attach(&client(url)?, id.parse()?).await?;
    say("up", &json!({}));
    while wait_for("go")? == "go" {
        let outcome = conversation.run().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        say("returned", &json!(now.as_secs_f64()));
        if !outcome.is_finished() {
            return Err(format!("a run ended as {outcome}").into());
        }
    }
    Ok(())
}
