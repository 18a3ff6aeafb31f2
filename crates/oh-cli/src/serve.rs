//! `oh serve`.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Args;
use openhands::{
    LocalServer,
    process::{AttachedServer, LocalServerBuilder, Status},
};
use secrecy::ExposeSecret as _;
use tokio::time::sleep;

use crate::{
    exit::{Exit, Failure, Outcome},
    server::note,
    signals::{Signals, stopped, terminate},
};

/// Time in which the server saves its conversations and ends.
const GRACE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(crate) struct Serve {
    /// The address to listen on: an IP address or `localhost`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Allow an address that other machines can reach. Anyone with the key can then run commands on
    /// this machine, and the key is sent unencrypted.
    #[arg(long)]
    expose: bool,
    /// The port. 0: a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The directory of conversations that name none. Default: a temporary one.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The directory that keeps conversations, models and secrets. Default: a temporary one.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Run in the background, and write URL and key to this file, for `--server FILE`. Only this
    /// user can read it. The server ends when the file is removed.
    #[arg(long, value_name = "FILE")]
    detach: Option<PathBuf>,
    /// Be the server of --detach instead of starting it.
    #[arg(long, hide = true, requires = "detach")]
    foreground: bool,
}

/// `oh serve`.
pub(crate) async fn serve(options: &Serve) -> Outcome {
    match &options.detach {
        None => attended(options).await,
        Some(file) if options.foreground => background(options, file).await,
        Some(file) => detach(options, file).await,
    }
}

fn builder(options: &Serve) -> LocalServerBuilder {
    let mut builder = LocalServer::builder()
        .host(&options.host)
        .expose(options.expose)
        .port(options.port)
        .on_progress(|step| note(&step.to_string()));
    if let Some(directory) = &options.dir {
        builder = builder.workspace_dir(directory);
    }
    if let Some(directory) = &options.state_dir {
        builder = builder.state_dir(directory);
    }
    builder
}

/// Runs the server until a signal.
async fn attended(options: &Serve) -> Outcome {
    let mut signals = Signals::new()?;
    let server = tokio::select! {
        server = builder(options).start() => server?,
        signal = signals.next() => return Ok(stopped(signal)),
    };
    // The key is meant for the user of this command, so it is printed.
    let key = server.session_api_key().expose_secret();
    writeln!(io::stdout(), "{}\n{key}", server.url())?;
    until(server, async { _ = signals.next().await }).await
}

/// Is the server of `--detach`, until a signal or until the file is removed.
async fn background(options: &Serve, file: &Path) -> Outcome {
    // The end of the terminal's session must not end the server.
    #[cfg(unix)]
    let _ = rustix::process::setsid();
    let mut signals = Signals::new()?;
    let server = tokio::select! {
        server = builder(options).connection_file(file).start() => server?,
        signal = signals.next() => return Ok(stopped(signal)),
    };
    let removed = async {
        while file.exists() {
            sleep(PAUSE).await;
        }
    };
    let end = async {
        tokio::select! {
            _ = signals.next() => {}
            () = removed => {}
        }
    };
    until(server, end).await
}

/// Runs the server until this future ends, or until the server has ended.
async fn until(server: LocalServer, end: impl Future<Output = ()>) -> Outcome {
    let mut status = server.status();
    tokio::select! {
        () = end => {}
        _ = status.wait_for(|status| matches!(status, Status::Exited(_))) => {}
    }
    let report = server.shutdown(GRACE).await?;
    match report.success() {
        true => {
            note(&report.to_string());
            Ok(Exit::Finished)
        }
        false => Err(Exit::Internal.because(format!("the server has ended: {report}"))),
    }
}

/// Starts the server in the background, and waits until it is ready.
async fn detach(options: &Serve, file: &Path) -> Outcome {
    let mut signals = Signals::new()?;
    if file.exists() {
        let message = format!(
            "{} exists: another server may use it; choose another file, or remove it, which ends \
             that server",
            file.display()
        );
        return Err(Exit::Configuration.because(message));
    }
    let mut child = start(options, file)?;
    let errors = child.stderr.take().map(forward);
    loop {
        // Before the look at the file, which the end of the server removes.
        let ended = child.try_wait().map_err(Failure::from)?;
        if let Some(status) = ended {
            let last = errors.and_then(|errors| errors.join().ok());
            let exit = match status.code() {
                Some(3) => Exit::Configuration,
                _ => Exit::Internal,
            };
            return Err(exit.because(last.unwrap_or_default()));
        }
        if file.exists() && AttachedServer::from_file(file).is_ok() {
            writeln!(io::stdout(), "{}", file.display())?;
            return Ok(Exit::Finished);
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            signal = signals.next() => {
                terminate(child.id());
                let _ = child.wait();
                return Ok(stopped(signal));
            }
        }
    }
}

fn start(options: &Serve, file: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Exit::Internal.because(format!("cannot find the program `oh`: {error}"))
    })?;
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--foreground".into()];
    arguments.extend(["--detach".into(), file.into()]);
    arguments.extend(["--host".into(), options.host.clone().into()]);
    arguments.extend(["--port".into(), options.port.to_string().into()]);
    if options.expose {
        arguments.push("--expose".into());
    }
    for (name, path) in [("--dir", &options.dir), ("--state-dir", &options.state_dir)] {
        if let Some(path) = path {
            arguments.extend([name.into(), path.into()]);
        }
    }
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Exit::Internal.because(format!("cannot start `oh`: {error}")))
}

/// Shows the messages of the background server. Returns the last one, which says why it has ended.
fn forward(errors: std::process::ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut last = None;
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            let line = line.trim_start_matches("oh: ").to_owned();
            if let Some(earlier) = last.replace(line) {
                note(&earlier);
            }
        }
        last.unwrap_or_default()
    })
}
