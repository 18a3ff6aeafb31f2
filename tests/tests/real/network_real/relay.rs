//! A relay in front of the server that edits the heads of its responses or limits their bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

type Edit = Box<dyn Fn(String) -> String + Send + Sync>;

/// A relay on loopback.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    running: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay that edits the head of the first response of each connection.
    pub(crate) async fn editing(
        server: SocketAddr,
        edit: impl Fn(String) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edit: Arc<Edit> = Arc::new(Box::new(edit));
        Self::serve(listener, move |mut client| {
            let edit = edit.clone();
            async move {
                let mut server = TcpStream::connect(server).await?;
                let asked = head(&mut client).await?;
                server.write_all(asked.as_bytes()).await?;
                let answer = tokio::select! {
                    answer = head(&mut server) => answer?,
                    // The body of the request.
                    passed = pass(&mut client) => {
                        server.write_all(&passed?).await?;
                        head(&mut server).await?
                    }
                };
                client.write_all(edit(answer).as_bytes()).await?;
                copy_bidirectional(&mut client, &mut server).await.map(drop)
            }
        })
    }

    /// Starts a relay that accepts little at a time: a small buffer, and a pause after each piece
    /// of a request.
    pub(crate) async fn slow(server: SocketAddr, piece: usize, pause: Duration) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        Self::serve(listener, move |mut client| async move {
            let mut server = TcpStream::connect(server).await?;
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let up = async {
                let mut bytes = vec![0; piece];
                loop {
                    let read = from_client.read(&mut bytes).await?;
                    if read == 0 {
                        return to_server.shutdown().await;
                    }
                    to_server.write_all(&bytes[..read]).await?;
                    sleep(pause).await;
                }
            };
            let down = tokio::io::copy(&mut from_server, &mut to_client);
            tokio::try_join!(up, async { down.await.map(drop) }).map(drop)
        })
    }

    fn serve<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        listener: TcpListener,
        connection: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // An error on one side ends both.
                connections.spawn(connection(client));
            }
        });
        Self { address, running }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

async fn pass(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 64 * 1024];
    let read = stream.read(&mut bytes).await?;
    bytes.truncate(read);
    Ok(bytes)
}
