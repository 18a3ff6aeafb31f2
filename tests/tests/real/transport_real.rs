//! The client with the real server's behaviour: closed connections, rejections, internal errors.

use std::time::Duration;

use openhands::{
    Client, LocalServer,
    protocol::{Answer, Call, Operation, Repeat, Request, calls::Any},
    transport::{Capability, Error, ErrorKind, Message},
};
use serde_json::Value;

/// A `GET` declared as not repeatable, so that a broken connection becomes visible.
struct Once(&'static str);

impl Call for Once {
    type Output = Value;

    fn operation(&self) -> Operation {
        Operation::new(http::Method::GET, "/once", Repeat::Never)
    }

    fn request(&self) -> openhands::protocol::Result<Request> {
        Ok(Request::new(http::Method::GET, self.0))
    }

    fn decode(&self, answer: Answer) -> openhands::protocol::Result<Value> {
        answer.json("anything")
    }
}

const COUNT: Once = Once("/api/conversations/count");
/// A path with a NUL byte, which causes an internal error in the server.
const RAISES: Once = Once("/api/git/diff?path=/a%00b");

async fn ending(client: &Client, target: &str) -> Error {
    let mut socket = client.socket(target).await.unwrap();
    loop {
        match socket.recv().await {
            Ok(Message::Text(text)) if text.starts_with(b"{") => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn rejections_of_the_server_are_decoded() {
    let home = openhands_tests::home();
    let server: LocalServer = openhands_tests::server(&home).start().await.unwrap();
    let client: &Client = server.as_ref();
    let url = client.base_url().as_str();

    // An internal error has an id and does not affect the next request, although the server closes
    // the connection unannounced.
    for _ in 0..20 {
        let error = client.call(&RAISES).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server);
        assert_eq!(error.error_id().map(str::len), Some(32), "{error}");
        assert!(error.detail().unwrap().contains("embedded null"), "{error}");
        client.call(&COUNT).await.unwrap();
    }

    // The server closes connections that are idle for five seconds.
    for idle in [3_500, 4_900, 5_000, 5_100, 6_500] {
        tokio::time::sleep(Duration::from_millis(idle)).await;
        client.call(&COUNT).await.unwrap();
    }

    let error = client
        .call(&Once("/api/conversations/search?limit=0"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    let [entry] = error.validation() else {
        panic!("{error:?}");
    };
    assert_eq!(entry.location, ["query", "limit"]);
    assert_eq!(
        (&*entry.kind, &*entry.message),
        ("greater_than", "Input should be greater than 0")
    );

    let count = client.call(&Any::get("/api/conversations/count")).await;
    assert_eq!(count.unwrap().to_string(), "0");
    let error = client.call(&Any::get("/api/no-such-route")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    let command = serde_json::json!({"command": "echo $((6 * 7))"});
    let call = Any::post("/api/bash/execute_bash_command").body(&command);
    let output = client.call(&call.unwrap()).await.unwrap();
    assert_eq!(output.get("stdout").unwrap().to_value(), "42\n");

    assert!(client.has(Capability::SessionSocket).await.unwrap());
    assert!(client.has(Capability::IdempotentCreate).await.unwrap());
    assert!(
        client
            .has(Capability::Tool("terminal".into()))
            .await
            .unwrap()
    );
    assert!(
        !client
            .has(Capability::Other("no_such".into()))
            .await
            .unwrap()
    );

    let unknown = format!("/sockets/session/{}?after_seq=-1", uuid::Uuid::new_v4());
    let error = ending(client, &unknown).await;
    assert_eq!(
        (error.kind(), error.close_code()),
        (ErrorKind::NotFound, Some(4004))
    );
    let error = client.socket("/sockets/no-such").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);

    let wrong = Client::builder(url)
        .session_api_key("not-this-one")
        .build()
        .unwrap();
    let none = Client::builder(url).build().unwrap();
    for stranger in [wrong, none] {
        let error = stranger.call(&COUNT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let error = ending(&stranger, &unknown).await;
        assert_eq!(
            (error.kind(), error.close_code()),
            (ErrorKind::Unauthorized, Some(4001))
        );
    }
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
