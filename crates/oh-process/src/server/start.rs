//! From a builder to a server that has proven itself.

use std::{
    ffi::OsString,
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use oh_protocol::calls::server::Ready;
use oh_transport::Client;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command, time::Instant};
use uuid::Uuid;

use super::{LocalServer, LocalServerBuilder, environment, guard, guard::Guard, logs::Logs};
use crate::{Environment, Error, ErrorKind, Progress, Result};

/// How often another free port is tried when one was lost to somebody else.
const PORTS: u32 = 5;
/// The server's own exit code for a port in use.
const PORT_IN_USE: i32 = 3;
const SHOWN: usize = 15;

/// The directories of one server.
struct Places {
    state: PathBuf,
    workspace: PathBuf,
    tmux: PathBuf,
}

pub(super) async fn start(builder: LocalServerBuilder) -> Result<LocalServer> {
    check(&builder)?;
    let environment = match &builder.environment {
        Some(environment) => environment.clone(),
        None => builder.provisioner.provision().await?,
    };
    let (places, mut temporary) = places(&builder)?;
    let secret = secret_key(&places.state)?;
    let key = builder
        .session_api_key
        .clone()
        .unwrap_or_else(|| SecretString::from(random_key()));
    let mut tried = 0;
    loop {
        tried += 1;
        let port = match builder.port {
            Some(port) => port,
            None => free_port(&builder.host)?,
        };
        builder.provisioner.report(Progress::Starting);
        let logs = Logs::new(vec![key.expose_secret().to_owned(), secret.clone()]);
        let command = command(&builder, &environment, &places, &key, &secret, port);
        let marker = Uuid::new_v4().simple().to_string();
        let mut guard = Guard::spawn(&environment.python, command, marker, logs, temporary.take())?;
        let client = Client::builder(format!("http://{}:{port}", url_host(&builder.host)))
            .session_api_key(key.clone())
            .build()?;
        match ready(&mut guard, &client, &builder, port).await {
            Ok(()) => {
                let info = client.server_info().await?;
                return Ok(LocalServer {
                    guard,
                    client,
                    info,
                    session_api_key: key,
                    port,
                    state_dir: places.state,
                    workspace_dir: places.workspace,
                });
            }
            // Between choosing a free port and the server's bind, ten seconds pass.
            Err(error)
                if builder.port.is_none()
                    && tried < PORTS
                    && matches!(error.kind(), ErrorKind::PortTaken | ErrorKind::Stranger) =>
            {
                temporary = guard.take_temporary();
            }
            Err(error) => return Err(error),
        }
    }
}

fn check(builder: &LocalServerBuilder) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
    for (name, value) in &builder.env {
        let text = value.as_encoded_bytes();
        if name.is_empty() || name.contains(['=', '\0']) || text.contains(&0) {
            return invalid(format!(
                "environment variable `{name}` has a NUL or a `=` where none may be"
            ));
        }
        if name == "DEBUG_LLM" {
            return invalid(
                "DEBUG_LLM makes the server ask on its input, which nobody answers".into(),
            );
        }
    }
    if builder.port == Some(0) {
        return invalid("port 0 hides the real port; leave the port out for a free one".into());
    }
    // Anything but a local address would fail after ten seconds of imports.
    if let Err(error) = TcpListener::bind((builder.host.as_str(), builder.port.unwrap_or(0))) {
        let port = builder.port.unwrap_or(0);
        let (kind, message) = if error.kind() == std::io::ErrorKind::AddrInUse {
            (
                ErrorKind::PortTaken,
                format!("port {port} on {} is taken", builder.host),
            )
        } else {
            (
                ErrorKind::InvalidInput,
                format!("cannot listen on {} port {port}", builder.host),
            )
        };
        return Err(Error::new(kind, message).because(error));
    }
    Ok(())
}

fn places(builder: &LocalServerBuilder) -> Result<(Places, Option<TempDir>)> {
    let (state, temporary) = match &builder.state_dir {
        Some(directory) => {
            let absolute = std::path::absolute(directory)
                .map_err(|error| Error::io("find", directory, error))?;
            (absolute, None)
        }
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("oh-")
                .tempdir()
                .map_err(|error| Error::io("make a directory in", &std::env::temp_dir(), error))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let workspace = match &builder.workspace_dir {
        Some(directory) => {
            std::path::absolute(directory).map_err(|error| Error::io("find", directory, error))?
        }
        None => state.join("workspace"),
    };
    let tmux = guard::tmux_dir(&state);
    for directory in [&state, &workspace, &tmux] {
        fs::create_dir_all(directory).map_err(|error| Error::io("make", directory, error))?;
    }
    // It holds the secret key and the agents' conversations.
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&state, private).map_err(|error| Error::io("protect", &state, error))?;
    Ok((
        Places {
            state,
            workspace,
            tmux,
        },
        temporary,
    ))
}

/// The key that encrypts secrets at rest: as old as the state directory, or they would be lost.
fn secret_key(state: &Path) -> Result<String> {
    let path = state.join("secret.key");
    match fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => return Ok(key.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read", &path, error)),
    }
    let key = random_key();
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|mut file| file.write_all(key.as_bytes()))
        .map_err(|error| Error::io("write", &path, error))?;
    Ok(key)
}

/// 244 random bits.
fn random_key() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

fn free_port(host: &str) -> Result<u16> {
    TcpListener::bind((host, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("no free port on {host}")).because(error)
        })
}

fn url_host(host: &str) -> String {
    match host {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    }
}

fn command(
    builder: &LocalServerBuilder,
    environment: &Environment,
    places: &Places,
    key: &SecretString,
    secret: &str,
    port: u16,
) -> Command {
    let within = |name: &str| OsString::from(places.state.join(name));
    let ours = vec![
        ("OH_SESSION_API_KEYS_0", OsString::from(key.expose_secret())),
        ("OH_SECRET_KEY", OsString::from(secret)),
        ("OH_CONVERSATIONS_PATH", within("conversations")),
        ("OH_BASH_EVENTS_DIR", within("bash_events")),
        ("OH_PERSISTENCE_DIR", within("persistence")),
        ("OH_CONVERSATION_WORKTREE_ROOT", within("worktrees")),
        ("OH_WORKSPACE_PATH", OsString::from(&places.workspace)),
        ("TMUX_TMPDIR", OsString::from(&places.tmux)),
    ];
    let mut command = Command::new(&environment.python);
    command
        .args(["-m", "openhands.agent_server", "--host", &builder.host])
        .args(["--port", &port.to_string()])
        .args(&builder.arguments)
        .env_clear()
        .envs(environment::compose(&builder.inherited, &builder.env, ours))
        .current_dir(&places.state);
    command
}

/// Waits until the server answers and has proven itself, or has ended.
async fn ready(
    guard: &mut Guard,
    client: &Client,
    builder: &LocalServerBuilder,
    port: u16,
) -> Result<()> {
    let probed = tokio::select! {
        probed = tokio::time::timeout(builder.deadline, prove(client, &builder.host, port)) => probed,
        status = guard.wait() => {
            let status = status?;
            // Its last words may still be on their way through the pipe.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let log = last_lines(guard);
            return Err(if status.code() == Some(PORT_IN_USE) {
                Error::new(ErrorKind::PortTaken, format!("port {port} on {} is taken", builder.host))
                    .with_exit(status.to_string())
            } else {
                Error::new(ErrorKind::Died, "the server ended before it was ready")
                    .with_exit(status.to_string())
                    .with_log(log)
            });
        }
    };
    probed.unwrap_or_else(|_| {
        let message = format!("the server was not ready within {:?}", builder.deadline);
        Err(Error::new(ErrorKind::NotReady, message).with_log(last_lines(guard)))
    })
}

fn last_lines(guard: &Guard) -> Vec<String> {
    let mut tail = guard.logs().tail();
    tail.split_off(tail.len().saturating_sub(SHOWN))
}

/// The port is bound only when start-up is over, so the first accepted connection means ready.
/// A stranger on the port would not know the session key: the server must refuse a wrong one and
/// take ours.
async fn prove(client: &Client, host: &str, port: u16) -> Result<()> {
    let begun = Instant::now();
    let address = url_host(host);
    let address = (address.trim_matches(['[', ']']), port);
    while TcpStream::connect(address).await.is_err() {
        // Imports take seconds; after those, every millisecond counts.
        let pause = if begun.elapsed() < Duration::from_secs(2) {
            50
        } else {
            10
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    let limit = Duration::from_secs(10);
    let stranger = |error: Option<oh_transport::Error>| {
        let message = format!("another server answers on port {port}");
        let stranger = Error::new(ErrorKind::Stranger, message);
        error.map_or_else(
            || Error::new(ErrorKind::Stranger, "unproven"),
            |error| stranger.because(error),
        )
    };
    client
        .call(&Ready::default())
        .timeout(limit)
        .await
        .map_err(|error| stranger(Some(error)))?;
    let count = oh_protocol::calls::conversations::Count::default();
    client
        .call(&count)
        .timeout(limit)
        .await
        .map_err(|error| stranger(Some(error)))?;
    let other = Client::builder(client.base_url().as_str())
        .session_api_key(random_key())
        .build()?;
    match other.call(&count).timeout(limit).await {
        Err(error) if error.kind() == oh_transport::ErrorKind::Unauthorized => Ok(()),
        Err(error) => Err(stranger(Some(error))),
        Ok(_) => Err(Error::new(
            ErrorKind::Stranger,
            format!("the server on port {port} takes any session key; it is not ours"),
        )),
    }
}
