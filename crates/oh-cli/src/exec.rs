//! `oh exec`.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use openhands::workspace::{CommandEnd, LiveChunk, LiveOutput};

use crate::{
    exit::{Exit, Failure, Outcome},
    server::{At, note},
    signals::{Signal, Signals, stopped},
    site::Site,
};

/// Time in which a stopped command must end.
const SETTLE: Duration = Duration::from_secs(10);
/// The exit code of a command whose time was over, as of `timeout`.
const TIMED_OUT: u8 = 124;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: At,
    /// The directory. Default: that of the run; the current one; with --server, the home of the
    /// server's user.
    #[arg(long, value_name = "DIR")]
    dir: Option<String>,
    /// Work where this run works: on its server, in its directory.
    #[arg(long = "in", value_name = "ID")]
    run: Option<String>,
    /// Stop the command after this time.
    #[arg(long, value_name = "SECONDS", default_value_t = 86400,
          value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// The program and its arguments. A single argument is a line for the shell.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs a command on a server. Shows its output while it is written.
pub(crate) async fn exec(options: Options) -> Outcome {
    let mut signals = Signals::new()?;
    let begun = async {
        let mut site = match &options.run {
            Some(id) => Site::of_run(id, &options.at).await?,
            None => Site::of_server(&options.at).await?,
        };
        if let Some(directory) = &options.dir {
            site.enter(directory)?;
        }
        let execute = site.workspace.execute(line(&options.command));
        let limit = Duration::from_secs(u64::from(options.timeout));
        let output = execute.timeout(limit).live().await?;
        Ok::<_, Failure>((site, output))
    };
    let (site, mut output) = tokio::select! {
        begun = begun => begun?,
        // Dropping the start ends what it has started.
        signal = signals.next() => return Ok(stopped(signal)),
    };
    let outcome = match follow(&mut output, &mut signals).await {
        Ok(Followed::Ended(end)) => Ok(exit_of(end, options.timeout)),
        Ok(Followed::Stop(signal)) => {
            settle(&mut output, &mut signals).await;
            Ok(stopped(signal))
        }
        Err(failure) => {
            // Without a reader, or with a lost connection, nobody needs the command.
            settle(&mut output, &mut signals).await;
            Err(failure)
        }
    };
    drop(output);
    tokio::select! {
        ended = site.server.end(false) => ended?,
        // Dropping the server ends it at once.
        _ = signals.next() => {}
    }
    outcome
}

/// Returns the line for the shell.
fn line(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => {
            let words = words.iter();
            let quoted: Vec<_> = words
                .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
                .collect();
            quoted.join(" ")
        }
    }
}

enum Followed {
    Ended(CommandEnd),
    Stop(Signal),
}

/// Writes the output until the command has ended, or must be stopped.
async fn follow(output: &mut LiveOutput, signals: &mut Signals) -> Result<Followed, Failure> {
    loop {
        let chunk = tokio::select! {
            biased;
            signal = signals.next() => return Ok(Followed::Stop(signal)),
            chunk = output.next() => chunk,
        };
        match chunk {
            Some(Ok(LiveChunk::Stdout(bytes))) => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush())?;
            }
            Some(Ok(LiveChunk::Stderr(bytes))) => {
                // A closed stderr does not stop the command.
                let _ = io::stderr().lock().write_all(&bytes);
            }
            Some(Ok(LiveChunk::Ended(end))) => return Ok(Followed::Ended(end)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Exit::Internal.because("the output has no end")),
        }
    }
}

/// Stops the command, and waits until nothing of it is left on the server.
async fn settle(output: &mut LiveOutput, signals: &mut Signals) {
    let settling = async {
        if output.stop().await.is_ok() {
            while let Some(Ok(_)) = output.next().await {}
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(SETTLE, settling) => {}
        _ = signals.next() => {}
    }
}

/// Returns the exit code that a shell would report.
fn exit_of(end: CommandEnd, seconds: u32) -> Exit {
    let Some(code) = end.exit_code() else {
        note(&format!("the command was stopped after {seconds} s"));
        return Exit::Command(TIMED_OUT);
    };
    // −N after signal N.
    let code = if code < 0 { 128 - code } else { code };
    Exit::Command(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_arguments_are_words_and_one_is_a_line() {
        let line =
            |words: &[&str]| line(&words.iter().map(|&word| word.into()).collect::<Vec<_>>());
        assert_eq!(line(&["ls | wc -l"]), "ls | wc -l");
        assert_eq!(
            line(&["echo", "it's", "$HOME"]),
            r"'echo' 'it'\''s' '$HOME'"
        );
    }
}
