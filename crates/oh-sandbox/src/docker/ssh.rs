//! Engines on other machines, reached with the command `ssh`: its keys, agent, known hosts and
//! configuration apply.

use std::{
    io,
    path::Path,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};
use url::Url;

use crate::{Error, ErrorKind, Result, docker::refused};

/// Number of bytes of the output of `ssh` that an error contains.
const OUTPUT: u64 = 4096;

/// A machine to log in to, and the socket of its engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    user: Option<String>,
    name: String,
    port: Option<u16>,
    /// Not set for the engine that the machine's own `docker` command uses.
    socket: Option<String>,
}

impl Host {
    /// Parses an address such as `ssh://user@host:22/run/docker.sock`. Returns what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "the address of a host is not valid")?;
        if url.password().is_some() {
            return Err("an address of ssh:// has no password; use a key");
        }
        let name = url.host_str().unwrap_or_default();
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || name.starts_with('-') || url.username().starts_with('-') {
            return Err("the address of a host is not valid");
        }
        let socket = Some(url.path()).filter(|path| !matches!(*path, "" | "/"));
        // The path becomes part of a command of the machine's shell.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
        if socket.is_some_and(|path| !path.chars().all(plain)) {
            return Err("the path of the socket contains special characters");
        }
        Ok(Self {
            user: Some(url.username().to_owned()).filter(|user| !user.is_empty()),
            name: name.to_owned(),
            port: url.port(),
            socket: socket.map(str::to_owned),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address in the form of `DOCKER_HOST`.
    pub(crate) fn url(&self) -> String {
        let mut url = "ssh://".to_owned();
        if let Some(user) = &self.user {
            url.push_str(user);
            url.push('@');
        }
        match self.name.contains(':') {
            true => url.push_str(&format!("[{}]", self.name)),
            false => url.push_str(&self.name),
        }
        if let Some(port) = self.port {
            url.push_str(&format!(":{port}"));
        }
        url.push_str(self.socket.as_deref().unwrap_or_default());
        url
    }

    /// Returns the arguments of `ssh` for a connection with the engine.
    pub(crate) fn to_engine(&self, within: Duration) -> Vec<String> {
        let mut arguments = self.options(within);
        arguments.extend(["-T", "--", &self.name, "docker"].map(str::to_owned));
        if let Some(socket) = &self.socket {
            arguments.extend(["--host".to_owned(), format!("unix://{socket}")]);
        }
        arguments.extend(["system", "dial-stdio"].map(str::to_owned));
        arguments
    }

    /// Returns the arguments of `ssh` that forward connections with a socket here to a port of the
    /// machine's loopback interface, until the input of `ssh` ends.
    fn to_port(&self, socket: &Path, port: u16, within: Duration) -> Vec<String> {
        let mut arguments = self.options(within);
        for option in [
            // Never in a process of `ssh` that others use: it would keep forwarding.
            "ControlMaster=no",
            "ControlPath=none",
            "StreamLocalBindUnlink=yes",
            // Ends when the network has been gone for a minute.
            "ServerAliveInterval=20",
            "ServerAliveCountMax=3",
        ] {
            arguments.extend(["-o".to_owned(), option.to_owned()]);
        }
        let forward = format!("{}:127.0.0.1:{port}", socket.display());
        arguments.extend(["-L".to_owned(), forward]);
        arguments.extend(["-T", "--", &self.name, "cat"].map(str::to_owned));
        arguments
    }

    fn options(&self, within: Duration) -> Vec<String> {
        let seconds = within.as_secs().max(1);
        // Asks no questions: nobody may be there to answer.
        let mut options = vec![
            "-o".to_owned(),
            "BatchMode=yes".to_owned(),
            "-o".to_owned(),
            format!("ConnectTimeout={seconds}"),
        ];
        if let Some(user) = &self.user {
            options.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            options.extend(["-p".to_owned(), port.to_string()]);
        }
        options
    }

    /// Connects with the engine.
    pub(crate) fn dial(&self, within: Duration) -> Result<Stream> {
        Stream::open(self, self.to_engine(within))
    }

    /// Forwards connections with a socket here to a port of the machine's loopback interface, as
    /// long as the result exists.
    pub(crate) async fn forward(
        &self,
        socket: &Path,
        port: u16,
        within: Duration,
    ) -> Result<Stream> {
        let failed = |error: io::Error| {
            let message = format!("cannot forward port {port} of the engine's machine");
            match refused::reason(&error) {
                Some(reason) => Error::new(reason.kind(), message).with_source(reason),
                None => Error::new(ErrorKind::NoEngine, message).with_source(error),
            }
        };
        let mut stream = Stream::open(self, self.to_port(socket, port, within))?;
        // `ssh` listens at the socket before it starts `cat`, which returns what it gets.
        let begin = async {
            stream.write_all(b"\n").await?;
            stream.read_u8().await
        };
        match timeout(within, begin).await {
            Ok(begun) => begun.map_err(failed)?,
            Err(late) => return Err(failed(late.into())),
        };
        Ok(stream)
    }

    /// Creates the error of a connection that ended, from what `ssh` has written.
    fn failed(&self, output: &str) -> Error {
        let output = output.trim().replace('\n', "; ");
        let lower = output.to_lowercase();
        let has = |part: &str| lower.contains(part);
        let name = &self.name;
        let (kind, remedy) = if has("host key verification failed") {
            let remedy = format!(
                "the machine's key is not known: log in once with `ssh {name}`, and compare the key"
            );
            (ErrorKind::EngineDenied, remedy)
        } else if has("permission denied (") || has("too many authentication failures") {
            let remedy = format!(
                "log in with a key that needs no password: check that `ssh {name} docker version` \
                 works"
            );
            (ErrorKind::EngineDenied, remedy)
        } else if has("permission denied while trying to connect")
            || has("connect: permission denied")
        {
            let remedy = "this user may not use the engine there; add the user to the group of the \
                          socket, usually `docker`";
            (ErrorKind::EngineDenied, remedy.to_owned())
        } else if has("docker: command not found") || has("docker: not found") {
            let remedy = "install the command `docker` on that machine";
            (ErrorKind::NoEngine, remedy.to_owned())
        } else {
            let remedy = format!("check that `ssh {name} docker version` works");
            (ErrorKind::NoEngine, remedy)
        };
        let url = self.url();
        let why = match output.is_empty() {
            true => "the connection ended".to_owned(),
            false => output,
        };
        Error::new(
            kind,
            format!("cannot reach the engine at {url} by ssh: {why}; {remedy}"),
        )
    }
}

/// A connection by ssh. The process of `ssh` ends with this value, and with this process.
#[derive(Debug)]
pub(crate) struct Stream {
    host: Host,
    /// Not set after it was closed.
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// Collects what `ssh` reports, until it ends. Not set after the first byte of the other side.
    reported: Option<JoinHandle<String>>,
    /// Killed when it is dropped.
    _process: Child,
}

impl Stream {
    fn open(host: &Host, arguments: Vec<String>) -> Result<Self> {
        let cannot = |error: io::Error| {
            let message = format!(
                "cannot run ssh for the engine at {}; install the command `ssh`",
                host.url()
            );
            Error::new(ErrorKind::NoEngine, message).with_source(error)
        };
        let mut process = Command::new("ssh")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let pipes = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        );
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(cannot(io::ErrorKind::BrokenPipe.into()));
        };
        let reported = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut errors = errors.take(OUTPUT);
            // What was read until a failure is the report.
            let _read = errors.read_to_end(&mut text).await;
            // Keep reading: `ssh` may write at any time.
            let _rest = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            host: host.clone(),
            input: Some(input),
            output,
            reported: Some(reported),
            _process: process,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.reported = None;
            return Poll::Ready(Ok(()));
        }
        let Some(reported) = &mut self.reported else {
            return Poll::Ready(Ok(()));
        };
        // Nothing came: there was no connection, and `ssh` has reported why.
        let report = ready!(Pin::new(reported).poll(context)).unwrap_or_default();
        self.reported = None;
        Poll::Ready(Err(io::Error::other(self.host.failed(&report))))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(input) = &mut self.input {
            ready!(Pin::new(input).poll_shutdown(context))?;
        }
        // The other side sees the end when the pipe is closed.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ssh_are_parsed_and_unsafe_ones_are_rejected() {
        for url in ["ssh://me@h:22", "ssh://h", "ssh://[::1]:5/run/docker.sock"] {
            assert_eq!(Host::parse(url).unwrap().url(), url);
        }
        for url in [
            "ssh://",
            "ssh://me:secret@h",
            "ssh://-oProxyCommand=x",
            "ssh://-l@h",
            "ssh://h/a;b",
            "ssh://h/$(x)",
        ] {
            assert!(Host::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_host_is_an_argument_and_never_an_option() {
        let host = Host::parse("ssh://me@h:7/run/docker.sock").unwrap();
        let arguments = host.to_engine(Duration::from_secs(9)).join(" ");
        let expected = "-o BatchMode=yes -o ConnectTimeout=9 -l me -p 7 -T -- h docker --host \
                        unix:///run/docker.sock system dial-stdio";
        assert_eq!(arguments, expected);
        let arguments = host.to_port("/s".as_ref(), 8, Duration::from_millis(1));
        let arguments = arguments.join(" ");
        assert!(arguments.contains("ConnectTimeout=1 "), "{arguments}");
        let forward = "-L /s:127.0.0.1:8 -T -- h cat";
        assert!(arguments.ends_with(forward), "{arguments}");
    }

    #[test]
    fn failures_of_ssh_have_a_kind_and_a_remedy() {
        let host = Host::parse("ssh://me@h").unwrap();
        for (output, kind, remedy) in [
            (
                "me@h: Permission denied (publickey).\r\n",
                ErrorKind::EngineDenied,
                "a key that needs no password",
            ),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\n\
                 Host key verification failed.",
                ErrorKind::EngineDenied,
                "compare the key",
            ),
            (
                "ssh: connect to host h port 22: Connection refused",
                ErrorKind::NoEngine,
                "check that",
            ),
            (
                "bash: line 1: docker: command not found",
                ErrorKind::NoEngine,
                "install the command",
            ),
            ("", ErrorKind::NoEngine, "the connection ended"),
        ] {
            let error = host.failed(output);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}
