//! Secrets from stdin: all of it, or a line that a terminal does not show.

use std::io::{self, IsTerminal as _, Read as _};

use secrecy::SecretString;

use crate::exit::{Exit, Failure};

/// Reads a secret from stdin. A person at a terminal is asked, and the input is not shown. One line
/// end at the end is not part of the secret.
pub(crate) async fn read(question: &str) -> Result<SecretString, Failure> {
    let text = match io::stdin().is_terminal() {
        true => ask(question).await?,
        false => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|error| {
                Exit::Usage.because(format!("cannot read the {question} from stdin: {error}"))
            })?;
            text
        }
    };
    let value = without_line_end(text);
    match value.is_empty() {
        true => Err(Exit::Usage.because(format!("the {question} is empty"))),
        false => Ok(value.into()),
    }
}

fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Asks for a line at the terminal.
#[cfg(unix)]
async fn ask(question: &str) -> Result<String, Failure> {
    use std::io::Write as _;

    use crate::signals::{Signals, stopped};

    // Before the terminal hides the input: Ctrl-C must not leave it like that.
    let mut signals = Signals::new()?;
    let failed = |error: io::Error| {
        Exit::Internal.because(format!("cannot hide the input of the terminal: {error}"))
    };
    let _quiet = Quiet::begin().map_err(failed)?;
    let _ = write!(io::stderr(), "{question}: ");
    let (send, line) = tokio::sync::oneshot::channel();
    // A thread, because nothing ends a read of a terminal.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        let _ = send.send(read.map(|_| line));
    });
    let answer = tokio::select! {
        line = line => line.unwrap_or_else(|_| Ok(String::new())),
        signal = signals.next() => {
            let _ = writeln!(io::stderr());
            return Err(stopped(signal).because("nothing was stored"));
        }
    };
    let _ = writeln!(io::stderr());
    answer.map_err(|error| Exit::Usage.because(format!("cannot read the {question}: {error}")))
}

#[cfg(not(unix))]
async fn ask(question: &str) -> Result<String, Failure> {
    Err(Exit::Usage.because(format!("write the {question} to stdin")))
}

/// A terminal that does not show its input. Dropping it shows the input again.
#[cfg(unix)]
struct Quiet(rustix::termios::Termios);

#[cfg(unix)]
impl Quiet {
    fn begin() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ECHONL;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

#[cfg(unix)]
impl Drop for Quiet {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};

        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_ends_before_the_last_line_end() {
        for (text, value) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a\nb \n", " a\nb "),
            ("\n", ""),
        ] {
            assert_eq!(without_line_end(text.to_owned()), value, "{text:?}");
        }
    }
}
