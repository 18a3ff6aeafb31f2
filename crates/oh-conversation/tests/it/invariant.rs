//! Random tests with two clients, pauses, approvals, cuts, lost answers and messages: every
//! executed action was approved by its id, or no policy asked for it. The `soak` profile runs them
//! for longer.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{Conversation, ErrorKind, PendingAction};
use oh_protocol::config::ConfirmationPolicy;
use oh_testkit::{Chance, FakeConversation, FakeServer, Fault, Script, Step, fake::Permission};
use oh_transport::Client;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// Maximum duration of one step before the next one starts concurrently.
const STEP: Duration = Duration::from_millis(8);
/// Maximum average duration of a step on a busy machine.
const SLOW: Duration = Duration::from_millis(100);

/// Ids of the actions that the test has approved.
type Approved = Arc<Mutex<HashSet<String>>>;

fn seed() -> u64 {
    let given = std::env::var("OH_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("OH_SEED={seed}");
    seed
}

/// Returns the script of an agent that acts forever and reports from time to time that it is done.
fn script() -> Script {
    Script::new().forever(|script| {
        let act = |n: usize| Step::call("terminal", json!({"command": format!("echo {n}")}));
        script
            .step(act(1).delay(Duration::from_millis(3)))
            .step(act(2))
            .step(act(3).and_call("terminal", json!({"command": "echo second"})))
            .finish("Done.")
    })
}

/// Approves or rejects the shown actions, and records which ones this may have approved.
async fn answer(
    conversation: Conversation,
    shown: Vec<PendingAction>,
    approve: bool,
    approved: Approved,
) {
    let approvals = conversation.approvals();
    if !approve {
        let _ = approvals.reject(&shown, "Not this.").await;
        return;
    }
    let ids: Vec<String> = shown.iter().map(|action| action.id().to_owned()).collect();
    let answer = approvals.approve(&shown).await;
    let nothing = answer.is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::Conflict | ErrorKind::NothingPending | ErrorKind::Closed
        )
    });
    if !nothing {
        approved.lock().unwrap().extend(ids);
    }
}

fn check(fake: &FakeConversation, server: &FakeServer, approved: &Approved, seed: u64) {
    let approved = approved.lock().unwrap();
    let executed = fake.executed();
    for action in &executed {
        let asked = action.permission != Permission::NotAsked;
        if asked && !approved.contains(&action.action_id) {
            let events = fake.events();
            let at = events
                .iter()
                .position(|event| event.id() == action.action_id)
                .unwrap();
            for event in &events[at.saturating_sub(12)..(at + 10).min(events.len())] {
                println!("{} {} {}", event.timestamp(), event.kind(), event);
            }
            for (n, seen) in server.requests().iter().enumerate().rev().take(4000) {
                if seen.method != "GET" {
                    println!(
                        "{n} {} {} {}",
                        seen.method,
                        seen.path.split('/').next_back().unwrap(),
                        seen.status
                    );
                }
            }
        }
        assert!(
            !asked || approved.contains(&action.action_id),
            "{} was executed by {:?} and approved by nobody (OH_SEED={seed})",
            action.action_id,
            action.permission
        );
    }
}

#[tokio::test]
async fn every_executed_action_was_approved_by_id_or_no_policy_asked() {
    steps(2_000).await;
}

#[tokio::test]
async fn soak_every_executed_action_was_approved_by_id_or_no_policy_asked() {
    steps(20_000).await;
}

async fn steps(count: usize) {
    let seed = seed();
    let server = FakeServer::builder()
        .script(script())
        .start()
        .await
        .unwrap();
    let fake = server.create();
    let client = || {
        let client = Client::builder(server.url()).session_api_key(server.session_api_key());
        // A link that is silent during its replay is replaced after this time.
        let client = client.silence_timeout(Duration::from_millis(400));
        client.build().unwrap()
    };
    let mut clients = Vec::new();
    for _ in 0..2 {
        let attach = Conversation::attach(&client(), fake.id())
            .reconnect_after(Duration::from_millis(5), Duration::from_millis(50))
            .ambiguous_after(Duration::from_millis(200))
            .wedged_after(Duration::from_millis(500));
        clients.push(attach.await.unwrap());
    }
    let always = ConfirmationPolicy::always();
    clients[0].approvals().set_policy(always).await.unwrap();
    let approved = Approved::default();
    let mut chance = Chance::new(seed);
    let mut shown: VecDeque<Vec<PendingAction>> = VecDeque::new();
    let mut work = JoinSet::new();
    let steps = async {
        for step in 0..count {
            let conversation = clients[usize::try_from(chance.pick(0..=1)).unwrap()].clone();
            let what = chance.pick(0..=99);
            let pending = conversation.approvals().pending();
            if !pending.is_empty() {
                shown.push_back(pending.clone());
                shown.truncate(4);
            }
            // The answer refers to the current actions or to earlier ones.
            let old = shown.front().cloned().unwrap_or_default();
            let noted = approved.clone();
            work.spawn(async move {
                match what {
                    0..=24 => drop(conversation.run().timeout(STEP * 20).await),
                    25..=39 => drop(conversation.send(format!("message {step}")).await),
                    40..=49 => drop(conversation.send(format!("go {step}")).and_run().await),
                    50..=69 => answer(conversation, pending, true, noted).await,
                    70..=76 => answer(conversation, old, true, noted).await,
                    77..=81 => answer(conversation, pending, false, noted).await,
                    82..=89 => drop(conversation.pause().await),
                    90..=92 => drop(conversation.interrupt().await),
                    93 => {
                        let never = ConfirmationPolicy::never();
                        drop(conversation.approvals().set_policy(never).await);
                    }
                    _ => {
                        let always = ConfirmationPolicy::always();
                        drop(conversation.approvals().set_policy(always).await);
                    }
                }
            });
            match chance.pick(0..=149) {
                0 => server.cut_sockets(),
                1 => fake.close_sockets(1012, ""),
                2 => server.silence_sockets(),
                3 => {
                    let run = "/api/conversations/{id}/run";
                    server.inject(Fault::lost_answer().on(run).times(1));
                }
                4 => {
                    let respond = "/api/conversations/{id}/events/respond_to_confirmation";
                    server.inject(Fault::lost_answer().on(respond).times(1));
                }
                5 => server.inject(Fault::lost_answer().method("POST").on("/events").times(1)),
                6 => {
                    let slow = Duration::from_millis(chance.pick(1..=40));
                    server.inject(Fault::delay(slow).on("/events").times(3));
                }
                7 => server.inject(Fault::cut().on("/sockets/").times(2)),
                _ => {}
            }
            if chance.hit(1, 3) {
                sleep(Duration::from_millis(chance.pick(0..=8))).await;
            }
            while work.try_join_next().is_some() {}
            // Only a few steps run at the same time, as with human users.
            if work.len() > 6 {
                let _ = timeout(Duration::from_secs(30), work.join_next()).await;
            }
            // The effect of an answer is known only when the call has returned.
            if step % 25 == 24 {
                while let Ok(Some(_)) = timeout(Duration::from_secs(30), work.join_next()).await {}
                check(&fake, &server, &approved, seed);
                println!("{} steps, {} executed", step + 1, fake.executed().len());
            }
        }
        server.heal();
    };
    timeout(SLOW * u32::try_from(count).unwrap(), steps)
        .await
        .expect("the steps should be through");
    let executed = fake.executed();
    check(&fake, &server, &approved, seed);
    let asked = executed
        .iter()
        .filter(|action| action.permission != Permission::NotAsked)
        .count();
    println!(
        "{count} steps, {} actions executed, {asked} of them approved",
        executed.len()
    );
    assert!(asked > count / 100, "{asked} approved actions prove little");
    for conversation in clients {
        conversation.close().await.unwrap();
    }
}
