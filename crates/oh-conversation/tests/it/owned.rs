//! Futures of operations own all that they need, so that tasks can run them.

use std::future::{Future, IntoFuture};

use oh_conversation::{Conversation, Conversations, Goal, Subscription};
use oh_protocol::{
    ConversationId,
    config::{Agent, ConfirmationPolicy, Llm},
};

use crate::mock::{Place, attached};

/// Drops a future that `tokio::spawn` accepts.
fn spawns(future: impl Future + Send + 'static) {
    drop(future);
}

#[tokio::test(start_paused = true)]
async fn every_operation_can_be_moved_into_a_task_and_sends_nothing_before() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let before = mock.requests().len();
    let handle = conversation.clone();
    spawns(handle.run());
    spawns(handle.join());
    spawns(handle.send("Hello."));
    spawns(handle.ready());
    spawns(handle.pause());
    spawns(handle.interrupt());
    spawns(handle.info());
    spawns(handle.close());
    spawns(handle.delete());
    spawns(handle.approvals().approve(&[]));
    spawns(handle.approvals().reject(&[], "No."));
    spawns(handle.approvals().set_policy(ConfirmationPolicy::never()));
    spawns(handle.branches().navigate("a"));
    spawns(handle.branches().navigate_to_start());
    spawns(handle.branches().fork());
    spawns(handle.children().start("Count."));
    spawns(handle.children().list());
    spawns(handle.goals().start("Reach it."));
    spawns(handle.goals().stop());
    spawns(handle.goals().resume());
    spawns(handle.settings().set_security_analyzer(None));
    spawns(handle.settings().set_tags([("a", "b")]));
    spawns(handle.settings().switch_llm(Llm::new("m")));
    spawns(handle.settings().switch_profile("p"));
    spawns(handle.settings().switch_acp_model("m"));
    spawns(handle.settings().load_plugin("p"));
    spawns(handle.secrets().set([("A", "b")]));
    spawns(handle.title().set("A title"));
    spawns(handle.title().generate());
    spawns(handle.log().event("a"));
    spawns(handle.log().events(["a"]));
    spawns(handle.log().search().count());
    spawns(handle.log().trajectory());
    spawns(handle.log().trajectory_stream());
    spawns(handle.agent().ask("Why?"));
    spawns(handle.agent().final_response());
    spawns(handle.agent().condense());
    spawns(handle.agent().mcp_status());
    spawns(handle.runtime().info());
    spawns(handle.runtime().reprovision());
    spawns(handle.runtime().release());
    spawns(handle.runtime().session_api_key());
    spawns(handle.secrets().bind("A", "http://h", [("B", "c")]));
    let place = Place(mock.client());
    let builder = || Conversation::builder(&place, Agent::new(Llm::new("m").api_key("k")));
    spawns(builder().start());
    spawns(builder().into_future());
    let conversations = Conversations::of(&mock.client());
    spawns(Conversation::attach(&mock.client(), mock.id));
    spawns(conversations.count(None));
    spawns(conversations.prepare_pause());
    spawns(conversations.batch([ConversationId::random()]));
    assert_eq!(mock.requests().len(), before);
}

// Checked at compile time, because the values are the results of requests.
const _: fn(&Goal, Subscription) = |goal, subscription| {
    spawns(goal.ended());
    spawns(goal.stop());
    spawns(subscription.cancel());
};
