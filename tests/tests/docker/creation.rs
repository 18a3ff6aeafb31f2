//! An engine that takes its time to create a container, and the end of the owner meanwhile.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use openhands_tests::containers::{containers, eventually};

use super::{
    images::{stand_in, stand_in_image},
    owners::{Owner, act, role},
};

/// The engine under test, behind a proxy that holds the requests to create a container.
struct Slow {
    address: SocketAddr,
    held: mpsc::Receiver<Creation>,
}

/// A complete request to create a container, which the engine does not have yet.
struct Creation {
    client: TcpStream,
    request: Vec<u8>,
}

impl Slow {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, held) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let holds = holds.clone();
                thread::spawn(move || {
                    let request = read_request(&client);
                    let creation = Creation { client, request };
                    if creation.request.starts_with(b"POST /containers/create") {
                        let _ended = holds.send(creation);
                    } else {
                        creation.pass();
                    }
                });
            }
        });
        Self { address, held }
    }
}

impl Creation {
    /// Returns whether the client still waits for the response.
    fn is_awaited(&self) -> bool {
        self.client.set_nonblocking(true).unwrap();
        let peeked = self.client.peek(&mut [0]).map_err(|error| error.kind());
        self.client.set_nonblocking(false).unwrap();
        peeked == Err(io::ErrorKind::WouldBlock)
    }

    /// Passes the request on, and what follows in both directions.
    fn pass(self) {
        let engine = std::env::var("DOCKER_HOST").unwrap();
        let mut engine = UnixStream::connect(engine.strip_prefix("unix://").unwrap()).unwrap();
        engine.write_all(&self.request).unwrap();
        let (mut from, mut to) = (
            self.client.try_clone().unwrap(),
            engine.try_clone().unwrap(),
        );
        thread::spawn(move || {
            let _ended = io::copy(&mut from, &mut to);
            let _ended = to.shutdown(Shutdown::Write);
        });
        let _ended = io::copy(&mut engine, &mut &self.client);
        let _ended = self.client.shutdown(Shutdown::Both);
    }
}

/// Reads one request, with its body.
fn read_request(mut client: &TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        if let Some(end) = request.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if request.len() >= end + 4 + length {
                return request;
            }
        }
        let mut part = [0; 4096];
        match client.read(&mut part) {
            Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
            _ => return request,
        }
    }
}

/// The keeper waits for the response of the engine, however long it takes, and removes the
/// container then.
#[test]
fn an_owner_killed_during_a_creation() {
    let test = "an_owner_killed_during_a_creation";
    if let Some(way) = role() {
        return act(stand_in(test), &way);
    }
    let engine = Slow::start();
    let address = format!("tcp://{}", engine.address);
    stand_in_image();
    let owner = Owner::start_on(&address, &format!("creation::{test}"), "kill");
    let creation = engine.held.recv_timeout(Duration::from_secs(60)).unwrap();
    let keepers = owner.kill_only();
    assert!(creation.is_awaited(), "nobody waits for the container");
    assert!(keepers.run());
    creation.pass();
    eventually("the end of the keepers", || !keepers.run());
    assert_eq!(containers(test), [""; 0]);
}
