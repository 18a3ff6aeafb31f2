//! Two clients, pauses, approvals, cuts, lost responses and messages in a random order, against the
//! real server. Every command that ran was approved by the id of its action.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    Client, Conversation, WorkspaceExt,
    conversation::{ErrorKind, PendingAction},
    protocol::{Event, config::ConfirmationPolicy},
    testkit::{Chance, Fault, Proxy, Script, ScriptedModel},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::live::{LONG, agent, events};

const STEPS: usize = 100;
/// Delay between the starts of two steps.
const STEP: Duration = Duration::from_millis(200);
/// Maximum number of concurrent requests.
const CROWD: usize = 5;

const RUN: &str = "/api/conversations/{id}/run";
const RESPOND: &str = "/api/conversations/{id}/events/respond_to_confirmation";

/// Ids of actions that the test may have approved.
type Approved = Arc<Mutex<HashSet<String>>>;

fn seed() -> u64 {
    let given = std::env::var("OH_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("OH_SEED={seed}");
    seed
}

/// Returns more actions than the steps can use, each with its own line in the file `ran`.
fn script() -> Script {
    let act = |n: usize| json!({ "command": format!("echo {n} >> ran") });
    let mut script = Script::new();
    for n in 0..STEPS * 2 {
        script = script.call("terminal", act(n));
        if n % 4 == 3 {
            script = script.finish("Done.");
        }
    }
    script
}

/// Answers the shown actions and records the ids that this may have approved.
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
    let answer = approvals.approve(&shown).await;
    let nothing = answer.is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::Conflict | ErrorKind::NothingPending | ErrorKind::Closed
        )
    });
    if !nothing {
        let ids = shown.iter().map(|action| action.id().to_owned());
        approved.lock().unwrap().extend(ids);
    }
}

/// Performs one random step of a user.
async fn step(
    conversation: Conversation,
    (what, number): (u64, usize),
    pending: Vec<PendingAction>,
    old: Vec<PendingAction>,
    approved: Approved,
) {
    match what {
        0..=24 => drop(conversation.run().timeout(STEP * 20).await),
        25..=31 => drop(conversation.send(format!("message {number}")).await),
        32..=44 => drop(conversation.send(format!("go {number}")).and_run().await),
        45..=74 => answer(conversation, pending, true, approved).await,
        75..=79 => answer(conversation, old, true, approved).await,
        80..=84 => answer(conversation, pending, false, approved).await,
        85..=92 => drop(conversation.pause().await),
        93..=94 => drop(conversation.interrupt().await),
        _ => {
            let always = ConfirmationPolicy::always();
            drop(conversation.approvals().set_policy(always).await);
        }
    }
}

/// Returns the number that an action's command writes, if the event is such an action.
fn number(event: &Event) -> Option<String> {
    let raw: Value = serde_json::from_slice(event.raw()).unwrap();
    let command = raw["action"]["command"].as_str()?;
    let number = command.strip_prefix("echo ")?.strip_suffix(" >> ran")?;
    Some(number.to_owned())
}

#[tokio::test]
async fn every_command_that_ran_was_approved_by_the_id_of_its_action() {
    let seed = seed();
    let model = ScriptedModel::start(script()).await.unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    // Record from the first connection on, so that faults can be matched with their requests.
    proxy.record();
    let client = || {
        let client = Client::builder(proxy.url()).session_api_key(server.session_api_key().clone());
        client.build().unwrap()
    };
    let directory = server.workspace_dir().join("asked");
    fs::create_dir(&directory).unwrap();
    let first = client();
    let workspace = first.workspace(directory.display().to_string());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .confirmation_policy(ConfirmationPolicy::always())
        .start()
        .await
        .unwrap();
    let other = client();
    let clients = [
        conversation.clone(),
        Conversation::attach(&other, conversation.id())
            .await
            .unwrap(),
    ];
    let approved = Approved::default();
    let mut chance = Chance::new(seed);
    let mut shown: Vec<PendingAction> = Vec::new();
    let mut work = JoinSet::new();
    for number in 0..STEPS {
        let conversation = clients[usize::try_from(chance.pick(0..=1)).unwrap()].clone();
        let what = chance.pick(0..=99);
        let pending = conversation.approvals().pending();
        // The answer may refer to the current actions or to earlier ones.
        let old = std::mem::take(&mut shown);
        shown.clone_from(if pending.is_empty() { &old } else { &pending });
        let stepping = step(conversation, (what, number), pending, old, approved.clone());
        work.spawn(stepping);
        match chance.pick(0..=19) {
            0 => proxy.cut(),
            1 => {
                proxy.hold();
                tokio::time::sleep(STEP).await;
                proxy.release();
            }
            2 => proxy.inject(Fault::lost_answer().on(RUN).times(1)),
            3 => proxy.inject(Fault::lost_answer().on(RESPOND).times(1)),
            _ => {}
        }
        // The next step starts concurrently with this one, or after it.
        tokio::time::sleep(STEP).await;
        while work.try_join_next().is_some() {}
        while work.len() > CROWD {
            timeout(LONG, work.join_next()).await.unwrap();
        }
    }
    while timeout(LONG, work.join_next()).await.unwrap().is_some() {}
    timeout(LONG, conversation.pause()).await.unwrap().unwrap();
    timeout(LONG, conversation.ready()).await.unwrap().unwrap();

    let approved = approved.lock().unwrap().clone();
    let all = events(server.client(), conversation.id()).await;
    let actions: HashMap<String, &Event> = all
        .iter()
        .filter_map(|event| Some((number(event)?, event)))
        .collect();
    let ran = fs::read_to_string(directory.join("ran")).unwrap_or_default();
    let mut seen = HashSet::new();
    for line in ran.lines() {
        assert!(seen.insert(line), "{line} ran twice (OH_SEED={seed})");
        let action = actions[line];
        assert!(
            approved.contains(action.id()),
            "{line} ran and nobody approved {} (OH_SEED={seed})",
            action.id()
        );
    }
    println!("{} actions, {} ran", actions.len(), seen.len());
    assert!(seen.len() > 2, "{} commands prove little", seen.len());
    for conversation in clients {
        conversation.close().await.unwrap();
    }
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
