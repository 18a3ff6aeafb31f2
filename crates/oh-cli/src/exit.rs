//! Exit codes, one for each way in which a command can end.

use std::{fmt, io};

use openhands::{ErrorKind, RunOutcome, RunStatus};

/// The result of a command.
pub(crate) type Outcome = Result<Exit, Failure>;

/// The exit codes, for `oh --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    the agent has finished, or the command has done its work
  2    the command line is wrong
  3    the configuration is wrong: model, key, server, environment
  4    the model or its provider failed
  5    the agent failed, is stuck, or stopped before it had finished
  6    the server or this program failed
  7    a budget was reached
  8    the time was over
  9    an action waits for approval
  130  interrupted
  143  terminated";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Finished,
    /// The command line is wrong. Clap uses the same code.
    Usage,
    Configuration,
    Model,
    Agent,
    Internal,
    Budget,
    Time,
    Waiting,
    Interrupted,
    Terminated,
    /// The reader of the output is gone, which is not a failure.
    ClosedOutput,
    /// The exit code of a command on the server.
    Command(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Finished | Self::ClosedOutput => 0,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Model => 4,
            Self::Agent => 5,
            Self::Internal => 6,
            Self::Budget => 7,
            Self::Time => 8,
            Self::Waiting => 9,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Command(code) => code,
        }
    }

    /// Returns a failure with this exit code.
    pub(crate) fn because(self, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure {
            exit: self,
            message,
        }
    }

    /// Returns the exit code for the end of a run.
    pub(crate) fn of(outcome: &RunOutcome) -> Self {
        match outcome.status() {
            RunStatus::Finished => Self::Finished,
            RunStatus::Paused => Self::Interrupted,
            RunStatus::WaitingForConfirmation => Self::Waiting,
            RunStatus::BudgetReached => Self::Budget,
            RunStatus::StillRunning => Self::Time,
            RunStatus::Stuck | RunStatus::Idle => Self::Agent,
            RunStatus::Error => match outcome.error().map(|error| error.code.as_str()) {
                Some("MaxIterationsReached") => Self::Budget,
                // The server names all failures of models like this.
                Some(code) if code.starts_with("LLM") => Self::Model,
                _ => Self::Agent,
            },
            _ => Self::Internal,
        }
    }
}

/// A command that failed: its exit code, and its message for stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<openhands::Error> for Failure {
    fn from(error: openhands::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::InvalidInput
            | ErrorKind::Connect
            | ErrorKind::Proxy
            | ErrorKind::Tls
            | ErrorKind::Unauthorized
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Gone
            | ErrorKind::NotAnAgentServer
            | ErrorKind::Unsupported
            | ErrorKind::NoInterpreter
            | ErrorKind::BadEnvironment
            | ErrorKind::IndexUnreachable
            | ErrorKind::UnknownVersion
            | ErrorKind::StateInUse
            | ErrorKind::NoEngine
            | ErrorKind::EngineDenied
            | ErrorKind::NoCluster
            | ErrorKind::ClusterDenied
            | ErrorKind::Claim
            | ErrorKind::Quota
            | ErrorKind::InvalidPath
            | ErrorKind::NotStarted => Exit::Configuration,
            ErrorKind::PendingConfirmation => Exit::Waiting,
            _ => Exit::Internal,
        };
        exit.because(error.to_string())
    }
}

macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                openhands::Error::from(error).into()
            }
        }
    )*};
}

from!(
    openhands::conversation::Error,
    openhands::process::Error,
    openhands::sandbox::Error,
    openhands::protocol::Error,
    openhands::transport::Error,
    openhands::workspace::Error
);

/// A failed change of what is stored on a server.
impl From<openhands::admin::Error> for Failure {
    fn from(error: openhands::admin::Error) -> Self {
        use openhands::admin::ErrorKind as Kind;

        match error.kind() {
            Kind::Conflict | Kind::Validation => Exit::Configuration.because(error.to_string()),
            Kind::LoginExpired | Kind::Timeout => Exit::Time.because(error.to_string()),
            _ => openhands::Error::from(error).into(),
        }
    }
}

/// A failed write to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::ClosedOutput.because(""),
            _ => Exit::Internal.because(format!("cannot write the output: {error}")),
        }
    }
}
