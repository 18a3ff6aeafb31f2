//! `oh up`, `oh down` and `oh status`: a server in the background, so that runs start at once.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use openhands::{
    ConversationId, ExecutionStatus, LocalServer,
    conversation::Conversations,
    process::{RestartPolicy, TemplateServer},
    protocol::calls::conversations::Delete,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    exit::{Exit, Failure, Outcome},
    records::{self, Place, unusable},
    server::{Server, note},
    signals::Signals,
};

/// Time in which the background server saves its conversations and ends.
const GRACE: Duration = Duration::from_secs(10);
/// Time in which `oh down` expects the end.
const DOWN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Number of restarts of a server that ends unexpectedly.
const RESTARTS: u32 = 5;
const LOG: &str = "log";
/// Contains the process id. The background server ends when this file is removed: a process id may
/// belong to another program by the time that it is read.
const ALIVE: &str = "alive";
/// Time between two looks for work.
const LOOK: Duration = Duration::from_secs(15);

#[derive(Args)]
pub(crate) struct Up {
    /// End the server when it has had no work for this time. 0: never.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    idle: u64,
    /// Be the background server instead of starting it.
    #[arg(long, hide = true)]
    foreground: bool,
}

/// `oh up`.
pub(crate) async fn up(options: &Up) -> Outcome {
    if options.foreground {
        return serve(options).await;
    }
    let mut signals = Signals::new()?;
    let place = records::background()?;
    records::private(&place).map_err(|error| unusable(&place, &error))?;
    if let Some(server) = Server::background().await? {
        return show_url(&server, "the background server is already running");
    }
    let log = place.join(LOG);
    let failed = |error| unusable(&log, &error);
    let output = File::create(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let program = std::env::current_exe().map_err(|error| {
        Exit::Internal.because(format!("cannot find the program `oh`: {error}"))
    })?;
    let mut child = Command::new(program)
        .args(["up", "--foreground", "--idle", &options.idle.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| Exit::Internal.because(format!("cannot start `oh`: {error}")))?;
    loop {
        if records::connection(&place).exists()
            && let Some(server) = Server::background().await?
        {
            return show_url(&server, "the background server is running");
        }
        let ended = child.try_wait().map_err(Failure::from)?;
        // If another `oh up` was faster, its server counts.
        if let Some(status) = ended
            && !records::in_use(&place)
        {
            let log = fs::read_to_string(&log).unwrap_or_default();
            // The last message can have several lines.
            let last = log.rsplit("oh: ").next().unwrap_or_default().trim_end();
            let exit = match status.code() {
                Some(3) => Exit::Configuration,
                _ => Exit::Internal,
            };
            return Err(exit.because(format!("the background server did not start: {last}")));
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            signal = signals.next() => {
                crate::signals::terminate(child.id());
                let _ = child.wait();
                return Ok(crate::signals::stopped(signal));
            }
        }
    }
}

fn show_url(server: &Server, what: &str) -> Outcome {
    note(what);
    writeln!(io::stdout(), "{}", server.client().base_url())?;
    Ok(Exit::Finished)
}

/// Is the background server, until it is idle or a signal ends it.
async fn serve(options: &Up) -> Outcome {
    // The end of the terminal's session must not end the server.
    #[cfg(unix)]
    let _ = rustix::process::setsid();
    let mut signals = Signals::new()?;
    let place = Place::open(records::background()?)?;
    place.write(ALIVE, std::process::id().to_string().as_bytes())?;
    let alive = place.path().join(ALIVE);
    let outcome = run(options, &place, &alive, &mut signals).await;
    // Removed already if `oh down` has ended the server.
    let _ = fs::remove_file(&alive);
    outcome
}

/// Starts the background server, and waits for its end.
async fn run(options: &Up, place: &Place, alive: &Path, signals: &mut Signals) -> Outcome {
    let begun = async {
        // Restarts take a second with a template, and the server shares its memory.
        let template = TemplateServer::builder()
            .on_progress(|step| note(&step.to_string()))
            .start()
            .await?;
        let server = LocalServer::builder()
            .template(&template)
            .state_dir(place.server())
            .connection_file(records::connection(place.path()))
            .restart(RestartPolicy::on_failure(RESTARTS))
            .start()
            .await?;
        Ok::<_, Failure>((template, server))
    };
    let (_template, server) = tokio::select! {
        begun = begun => begun?,
        signal = signals.next() => return Ok(crate::signals::stopped(signal)),
        () = removed(alive) => return Ok(Exit::Finished),
    };
    let mut status = server.status();
    tokio::select! {
        _ = signals.next() => {}
        () = removed(alive) => {}
        () = idle(&server, options.idle) => note("the server has had no work"),
        _ = status.wait_for(|status| matches!(status, openhands::process::Status::Exited(_))) => {}
    }
    let report = server.shutdown(GRACE).await?;
    note(&report.to_string());
    match report.success() {
        true => Ok(Exit::Finished),
        false => Err(Exit::Internal.because("the server did not end in order")),
    }
}

/// Waits until `oh down` has removed the file.
async fn removed(alive: &Path) {
    while alive.exists() {
        sleep(PAUSE).await;
    }
}

/// Waits until the server has had no work for this time.
async fn idle(server: &LocalServer, seconds: u64) {
    if seconds == 0 {
        std::future::pending::<()>().await;
    }
    let limit = Duration::from_secs(seconds);
    loop {
        sleep(limit.min(LOOK)).await;
        let running = Conversations::of(server.client()).count(Some(ExecutionStatus::Running));
        // A server that does not respond is restarted, or has ended.
        if let (Ok(0), Ok(info)) = (running.await, server.client().server_info().await)
            && info.idle_time >= limit.as_secs_f64()
        {
            return;
        }
    }
}

/// `oh down`.
pub(crate) async fn down() -> Outcome {
    let place = records::background()?;
    if !records::in_use(&place) {
        note("no background server is running");
        return Ok(Exit::Finished);
    }
    let limit = Instant::now() + DOWN;
    while records::in_use(&place) {
        if Instant::now() >= limit {
            return Err(Exit::Internal.because("the background server does not end"));
        }
        let alive = place.join(ALIVE);
        match fs::remove_file(&alive) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unusable(&alive, &error));
            }
            _ => sleep(PAUSE).await,
        }
    }
    note("the background server has ended");
    Ok(Exit::Finished)
}

#[derive(Args)]
pub(crate) struct Status {
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// The line of `oh status --json`.
#[derive(Serialize)]
struct Report {
    running: bool,
    url: Option<String>,
    pid: Option<u32>,
    server_version: Option<String>,
    /// Seconds since the server started.
    uptime: Option<f64>,
    /// Seconds since its last work.
    idle: Option<f64>,
    conversations: Option<u64>,
    working: Option<u64>,
}

/// `oh status`.
pub(crate) async fn status(options: &Status) -> Outcome {
    let place = records::background()?;
    let report = match Server::background().await? {
        None => Report {
            running: false,
            url: None,
            pid: None,
            server_version: None,
            uptime: None,
            idle: None,
            conversations: None,
            working: None,
        },
        Some(server) => report(&server, &place).await?,
    };
    let mut out = io::stdout().lock();
    if options.json {
        let line = serde_json::to_string(&report)
            .map_err(|error| Exit::Internal.because(error.to_string()))?;
        writeln!(out, "{line}")?;
        return Ok(Exit::Finished);
    }
    let Some(url) = &report.url else {
        writeln!(
            out,
            "no background server is running: start it with `oh up`"
        )?;
        return Ok(Exit::Finished);
    };
    writeln!(
        out,
        "server {} at {url}",
        report.server_version.as_deref().unwrap_or("unknown")
    )?;
    let (total, working) = (report.conversations, report.working);
    writeln!(
        out,
        "{} conversations, {} running; up for {:.0} s, idle for {:.0} s",
        total.unwrap_or_default(),
        working.unwrap_or_default(),
        report.uptime.unwrap_or_default(),
        report.idle.unwrap_or_default()
    )?;
    Ok(Exit::Finished)
}

async fn report(server: &Server, place: &Path) -> Result<Report, Failure> {
    let info = server.client().server_info().await?;
    let conversations = Conversations::of(server.client());
    let running = conversations.count(Some(ExecutionStatus::Running)).await?;
    let pid = fs::read_to_string(place.join(ALIVE)).ok();
    Ok(Report {
        running: true,
        url: Some(server.client().base_url().to_string()),
        pid: pid.and_then(|pid| pid.parse().ok()),
        server_version: Some(info.version.clone()),
        uptime: Some(info.uptime),
        idle: Some(info.idle_time),
        conversations: Some(conversations.count(None).await?),
        working: Some(running),
    })
}

/// Deletes a conversation of the server in this place, whether the server is running or not.
pub(crate) async fn delete(place: &Path, id: ConversationId) -> Result<(), Failure> {
    if let Some(server) = Server::of_another_program(place).await? {
        return match server.client().call(Delete::new(id)).await {
            // Deleted by another program.
            Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        };
    }
    let place = Place::open(place.to_owned())?;
    let path = place.server().join("conversations").join(id.to_hex());
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path, &error)),
        _ => Ok(()),
    }
}
