//! A scene with a server that is replaced by one of another version.

use openhands::{
    RunStatus,
    conversation::LinkStatus,
    protocol::calls::server::GetServerInfo,
    testkit::{Fault, Proxy},
    transport::{Capability, ErrorKind},
};
use openhands_tests::BEFORE;
use tokio::time::timeout;

use super::stage::{LONG, Stage, executes, start, until};

pub(crate) async fn a_server_that_is_replaced_by_an_older_one(stage: &Stage) {
    let home = openhands_tests::home();
    let older = openhands_tests::server_before(&home);
    let older = older.session_api_key(stage.server.session_api_key().clone());
    let older = older.start().await.unwrap();
    let proxy = Proxy::start(stage.server.address()).await.unwrap();
    let client = stage.client(proxy.url()).build().unwrap();
    let version = async || client.server_info().await.unwrap().version.to_string();
    let sessions = async || client.has(Capability::SessionSocket).await.unwrap();
    let newer = stage.server.info().version.to_string();
    let check = GetServerInfo::default();
    let directory = stage.directory("replaced");
    let (conversation, _model) = start(&client, &directory).await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    assert_eq!((version().await, sessions().await), (newer.clone(), true));

    // The connections end, as in a deployment. The conversation is not on the other server.
    proxy.retarget(older.address());
    proxy.cut();
    until(|| conversation.link().status() == LinkStatus::Ended).await;
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Gone, "{outcome}");
    assert_eq!(
        (version().await, sessions().await),
        (BEFORE.to_owned(), false)
    );
    executes(&client, older.workspace_dir()).await;

    // No socket is open now, and a gateway answers between the servers.
    proxy.record();
    proxy.cut();
    client.call(&check).await.unwrap();
    for status in [502, 503, 504] {
        for (server, expected) in [
            (stage.server.address(), newer.as_str()),
            (older.address(), BEFORE),
        ] {
            proxy.inject(Fault::status(status).times(1));
            let error = client.call(&check).single_attempt().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server, "{error}");
            proxy.retarget(server);
            proxy.cut();
            assert_eq!(version().await, expected, "{status}");
        }
    }
    older.shutdown(LONG).await.unwrap();
}
