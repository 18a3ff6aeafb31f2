//! A stand-in for the agent server in a container, for tests of containers and their owners: it
//! starts in a fraction of a second, from an image with little more than this program. Answers what
//! is asked before a server counts as ready.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).cloned()
    };
    let config = env::var("OPENHANDS_AGENT_SERVER_CONFIG_PATH").map_err(io::Error::other)?;
    let config = fs::read_to_string(config)?;
    let config: serde_json::Value = serde_json::from_str(&config)?;
    let keys = config["session_api_keys"].clone();
    let (host, port) = (option("--host"), option("--port"));
    let address = format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default());
    for connection in TcpListener::bind(address)?.incoming() {
        let (connection, keys) = (connection?, keys.clone());
        // A client that closes its connection is no failure.
        thread::spawn(move || serve(connection, &keys));
    }
    Ok(())
}

fn serve(mut connection: TcpStream, keys: &serde_json::Value) -> io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    while let Some(first) = lines.next().transpose()? {
        let mut known = false;
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or_default();
            if name.eq_ignore_ascii_case("x-session-api-key") {
                known |= keys
                    .as_array()
                    .is_some_and(|keys| keys.iter().any(|key| key == value));
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let version = env::var("STAND_IN_VERSION").unwrap_or_else(|_| "1.58.2".to_owned());
        let (status, body) = match path {
            "/server_info" => ("200 OK", format!(r#"{{"version": "{version}"}}"#)),
            path if path.starts_with("/api/") && !known => ("401 Unauthorized", "{}".to_owned()),
            _ => ("200 OK", "0".to_owned()),
        };
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
             {body}"
        )?;
    }
    Ok(())
}
