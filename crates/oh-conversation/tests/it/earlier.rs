//! Tests of actions that wait for approval although they are older than the events that a handle
//! holds, or their policy was lifted.

use std::time::Duration;

use oh_conversation::{Attach, Conversation, Cursor, ErrorKind, PendingAction, RunStatus};
use oh_protocol::{ExecutionStatus, config::ConfirmationPolicy};
use oh_testkit::{FakeConversation, FakeServer, Fault, Script, Step, fake::UpgradeRefusal};
use oh_transport::Client;
use serde_json::json;

use crate::{
    approvals::until,
    mock::{attached, soon},
};

const RUN: &str = "/api/conversations/{id}/run";

struct Scene {
    server: FakeServer,
    fake: FakeConversation,
    first: Conversation,
    waiting: Vec<PendingAction>,
}

/// Creates a paused conversation whose first two actions wait for approval.
async fn paused() -> Scene {
    let act = |n: usize| Step::call("terminal", json!({"command": format!("echo {n}")}));
    let script = Script::new()
        .step(act(1).and_call("terminal", json!({"command": "echo 2"})))
        .finish("Done.");
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let fake = server.create();
    let first = Conversation::attach(&client(&server), fake.id());
    let first = first.await.unwrap();
    let always = ConfirmationPolicy::always();
    first.approvals().set_policy(always).await.unwrap();
    first.send("go").await.unwrap();
    let outcome = first.run().await.unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    // An interrupt that arrives while the step ends has this effect.
    fake.set_status("paused");
    until(|| first.state().execution_status() == ExecutionStatus::Paused).await;
    let waiting = first.approvals().pending();
    assert_eq!(waiting.len(), 2);
    Scene {
        server,
        fake,
        first,
        waiting,
    }
}

/// Creates a client that does not share links with others.
fn client(server: &FakeServer) -> Client {
    let client = Client::builder(server.url()).session_api_key(server.session_api_key());
    client.build().unwrap()
}

impl Scene {
    /// Logs events that do not concern any action.
    fn flood(&self, events: usize) {
        for _ in 0..events {
            self.fake.log("user", "New", json!({}));
        }
    }

    async fn lift(&self) {
        let never = ConfirmationPolicy::never();
        self.first.approvals().set_policy(never).await.unwrap();
    }

    async fn attach(&self, how: impl FnOnce(Attach) -> Attach) -> Conversation {
        let attach = how(Conversation::attach(&client(&self.server), self.fake.id()));
        attach.await.unwrap()
    }

    /// Checks that the actions are executed only after their approval, and by the approval.
    async fn check(self, conversation: Conversation, what: &str) {
        self.server.forget_requests();
        let outcome = soon(conversation.run().into_future()).await.unwrap();
        let status = outcome.status();
        assert_eq!(status, RunStatus::WaitingForConfirmation, "{what}");
        let error = soon(conversation.send("go on").and_run().into_future()).await;
        let kind = error.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::PendingConfirmation, "{what}");
        let run = self.server.requests_to("POST", RUN);
        assert!(run.is_empty(), "{what}: {run:?}");
        assert!(self.fake.executed().is_empty(), "{what}");
        let pending = conversation.approvals().pending();
        assert_eq!(pending, self.waiting, "{what}");
        soon(conversation.approvals().approve(&pending))
            .await
            .unwrap();
        let outcome = soon(conversation.run().into_future()).await.unwrap();
        assert!(outcome.is_finished(), "{what}: {outcome}");
        let sent = self.server.requests_to("POST", RUN);
        assert!(sent.is_empty(), "{what}: joins the run of the approval");
        // The third executed action is the one that ends the run.
        assert_eq!(self.fake.executed().len(), 3, "{what}");
        assert!(conversation.approvals().pending().is_empty(), "{what}");
    }
}

type How = fn(Attach) -> Attach;

#[tokio::test]
async fn an_action_older_than_the_events_held_waits_for_its_approval() {
    let ways: [(&str, How); 4] = [
        ("live", Attach::live),
        ("tail", |attach| attach.tail(30)),
        ("from", |attach| attach.from(Cursor::After(240))),
        ("to the middle of the batch", |attach| attach.tail(253)),
    ];
    for (what, how) in ways {
        let scene = paused().await;
        scene.flood(250);
        let conversation = scene.attach(how).await;
        assert_eq!(conversation.approvals().pending(), scene.waiting, "{what}");
        scene.check(conversation, what).await;
    }
}

#[tokio::test]
async fn an_action_waits_although_its_policy_was_removed() {
    let ways: [(&str, How); 3] = [
        ("all", |attach| attach),
        ("live", Attach::live),
        ("from", |attach| attach.from(Cursor::After(240))),
    ];
    for (what, how) in ways {
        let scene = paused().await;
        scene.flood(250);
        scene.lift().await;
        let conversation = scene.attach(how).await;
        scene.check(conversation, what).await;
    }
    let scene = paused().await;
    scene.lift().await;
    let conversation = scene.first.clone();
    scene.check(conversation, "the handle that lifted it").await;
}

#[tokio::test]
async fn an_action_waits_although_its_event_is_no_longer_kept() {
    for lift in [false, true] {
        let scene = paused().await;
        let conversation = scene.attach(|attach| attach.keep_last(1)).await;
        scene.flood(3_000);
        until(|| conversation.events().seq(0) > Some(1_000)).await;
        if lift {
            scene.lift().await;
        }
        scene.check(conversation, &format!("lifted: {lift}")).await;
    }
}

#[tokio::test]
async fn an_older_action_of_another_branch_does_not_wait() {
    for lift in [false, true] {
        let scene = paused().await;
        let start = scene.fake.events();
        let start = start.iter().find(|event| event.kind() == "MessageEvent");
        let start = start.unwrap().id().to_owned();
        scene.flood(250);
        if lift {
            scene.lift().await;
        }
        scene.first.branches().navigate(&start).await.unwrap();
        let conversation = scene.attach(Attach::live).await;
        assert!(conversation.approvals().pending().is_empty());
        // The next step of the script ends the run.
        let outcome = soon(conversation.run().into_future()).await.unwrap();
        assert!(outcome.is_finished(), "{outcome}");
        // The only executed action is the one that ends the run.
        assert_eq!(scene.fake.executed().len(), 1);
    }
}

/// A busy server may send the state, which contains the head of the log, late.
#[tokio::test]
async fn an_older_action_waits_although_the_server_has_sent_no_state() {
    let hows: [How; 2] = [Attach::live, |attach| attach.tail(3)];
    for lift in [false, true] {
        for how in hows {
            let scene = paused().await;
            scene.flood(250);
            if lift {
                scene.lift().await;
            }
            scene.server.inject(Fault::hang().on("/sockets/"));
            let conversation = scene.attach(how).await;
            assert_eq!(conversation.approvals().pending(), scene.waiting);
        }
    }
}

/// Without a socket, the server sends no state at all.
#[tokio::test]
async fn an_older_action_waits_although_sockets_are_refused() {
    let scene = paused().await;
    scene.flood(250);
    scene.lift().await;
    let refused = UpgradeRefusal::Status(403);
    scene.server.inject(Fault::refuse_upgrade(refused));
    let conversation = scene.attach(Attach::live).await;
    scene.check(conversation, "refused").await;
}

/// Only a request shows that another client has navigated.
#[tokio::test]
async fn an_action_to_which_another_client_has_navigated_waits() {
    let ways: [(&str, How); 3] = [
        ("all", |attach| attach),
        ("live", Attach::live),
        ("no more held", |attach| attach.keep_last(1)),
    ];
    for (what, how) in ways {
        for lift in [false, true] {
            let scene = paused().await;
            let pending = scene.first.approvals().pending();
            let approvals = scene.first.approvals();
            soon(approvals.reject(&pending, "no")).await.unwrap();
            if lift {
                scene.lift().await;
            }
            let conversation = scene.attach(how).await;
            if what == "no more held" {
                scene.flood(3_000);
                until(|| conversation.events().seq(0) > Some(1_000)).await;
            }
            assert!(conversation.approvals().pending().is_empty(), "{what}");
            let last = pending.last().unwrap().id();
            scene.first.branches().navigate(last).await.unwrap();
            waits(&scene, &conversation).await;
            assert_eq!(conversation.approvals().pending(), scene.waiting, "{what}");
        }
    }
}

/// An approval holds for one execution, whose result is no longer held here.
#[tokio::test]
async fn an_approved_action_waits_again_although_its_result_is_no_longer_held() {
    let scene = paused().await;
    let conversation = scene.attach(|attach| attach.keep_last(1)).await;
    let approvals = conversation.approvals();
    soon(approvals.approve(&scene.waiting)).await.unwrap();
    let outcome = soon(conversation.join().into_future()).await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let executed = scene.fake.executed().len();
    scene.flood(3_000);
    until(|| conversation.events().seq(0) > Some(1_000)).await;
    let last = scene.waiting.last().unwrap().id();
    scene.first.branches().navigate(last).await.unwrap();
    let outcome = soon(conversation.run().into_future()).await.unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(approvals.pending(), scene.waiting);
    assert_eq!(scene.fake.executed().len(), executed);
}

/// Checks that the handle starts no run.
async fn waits(scene: &Scene, conversation: &Conversation) {
    scene.server.forget_requests();
    let outcome = soon(conversation.run().into_future()).await.unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    let error = soon(conversation.send("go on").and_run().into_future()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::PendingConfirmation);
    assert!(scene.server.requests_to("POST", RUN).is_empty());
    assert!(scene.fake.executed().is_empty());
}

/// If no policy asked for an action, the handle does not wait for approval: a run continues with an
/// action that a crash left open.
#[tokio::test(start_paused = true)]
async fn an_open_action_without_a_policy_does_not_wait() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (seq, event) = mock.act();
    dial.durable(seq, &event).await.unwrap();
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    running.abort();
}

/// A link counts as alive for some time although it delivers nothing.
#[tokio::test]
async fn waiting_actions_are_known_in_time_on_a_silent_link() {
    let scene = paused().await;
    let conversation = scene
        .attach(|attach| attach.ambiguous_after(Duration::from_secs(2)))
        .await;
    scene.server.silence_sockets();
    scene.flood(1);
    let pending = conversation.approvals().pending();
    soon(conversation.approvals().approve(&pending))
        .await
        .unwrap();
    until(|| scene.fake.executed().len() >= 2).await;
}

#[tokio::test]
async fn a_title_is_generated_from_a_message_older_than_the_events_held() {
    let server = FakeServer::builder().script(Script::new().text("Mend the build."));
    let server = server.start().await.unwrap();
    let fake = server.create();
    let client = client(&server);
    let first = Conversation::attach(&client, fake.id()).await.unwrap();
    first.send("Please mend the build.").await.unwrap();
    fake.fill(200, 10).await;
    let window = Conversation::attach(&client, fake.id()).live();
    let window = window.await.unwrap();
    let title = window.title().generate().await.unwrap();
    assert_eq!(title, "Mend the build.");
}
