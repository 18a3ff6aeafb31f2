//! A stand-in for the agent server in a container, for tests of containers and their owners: it
//! starts in a fraction of a second, from an image with little more than this program. Answers what
//! is asked before a server counts as ready. SIGTERM ends it.
//!
//! `STAND_IN_VERSION` sets the version that it reports, `STAND_IN_KEYS` how it treats keys: see
//! [`Keys`].

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use serde_json::Value;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// The exit status after a secret was sent to a server that accepts any.
const RECEIVED: i32 = 42;

fn main() -> io::Result<()> {
    end_on_request()?;
    let arguments: Vec<String> = env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).cloned()
    };
    let config = env::var("OPENHANDS_AGENT_SERVER_CONFIG_PATH").map_err(io::Error::other)?;
    let config = fs::read_to_string(config)?;
    let config: Value = serde_json::from_str(&config)?;
    let server = Arc::new(Mutex::new(Server {
        keys: config["session_api_keys"].clone(),
        init_key: config["secret_key"].clone(),
        dormant: env::var("OH_DEFERRED_INIT").is_ok(),
        accepts: match env::var("STAND_IN_KEYS").as_deref() {
            Ok("any") => Keys::Any,
            Ok("any-init") => Keys::AnyInit,
            Ok("any-later") => Keys::AnyLater,
            Ok("other") => Keys::Other,
            _ => Keys::Own,
        },
    }));
    let (host, port) = (option("--host"), option("--port"));
    let address = format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default());
    for connection in TcpListener::bind(address)?.incoming() {
        let (connection, server) = (connection?, server.clone());
        // A client that closes its connection is no failure.
        thread::spawn(move || serve(connection, &server));
    }
    Ok(())
}

/// Ends the process on SIGTERM. The first process of a container ignores the signal otherwise.
fn end_on_request() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut terminate = {
        let _entered = runtime.enter();
        signal(SignalKind::terminate())?
    };
    thread::spawn(move || {
        runtime.block_on(terminate.recv());
        process::exit(0);
    });
    Ok(())
}

/// The keys that a server accepts.
#[derive(Clone, Copy, PartialEq)]
enum Keys {
    /// Only the keys of its configuration.
    Own,
    /// Any session key. The process ends if it receives a key of its configuration.
    Any,
    /// Any key of an activation. The process ends if it receives that of its configuration.
    AnyInit,
    /// Any session key, after an activation, which contains the right one.
    AnyLater,
    /// No key of its configuration.
    Other,
}

struct Server {
    keys: Value,
    init_key: Value,
    dormant: bool,
    accepts: Keys,
}

impl Server {
    /// Activates the server with this request, and returns the status of the response.
    fn initialize(&mut self, key: &str, body: &Value) -> &'static str {
        let own = self.init_key == key;
        if own && self.accepts == Keys::AnyInit {
            process::exit(RECEIVED);
        } else if !own && self.accepts != Keys::AnyInit {
            return "401 Unauthorized";
        } else if !self.dormant {
            return "400 Bad Request";
        } else if body.get("no_such_field").is_some() {
            return "422 Unprocessable Content";
        }
        if let Some(keys) = body.get("session_api_keys") {
            self.keys = keys.clone();
        }
        self.dormant = false;
        "200 OK"
    }

    fn knows(&self, key: &str) -> bool {
        let mut keys = self.keys.as_array().into_iter().flatten();
        let own = keys.any(|known| known == key);
        match self.accepts {
            Keys::Any if own => process::exit(RECEIVED),
            Keys::Any | Keys::AnyLater => true,
            Keys::Other => false,
            _ => own,
        }
    }
}

fn serve(mut connection: TcpStream, server: &Mutex<Server>) -> io::Result<()> {
    let mut input = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    while input.read_line(&mut first)? > 0 {
        let (mut session_key, mut init_key, mut length) = (String::new(), String::new(), 0);
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "x-session-api-key" => session_key = value.to_owned(),
                "x-init-api-key" => init_key = value.to_owned(),
                "content-length" => length = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
        let path = first.split(' ').nth(1).unwrap_or_default();
        let version = env::var("STAND_IN_VERSION").unwrap_or_else(|_| "1.58.2".to_owned());
        let (status, body) = match path {
            "/server_info" => ("200 OK", format!(r#"{{"version": "{version}"}}"#)),
            "/api/init" => {
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let status = server.initialize(&init_key, &body);
                (status, r#"{"state": "ready"}"#.to_owned())
            }
            path if path.starts_with("/api/") && server.dormant => {
                ("503 Service Unavailable", "{}".to_owned())
            }
            path if path.starts_with("/api/") && !server.knows(&session_key) => {
                ("401 Unauthorized", "{}".to_owned())
            }
            _ => ("200 OK", "0".to_owned()),
        };
        drop(server);
        first.clear();
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
             {body}"
        )?;
    }
    Ok(())
}
