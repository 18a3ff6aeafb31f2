//! A forward proxy as companies run them: it forwards plain requests, opens tunnels, and records
//! what it was asked for.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The host of the server as only the proxy can resolve it.
pub(crate) const HOST: &str = "agent.test";

/// How the proxy treats requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Forwards requests and opens tunnels.
    Forward,
    /// Forwards requests, and answers a request for a tunnel with these bytes.
    NoTunnels(&'static [u8]),
    /// Answers everything with these bytes. Without any, it only closes the connection.
    Refuse(&'static [u8]),
}

/// A forward proxy on loopback. Its tunnels and requests reach one server, for any host.
pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    mode: watch::Sender<Mode>,
    heads: Mutex<Vec<String>>,
}

impl Forwarder {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            mode: watch::Sender::new(Mode::Forward),
            heads: Mutex::default(),
        });
        let serving = shared.clone();
        let running = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = serving.clone();
                connections.spawn(async move {
                    // An error on one side ends both.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Self {
            address,
            shared,
            running,
        }
    }

    /// Returns the URL of the proxy, with a user and a password.
    pub(crate) fn url(&self) -> String {
        format!("http://user:pass@{}", self.address)
    }

    /// Sets the mode of new connections, and closes the open ones.
    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Returns the heads of all requests, including those at the start of a tunnel.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// Checks that plain requests came in absolute form, and sockets by tunnels. The session key is
    /// in the header of plain requests alone.
    pub(crate) fn check(&self, port: u16, key: &str) {
        let server = format!("{HOST}:{port}");
        let (mut forwarded, mut tunnels, mut upgrades) = (0, 0, 0);
        for head in self.heads() {
            let line = head.lines().next().unwrap();
            let (method, rest) = line.split_once(' ').unwrap();
            let fields = head.to_ascii_lowercase();
            let upgrade = rest.starts_with("/sockets/");
            if method == "CONNECT" {
                tunnels += 1;
                assert_eq!(rest, format!("{server} HTTP/1.1"));
            } else if upgrade {
                upgrades += 1;
                assert!(fields.contains("\r\nupgrade: websocket\r\n"), "{line}");
            } else {
                forwarded += 1;
                assert!(rest.starts_with(&format!("http://{server}/")), "{line}");
                assert!(
                    fields.contains(&format!("\r\nhost: {server}\r\n")),
                    "{line}"
                );
                assert!(
                    head.contains(&format!("\r\nx-session-api-key: {key}\r\n")),
                    "{line}"
                );
            }
            let plain = method != "CONNECT" && !upgrade;
            assert_eq!(head.matches(key).count(), usize::from(plain), "{line}");
            // The password is for the proxy, not for what is inside its tunnel.
            let password = fields.contains("\r\nproxy-authorization: basic dxnlcjpwyxnz\r\n");
            assert_eq!(password, !upgrade, "{line}");
        }
        assert!(forwarded > 0 && tunnels > 0, "{:#?}", self.heads());
        assert_eq!(tunnels, upgrades, "{:#?}", self.heads());
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut changes = shared.mode.subscribe();
    let mode = *changes.borrow_and_update();
    let served = async {
        let asked = head(&mut client, shared).await?;
        let tunnel = asked.starts_with("CONNECT ");
        match mode {
            Mode::Refuse(answer) => return refuse(client, answer).await,
            Mode::NoTunnels(answer) if tunnel => return refuse(client, answer).await,
            _ => {}
        }
        let mut server = TcpStream::connect(shared.server).await?;
        let first = if tunnel {
            let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
            client.write_all(open).await?;
            head(&mut client, shared).await?
        } else {
            origin(&asked)
        };
        server.write_all(first.as_bytes()).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    };
    tokio::select! {
        served = served => served,
        _ = changes.changed() => Ok(()),
    }
}

/// Answers and closes the connection in order, so that a reset does not discard the answer.
async fn refuse(mut client: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    client.write_all(answer).await?;
    client.shutdown().await?;
    while client.read(&mut [0; 4096]).await? > 0 {}
    Ok(())
}

async fn head(stream: &mut TcpStream, shared: &Shared) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    shared.heads.lock().unwrap().push(head.clone());
    Ok(head)
}

/// Converts a request in absolute form to what the server gets. The connection ends after the
/// response, so that the next request has a separate head.
fn origin(head: &str) -> String {
    let (line, fields) = head.split_once("\r\n").unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, url, version] = words[..] else {
        panic!("{line}");
    };
    let path = url.strip_prefix("http://").expect("the absolute form");
    let path = path.find('/').map_or("/", |at| &path[at..]);
    let kept = fields.split_inclusive("\r\n").filter(|field| {
        let field = field.to_ascii_lowercase();
        !field.starts_with("proxy-") && !field.starts_with("connection:")
    });
    let kept: String = kept.collect();
    format!("{method} {path} {version}\r\nConnection: close\r\n{kept}")
}
