//! A conversation that the server unloads because no client has used it for a while.

use std::{path::PathBuf, time::Duration};

use openhands::{
    Conversation, ConversationId, LocalServer,
    hooks::{Hook, HookConfig},
    protocol::config::ConfirmationPolicy,
    testkit::ScriptedModel,
};
use tokio::time::{sleep, timeout};

use super::{LONG, agent, finishes, messages, says, workspace};

/// Idle time after which a conversation is unloaded. The server checks once a minute.
pub(super) const TTL: (&str, &str) = ("OH_CONVERSATION_IDLE_TTL_SECONDS", "5");

/// A conversation without connected clients.
pub(super) struct Left {
    id: ConversationId,
    model: ScriptedModel,
    /// File that its SessionEnd hook creates.
    sign: PathBuf,
}

pub(super) async fn one_is_left(server: &LocalServer) -> Left {
    let model = says("An answer.").await;
    let sign = server.workspace_dir().join("put-away");
    let ended = Hook::command(format!("touch '{}'", sign.display()));
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .hooks(HookConfig::new().session_end(ended))
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    finishes(&conversation).await;
    conversation
        .approvals()
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    conversation.close().await.unwrap();
    Left {
        id: conversation.id(),
        model,
        sign,
    }
}

pub(super) async fn a_conversation_is_evicted_and_loaded_again(server: &LocalServer, left: Left) {
    let gone = async {
        while !left.sign.exists() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(LONG, gone).await.unwrap();
    let conversation = Conversation::attach(server.client(), left.id)
        .await
        .unwrap();
    // Everything is restored except the policy. The policy has its initial value again after the
    // hook has ended and the conversation is reloaded.
    assert_eq!(messages(&conversation.events()), ["Hello.", "An answer."]);
    let mut states = conversation.states();
    let loaded_again = async {
        while conversation.state().confirmation_policy().as_deref() != Some("NeverConfirm") {
            states.next().await.unwrap();
        }
    };
    timeout(LONG, loaded_again).await.unwrap();
    conversation.send("Again.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(messages(&conversation.events()).len(), 4);
    assert_eq!(left.model.requests().len(), 2);
    conversation.delete().await.unwrap();
}
