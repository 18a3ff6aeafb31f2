//! `oh cp`.

use std::{
    error::Error as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use openhands::{
    ConversationId, Workspace,
    workspace::{Error, ErrorKind, Progress},
};

use crate::{
    exit::{Exit, Failure, Outcome},
    records::clean,
    server::At,
    signals::{Signals, stopped},
    site::Site,
};

/// The name of the server's side without a run.
const SERVER: &str = "server";
/// Stdin or stdout.
const STREAM: &str = "-";
/// Time for a small command on the server.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: At,
    /// The file to copy: a path on this machine, ID:PATH in the directory of a run, or server:PATH.
    /// `-` is stdin.
    source: String,
    /// The copy, written in the same way: a file or a directory. `-` is stdout.
    target: String,
}

/// A side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a str),
    /// The id of a run, or `server`, and the path there.
    There(&'a str, &'a str),
}

impl<'a> Side<'a> {
    fn of(text: &'a str) -> Self {
        match text.split_once(':') {
            // A path with a colon is written as `./a:b`.
            Some((name, path)) if !name.is_empty() && !name.contains('/') => {
                Self::There(name, path)
            }
            _ => Self::Here(text),
        }
    }
}

/// Copies a file to a server or from there.
pub(crate) async fn cp(options: Options) -> Outcome {
    let mut signals = Signals::new()?;
    let (name, copy) = match (Side::of(&options.source), Side::of(&options.target)) {
        (Side::There(name, from), Side::Here(to)) => (name, Copy::Down { from, to }),
        (Side::Here(from), Side::There(name, to)) => (name, Copy::Up { from, to }),
        _ => {
            let message = "one side must be on the server, such as ID:PATH or server:PATH, and the \
                           other one here";
            return Err(Exit::Usage.because(message));
        }
    };
    let found = async {
        match name {
            SERVER => Site::of_server(&options.at).await,
            id => Site::of_run(id, &options.at).await,
        }
    };
    let site = tokio::select! {
        found = found => found?,
        signal = signals.next() => return Ok(stopped(signal)),
    };
    let exit = copy.run(&site.workspace, &mut signals).await?;
    tokio::select! {
        ended = site.server.end(exit != Exit::Finished) => ended?,
        // Dropping the server ends it at once.
        signal = signals.next() => return Ok(stopped(signal)),
    }
    Ok(exit)
}

enum Copy<'a> {
    Down { from: &'a str, to: &'a str },
    Up { from: &'a str, to: &'a str },
}

impl Copy<'_> {
    /// Copies. After a signal, the target is as it was, and nothing else is left.
    async fn run(&self, workspace: &Workspace, signals: &mut Signals) -> Outcome {
        match *self {
            Self::Down { from, to } => tokio::select! {
                copied = down(workspace, from, to) => copied.map(|()| Exit::Finished),
                signal = signals.next() => Ok(stopped(signal)),
            },
            Self::Up { from, to } => up(workspace, from, to, signals).await,
        }
    }
}

async fn down(workspace: &Workspace, from: &str, to: &str) -> Result<(), Failure> {
    let bar = bar();
    let shown = bar.clone();
    let download = workspace
        .download(from)
        .progress(move |progress| show(&shown, progress));
    let copied = match to {
        STREAM => download.to_writer(io::stdout()).await.map(drop),
        to => {
            let mut target = PathBuf::from(to);
            if target.is_dir() || to.ends_with('/') {
                target.push(name_of(from)?);
            }
            download.to_path(target).await.map(drop)
        }
    };
    bar.finish_and_clear();
    copied.map_err(|error| match error.kind() {
        ErrorKind::InvalidPath => directory(from),
        _ => failed(error),
    })
}

async fn up(workspace: &Workspace, from: &str, to: &str, signals: &mut Signals) -> Outcome {
    if from != STREAM && Path::new(from).is_dir() {
        return Err(directory(from));
    }
    let name = match from {
        STREAM => None,
        from => Some(name_of(from)?),
    };
    let target = tokio::select! {
        target = target(workspace, to, name) => target?,
        signal = signals.next() => return Ok(stopped(signal)),
    };
    // The server writes in place, so a file that is complete is renamed.
    let partial = format!("{target}.oh-{}", ConversationId::random().to_hex());
    let switch = Switch::default();
    let copied = {
        let mut sent = pin!(send(workspace, from, &partial, switch.clone()));
        tokio::select! {
            sent = &mut sent => sent.map(|()| Exit::Finished),
            // Dropping an incomplete upload leaves nothing. The server writes a complete one, even
            // if nobody waits for it: a file that is removed too early would appear again.
            signal = signals.next() => match switch.stop() {
                true => return Ok(stopped(signal)),
                false => tokio::select! {
                    _ = &mut sent => Ok(stopped(signal)),
                    again = signals.next() => return Ok(stopped(again)),
                },
            },
        }
    };
    let moved = match copied {
        Ok(Exit::Finished) => {
            let line = format!("mv -f -- {} {}", quoted(&partial), quoted(&target));
            shell(workspace, &line).await.map(|_| Exit::Finished)
        }
        other => other,
    };
    if !matches!(moved, Ok(Exit::Finished)) {
        let line = format!("rm -f -- {}", quoted(&partial));
        tokio::select! {
            // The reason for the failure matters more.
            _ = shell(workspace, &line) => {}
            _ = signals.next() => {}
        }
    }
    moved
}

/// Sends a file or stdin to this path on the server.
async fn send(workspace: &Workspace, from: &str, to: &str, switch: Switch) -> Result<(), Failure> {
    let unreadable =
        |error: io::Error| Exit::Configuration.because(format!("cannot read {from}: {error}"));
    let bar = bar();
    let shown = bar.clone();
    let upload = workspace
        .upload(to)
        .progress(move |progress| shown.set_position(progress.done));
    let copied = match from {
        STREAM => {
            let source = io::stdin();
            upload.from_reader(Stoppable { source, switch }).await
        }
        from => {
            let source = File::open(from).map_err(unreadable)?;
            let state = |file: &File| {
                file.metadata()
                    .and_then(|meta| Ok((meta.len(), meta.modified()?)))
            };
            let before = state(&source).map_err(unreadable)?;
            bar.set_length(before.0);
            let watched = source.try_clone().map_err(unreadable)?;
            let copied = upload.from_reader(Stoppable { source, switch }).await;
            if copied.is_ok() && state(&watched).map_err(unreadable)? != before {
                let message = format!("{from} has changed while it was copied: try again");
                return Err(Exit::Configuration.because(message));
            }
            copied
        }
    };
    bar.finish_and_clear();
    copied.map(drop).map_err(failed)
}

/// Decides between the end of a source and a signal. The first one counts.
#[derive(Clone, Default)]
struct Switch(Arc<OnceLock<Position>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Ended,
    Stopped,
}

impl Switch {
    /// Stops the source. Returns false if it has ended before.
    fn stop(&self) -> bool {
        *self.0.get_or_init(|| Position::Stopped) == Position::Stopped
    }

    /// Ends the source. Returns false if it was stopped before.
    fn end(&self) -> bool {
        *self.0.get_or_init(|| Position::Ended) == Position::Ended
    }
}

/// A source that never ends after it was stopped: its next read fails.
struct Stoppable<R> {
    source: R,
    switch: Switch,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        match count > 0 || self.switch.end() {
            true => Ok(count),
            false => Err(io::Error::other("stopped")),
        }
    }
}

/// Returns the path of the copy: if `to` is a directory, the name in it.
async fn target(workspace: &Workspace, to: &str, name: Option<&str>) -> Result<String, Failure> {
    let to = if to.is_empty() { "." } else { to };
    let line = format!("if [ -d {} ]; then echo directory; fi", quoted(to));
    let is_directory = shell(workspace, &line).await?.trim() == "directory";
    match (is_directory || to.ends_with('/'), name) {
        (false, _) => Ok(to.to_owned()),
        (true, Some(name)) => Ok(format!("{}/{name}", to.trim_end_matches('/'))),
        (true, None) => {
            let message = format!("{to} is a directory: give the copy of stdin a name");
            Err(Exit::Usage.because(message))
        }
    }
}

/// Runs a line on the server, and returns its output.
async fn shell(workspace: &Workspace, line: &str) -> Result<String, Failure> {
    let output = workspace.execute(line).timeout(LIMIT).await?;
    match output.success() {
        true => Ok(output.stdout().to_owned()),
        false => {
            let message = format!(
                "cannot copy on the server: {}",
                clean(output.stderr().trim())
            );
            Err(Exit::Configuration.because(message))
        }
    }
}

/// Quotes text as one shell word. A leading dash is no option then.
fn quoted(text: &str) -> String {
    let here = if text.starts_with('-') { "./" } else { "" };
    format!("'{here}{}'", text.replace('\'', r"'\''"))
}

/// Returns the name of the file at the end of a path.
fn name_of(path: &str) -> Result<&str, Failure> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Exit::Usage.because(format!("{path} has no file name")))
}

fn directory(path: &str) -> Failure {
    let message = format!(
        "{path} is a directory, and `oh cp` copies files: pack it first, for example with `oh exec \
         -- tar -cf pack.tar DIR`"
    );
    Exit::Usage.because(message)
}

fn failed(error: Error) -> Failure {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    let source = error.source().and_then(|source| source.downcast_ref());
    match error.kind() {
        ErrorKind::Io if source.is_some_and(closed) => Exit::ClosedOutput.because(""),
        ErrorKind::Io | ErrorKind::PermissionDenied => {
            Exit::Configuration.because(error.to_string())
        }
        _ => error.into(),
    }
}

/// Creates the progress bar, which is shown on a terminal only.
fn bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    // The template is valid, and the default one is good enough.
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    if let Some(total) = progress.total {
        bar.set_length(total);
    }
    bar.set_position(progress.done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_was_stopped_never_ends() {
        let switch = Switch::default();
        let source = &b"text"[..];
        let mut stopped = Stoppable {
            source,
            switch: switch.clone(),
        };
        let mut buffer = [0; 9];
        assert_eq!(stopped.read(&mut buffer).unwrap(), 4);
        assert!(switch.stop());
        stopped.read(&mut buffer).unwrap_err();

        let switch = Switch::default();
        let mut ended = Stoppable {
            source: io::empty(),
            switch: switch.clone(),
        };
        assert_eq!(ended.read(&mut buffer).unwrap(), 0);
        assert!(!switch.stop());
        assert_eq!(ended.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_colon_names_the_other_side_unless_it_is_in_a_path() {
        assert_eq!(Side::of("4b1c:out/a"), Side::There("4b1c", "out/a"));
        assert_eq!(
            Side::of("server:/tmp/a:b"),
            Side::There("server", "/tmp/a:b")
        );
        assert_eq!(Side::of("server:"), Side::There("server", ""));
        for here in ["a", "./a:b", "/tmp/a:b", ":a", "-"] {
            assert_eq!(Side::of(here), Side::Here(here));
        }
    }
}
