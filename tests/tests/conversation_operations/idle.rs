//! A conversation that the server puts away because nobody has looked at it for a while.

use std::{path::PathBuf, time::Duration};

use openhands::{
    Conversation, ConversationId, LocalServer,
    hooks::{Hook, HookConfig},
    protocol::config::ConfirmationPolicy,
    testkit::ScriptedModel,
};
use tokio::time::{sleep, timeout};

use super::{LONG, agent, finishes, messages, says, workspace};

/// How long a conversation is left alone before it is put away; the server looks once a minute.
pub(super) const TTL: (&str, &str) = ("OH_CONVERSATION_IDLE_TTL_SECONDS", "5");

/// One that nobody is connected to.
pub(super) struct Left {
    id: ConversationId,
    model: ScriptedModel,
    /// What its last hook leaves behind.
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

pub(super) async fn it_is_put_away_and_comes_back(server: &LocalServer, left: Left) {
    let gone = async {
        while !left.sign.exists() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(LONG, gone).await.unwrap();
    let conversation = Conversation::attach(server.client(), left.id)
        .await
        .unwrap();
    // All of it is there but the policy: that is as it was at the start again, once the hook has
    // ended and the conversation is loaded anew.
    assert_eq!(messages(&conversation.events()), ["Hello.", "An answer."]);
    let mut states = conversation.states();
    let loaded_anew = async {
        while conversation.state().confirmation_policy().as_deref() != Some("NeverConfirm") {
            states.next().await.unwrap();
        }
    };
    timeout(LONG, loaded_anew).await.unwrap();
    conversation.send("Again.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(messages(&conversation.events()).len(), 4);
    assert_eq!(left.model.requests().len(), 2);
    conversation.delete().await.unwrap();
}
