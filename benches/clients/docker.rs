//! Measures a server in a container: start, stop, processor time and memory, of this library and of
//! the Python client's `DockerWorkspace`; then servers from a template and from a pool of this
//! library.
//!
//! Every start is followed by a stop, so that one container runs at a time. A stop ends when the
//! engine has no container. Processor time and memory of a container are those that the engine
//! reports when the server is ready. The processor time of a client includes the programs that it
//! starts: the peer's commands of `docker`, and the keeper of this library.

use std::{
    env,
    time::{Duration, Instant},
};

use openhands::{
    process::WarmPool,
    sandbox::{DockerServer, DockerServerBuilder, DockerTemplate, Pull},
};
use openhands_benches::{Outcome, Subject, python, row, say, skipped, us, wait_for, wanted};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
};

const GRACE: Duration = Duration::from_secs(30);
const START: &str = "start";
const PEER: &str = "Python client";
/// The peer, if the engine refuses a limit that it always requests.
const PEER_UNLIMITED: &str = "Python client without `nofile`";
const REFUSED: &str = "the engine refuses the limit `nofile` 65536, which it always requests";

/// Values of one cold start, in milliseconds and MiB.
struct Cold {
    time: f64,
    used: Used,
}

/// Resources that a container has used so far.
struct Used {
    /// Milliseconds of processor time.
    processor: f64,
    /// MiB of private memory.
    memory: f64,
}

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let image = env::var("OPENHANDS_BENCH_IMAGE");
    let image = image.map_err(|_| "run this with `cargo xtask bench docker`")?;
    let mut peer = peer(&image).await?;
    for _ in 0..if smoke { 1 } else { 3 } {
        let mut ours = None;
        if wanted("ours") {
            ours = Some(cold("ours", us("docker")?, &[&image]).await?);
        }
        if let Some((name, limits)) = &mut peer
            && let Some(command) = python("sandbox")
        {
            cold(name, command, &[&image, limits]).await?;
        }
        if let (Some(cold), false) = (&ours, smoke) {
            warm(&image, cold).await?;
        }
    }
    row("server from a template", "promised", 3000.0, "ms");
    row("server from a pool", "promised", 100.0, "ms");
    Ok(())
}

/// Returns the name of the peer, and the argument with which the engine accepts its container.
async fn peer(image: &str) -> Outcome<Option<(&'static str, &'static str)>> {
    if !wanted(PEER) {
        return Ok(None);
    }
    let command = python("sandbox").filter(|_| env::var_os("OPENHANDS_WORKSPACE").is_some());
    let Some(command) = command else {
        skipped(START, PEER, "not provisioned");
        return Ok(None);
    };
    let mut subject = Subject::start(command, &[image, "limits"])?;
    subject.wait_for("up").await?;
    subject.send("start").await?;
    let started = subject.wait_for("started").await? != "refused";
    if started {
        subject.send("stop").await?;
    }
    subject.ended().await?;
    if started {
        return Ok(Some((PEER, "limits")));
    }
    skipped(START, PEER, REFUSED);
    Ok(Some((PEER_UNLIMITED, "no limits")))
}

/// Starts and stops a server with a client that is a separate process.
async fn cold(name: &str, command: Command, arguments: &[&str]) -> Outcome<Cold> {
    let mut subject = Subject::start(command, arguments)?;
    subject.wait_for("up").await?;
    let (idle, begun) = (subject.cpu_with_children()?, Instant::now());
    subject.send("start").await?;
    let id = subject.wait_for("started").await?;
    let id = id.trim_matches('"');
    let time = milliseconds(begun.elapsed());
    let used = used(id).await?;
    let client = (subject.cpu_with_children()? - idle) * 1e3;
    let begun = Instant::now();
    subject.send("stop").await?;
    subject.wait_for("stopped").await?;
    // The peer does not wait for the removal.
    while ask(&format!("/containers/{id}/json")).await?.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    row("stop", name, milliseconds(begun.elapsed()), "ms");
    subject.ended().await?;
    row(START, name, time, "ms");
    row(
        "start, processor time of the container",
        name,
        used.processor,
        "ms",
    );
    row("start, processor time of the client", name, client, "ms");
    row("memory of a container", name, used.memory, "MiB");
    Ok(Cold { time, used })
}

fn builder(image: &str) -> DockerServerBuilder {
    DockerServer::builder().image(image).pull(Pull::Never)
}

/// Measures a template with two servers, and a spare of a pool.
async fn warm(image: &str, cold: &Cold) -> Outcome {
    let begun = Instant::now();
    let template = DockerTemplate::start(2, builder(image)).await?;
    row("template", "ours", milliseconds(begun.elapsed()), "ms");
    let (before, begun) = (used(template.id()).await?, Instant::now());
    let one = template.server().await?;
    let two = template.server().await?;
    let (time, after) = (begun.elapsed(), used(template.id()).await?);
    let mean = |before: f64, after: f64| (after - before) / 2.0;
    for (work, cold, ours, unit) in [
        (
            "server from a template",
            cold.time,
            milliseconds(time) / 2.0,
            "ms",
        ),
        (
            "server from a template, processor time",
            cold.used.processor,
            mean(before.processor, after.processor),
            "ms",
        ),
        (
            "memory of a server from a template",
            cold.used.memory,
            mean(before.memory, after.memory),
            "MiB",
        ),
    ] {
        row(work, "cold start", cold, unit);
        row(work, "ours", ours, unit);
    }
    row("memory of a template", "ours", before.memory, "MiB");
    drop((one, two));
    template.shutdown(Duration::ZERO).await?;

    let pool = WarmPool::start(1, builder(image));
    while pool.ready() == 0 {
        if let Some(error) = pool.last_error() {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    let server = pool.acquire().await?;
    row(
        "server from a pool",
        "ours",
        milliseconds(begun.elapsed()),
        "ms",
    );
    row("server from a pool", "cold start", cold.time, "ms");
    pool.shutdown().await;
    let memory = used(server.id()).await?.memory;
    row("memory of a server from a pool", "ours", memory, "MiB");
    row(
        "memory of a server from a pool",
        "cold start",
        cold.used.memory,
        "MiB",
    );
    server.shutdown(GRACE).await?;
    Ok(())
}

/// Starts and stops a server, on request; called in a subject.
pub(crate) async fn play(image: &str) -> Outcome {
    say("up", &json!({}));
    wait_for("start")?;
    let server = builder(image).start().await?;
    say("started", &json!(server.id()));
    wait_for("stop")?;
    server.shutdown(GRACE).await?;
    say("stopped", &json!({}));
    Ok(())
}

/// Asks the engine what a container has used. The library does not offer this.
async fn used(container: &str) -> Outcome<Used> {
    let options = "stream=false&one-shot=true";
    let (_, body) = ask(&format!("/containers/{container}/stats?{options}")).await?;
    let stats: Value = serde_json::from_str(&body)?;
    let processor = stats["cpu_stats"]["cpu_usage"]["total_usage"].as_f64();
    let memory = &stats["memory_stats"]["stats"];
    // The first and the second version of control groups.
    let memory = memory["rss"].as_f64().or(memory["anon"].as_f64());
    Ok(Used {
        processor: processor.ok_or("no processor time")? / 1e6,
        memory: memory.ok_or("no memory")? / 1024.0 / 1024.0,
    })
}

/// Sends a request to the engine. Returns whether it succeeded, and the body of the response.
async fn ask(path: &str) -> Outcome<(bool, String)> {
    let host = env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host
        .strip_prefix("unix://")
        .ok_or("DOCKER_HOST is not a socket")?;
    let mut stream = UnixStream::connect(socket).await?;
    // HTTP 1.0, so that the response ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
    let status = head.split(' ').nth(1);
    Ok((status == Some("200"), body.to_owned()))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
