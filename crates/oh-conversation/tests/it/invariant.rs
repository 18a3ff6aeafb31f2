//! Random tests with two clients and a third program: runs, messages, approvals, pauses, policies,
//! goals, client tools, forks, navigation, cuts and lost answers. Every executed action was
//! approved by its id, once for each execution, or no policy asked for it. The `soak` profile runs
//! them for longer.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{ClientTool, ClientToolCall, Conversation, ErrorKind, PendingAction};
use oh_protocol::{
    ConversationId,
    calls::conversations::SetConfirmationPolicy,
    config::{Agent, ConfirmationPolicy, Llm},
};
use oh_testkit::{
    Chance, FakeConversation, FakeServer, Fault, Script, Step,
    fake::{Execution, Permission},
};
use oh_transport::Client;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::mock::Place;

/// Maximum duration of one step before the next one starts concurrently.
const STEP: Duration = Duration::from_millis(8);
/// Maximum average duration of a step on a busy machine.
const SLOW: Duration = Duration::from_millis(300);
/// Longer than any single step.
const LONG: Duration = Duration::from_secs(30);

/// An action of a conversation. A copy of the conversation has actions with the same ids.
type Action = (ConversationId, String);

/// How often the test has approved each action.
type Approved = Arc<Mutex<HashMap<Action, usize>>>;

/// The calls of the client tool that its handler has got.
type Handled = Arc<Mutex<Vec<Action>>>;

fn seed() -> u64 {
    let given = std::env::var("OH_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("OH_SEED={seed}");
    seed
}

/// Returns the script of an agent that acts forever and reports from time to time that it is done.
/// A judge of a goal gets the same steps, and understands none of them.
fn script() -> Script {
    Script::new().forever(|script| {
        let act = |n: usize| Step::call("terminal", json!({"command": format!("echo {n}")}));
        script
            .step(act(1).delay(Duration::from_millis(3)))
            .step(act(2))
            .step(act(3).and_call("terminal", json!({"command": "echo second"})))
            .step(Step::call("ask", json!({})))
            .step(act(4).and_call("ask", json!({})))
            .finish("Done.")
    })
}

/// A step of a user.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Run,
    Send,
    SendAndRun,
    Approve,
    ApproveOld,
    Reject,
    Pause,
    Interrupt,
    Policy { asks: bool },
    ForeignPolicy { asks: bool },
    Goal { rounds: u32 },
    StopGoal,
    Navigate,
    NavigateToStart,
    Fork { from_event: bool },
}

/// The kinds with their weights.
const KINDS: [(Kind, u64); 19] = [
    (Kind::Run, 22),
    (Kind::Send, 12),
    (Kind::SendAndRun, 9),
    (Kind::Approve, 20),
    (Kind::ApproveOld, 7),
    (Kind::Reject, 5),
    (Kind::Pause, 6),
    (Kind::Interrupt, 3),
    (Kind::Policy { asks: false }, 3),
    (Kind::Policy { asks: true }, 10),
    (Kind::ForeignPolicy { asks: false }, 1),
    (Kind::ForeignPolicy { asks: true }, 3),
    (Kind::Goal { rounds: 1 }, 2),
    (Kind::Goal { rounds: 3 }, 2),
    (Kind::StopGoal, 2),
    (Kind::Navigate, 5),
    (Kind::NavigateToStart, 1),
    (Kind::Fork { from_event: false }, 1),
    (Kind::Fork { from_event: true }, 1),
];

fn kind(chance: &mut Chance) -> Kind {
    let all = KINDS.iter().map(|(_, weight)| weight).sum::<u64>();
    let mut left = chance.pick(0..=all - 1);
    for (kind, weight) in KINDS {
        match left.checked_sub(weight) {
            Some(rest) => left = rest,
            None => return kind,
        }
    }
    Kind::Run
}

/// The parts that the steps share.
#[derive(Clone)]
struct Shared {
    server: Arc<FakeServer>,
    id: ConversationId,
    approved: Approved,
    handled: Handled,
    /// Another program, which has no handle.
    foreign: Client,
    /// Held during a goal. A server with a goal executes what a policy of another program asks for,
    /// and no client can prevent it.
    goal: Arc<tokio::sync::Mutex<()>>,
}

/// The input of a step that chance has chosen.
struct Input {
    number: usize,
    pending: Vec<PendingAction>,
    old: Vec<PendingAction>,
    /// The event to navigate to or to fork from.
    event: Option<String>,
}

fn policy(asks: bool) -> ConfirmationPolicy {
    match asks {
        true => ConfirmationPolicy::always(),
        false => ConfirmationPolicy::never(),
    }
}

impl Shared {
    fn fake(&self) -> FakeConversation {
        self.server.conversation(self.id).unwrap()
    }

    async fn step(self, conversation: Conversation, kind: Kind, input: Input) {
        let number = input.number;
        match kind {
            Kind::Run => drop(conversation.run().timeout(STEP * 20).await),
            Kind::Send => drop(conversation.send(format!("message {number}")).await),
            Kind::SendAndRun => drop(conversation.send(format!("go {number}")).and_run().await),
            Kind::Approve => self.answer(&conversation, &input.pending, true).await,
            Kind::ApproveOld => self.answer(&conversation, &input.old, true).await,
            Kind::Reject => self.answer(&conversation, &input.pending, false).await,
            Kind::Pause => drop(conversation.pause().await),
            Kind::Interrupt => drop(conversation.interrupt().await),
            Kind::Policy { asks } => {
                drop(conversation.approvals().set_policy(policy(asks)).await);
            }
            Kind::ForeignPolicy { asks } => {
                let Ok(_no_goal) = self.goal.try_lock() else {
                    return;
                };
                let call = SetConfirmationPolicy::new(self.id, policy(asks));
                drop(self.foreign.call(&call).await);
            }
            Kind::Goal { rounds } => self.pursue(&conversation, rounds).await,
            Kind::StopGoal => drop(conversation.goals().stop().await),
            Kind::Navigate => {
                if let Some(event) = input.event {
                    drop(conversation.branches().navigate(event).await);
                }
            }
            Kind::NavigateToStart => drop(conversation.branches().navigate_to_start().await),
            Kind::Fork { from_event } => {
                let fork = conversation.branches().fork();
                let fork = match input.event.filter(|_| from_event) {
                    Some(event) => fork.from_event(event),
                    None => fork,
                };
                if let Ok(copy) = fork.await {
                    self.use_copy(&copy, number).await;
                }
            }
        }
    }

    /// Approves or rejects the shown actions, and records which ones this may have approved.
    async fn answer(&self, conversation: &Conversation, shown: &[PendingAction], approve: bool) {
        let approvals = conversation.approvals();
        if !approve {
            let _ = approvals.reject(shown, "Not this.").await;
            return;
        }
        let answer = approvals.approve(shown).await;
        let nothing = answer.is_err_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::Conflict | ErrorKind::NothingPending | ErrorKind::Closed
            )
        });
        if !nothing {
            let mut approved = self.approved.lock().unwrap();
            for action in shown {
                let key = (conversation.id(), action.id().to_owned());
                *approved.entry(key).or_default() += 1;
            }
        }
    }

    /// Starts a goal, and waits until the server pursues none.
    async fn pursue(&self, conversation: &Conversation, rounds: u32) {
        let Ok(_goal) = self.goal.try_lock() else {
            return;
        };
        // A goal needs an agent that is at rest, and no policy that asks.
        drop(conversation.interrupt().await);
        let pending = conversation.approvals().pending();
        self.answer(conversation, &pending, false).await;
        drop(conversation.approvals().set_policy(policy(false)).await);
        let goal = conversation.goals().start("Do it all.");
        if let Ok(goal) = goal.max_iterations(rounds).await {
            drop(timeout(STEP * 40, goal.ended()).await);
        }
        // A goal whose request had no response may have started, too.
        let over = async {
            while is_pursued(&self.fake()) {
                drop(conversation.goals().stop().await);
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, over).await.expect("the goal should end");
    }

    /// Uses a copy as a user would. Every other copy gets no approval.
    async fn use_copy(&self, copy: &Conversation, number: usize) {
        for _ in 0..3 {
            drop(copy.run().timeout(STEP * 20).await);
            let pending = copy.approvals().pending();
            if number.is_multiple_of(2) && !pending.is_empty() {
                self.answer(copy, &pending, true).await;
            }
        }
        drop(copy.pause().await);
        drop(copy.close().await);
    }

    /// Checks all conversations of the server. Returns how many executions needed an approval.
    fn check(&self, seed: u64) -> usize {
        let approved = self.approved.lock().unwrap();
        let mut executions: HashMap<Action, Vec<Execution>> = HashMap::new();
        for action in self.server.executed() {
            let key = (action.conversation, action.action_id.clone());
            executions.entry(key).or_default().push(action);
        }
        let mut needed = 0;
        for (action, executions) in &executions {
            let asked = |it: &&Execution| it.permission != Permission::NotAsked;
            let asked = executions.iter().filter(asked).count();
            needed += asked;
            let approvals = approved.get(action).copied().unwrap_or_default();
            if asked > approvals {
                self.explain(action);
            }
            let by: Vec<_> = executions.iter().map(|it| it.permission).collect();
            assert!(
                asked <= approvals,
                "{action:?} was executed by {by:?} and approved {approvals} times (OH_SEED={seed})"
            );
        }
        for call in self.handled.lock().unwrap().iter() {
            let known = executions.contains_key(call);
            assert!(known, "{call:?} was handled before it ran (OH_SEED={seed})");
        }
        needed
    }

    /// Prints what happened around an action.
    fn explain(&self, (id, action): &Action) {
        let events = self.server.conversation(*id).unwrap().events();
        let at = events.iter().position(|event| event.id() == action);
        let at = at.unwrap();
        for event in &events[at.saturating_sub(12)..(at + 40).min(events.len())] {
            let raw: Value = serde_json::from_slice(event.raw()).unwrap();
            let parent = &raw["parent_id"];
            println!(
                "{} {} {event} (after {parent})",
                event.timestamp(),
                event.id()
            );
        }
        for seen in self.server.requests().iter().rev().take(400) {
            if seen.method != "GET" {
                let action = seen.path.split('/').next_back().unwrap();
                println!("{} {action} {}", seen.method, seen.status);
            }
        }
    }
}

/// Returns whether the server pursues a goal.
fn is_pursued(fake: &FakeConversation) -> bool {
    let events = fake.events();
    let goal = events.iter().rev().find_map(|event| {
        let event: Value = serde_json::from_slice(event.raw()).unwrap();
        (event["key"] == "goal").then(|| event["value"]["active"] == true)
    });
    goal.unwrap_or(false)
}

/// Returns one of the last events that navigation can go to.
fn recent(conversation: &Conversation, place: u64) -> Option<String> {
    let events = conversation.events();
    let kinds = ["MessageEvent", "ActionEvent", "ObservationEvent"];
    let mut places = events.iter().rev();
    let place = usize::try_from(place).unwrap();
    let mut places = places
        .by_ref()
        .filter(|event| kinds.contains(&event.kind()));
    places.nth(place).map(|event| event.id().to_owned())
}

/// Breaks something at random.
fn disturb(server: &FakeServer, fake: &FakeConversation, chance: &mut Chance) {
    let lose = |route: &str| server.inject(Fault::lost_answer().on(route).times(1));
    match chance.pick(0..=159) {
        0 => server.cut_sockets(),
        1 => fake.close_sockets(1012, ""),
        2 => server.silence_sockets(),
        3 => lose("/api/conversations/{id}/run"),
        4 => lose("/api/conversations/{id}/events/respond_to_confirmation"),
        5 => server.inject(Fault::lost_answer().method("POST").on("/events").times(1)),
        6 => {
            let slow = Duration::from_millis(chance.pick(1..=40));
            server.inject(Fault::delay(slow).on("/events").times(3));
        }
        7 => server.inject(Fault::cut().on("/sockets/").times(2)),
        8 => lose("/api/conversations/{id}/goal"),
        9 => lose("/api/conversations/{id}/fork"),
        10 => lose("/api/conversations/{id}/navigate"),
        _ => {}
    }
}

/// Creates a conversation with a client tool, and attaches another client to it.
async fn clients(server: &FakeServer, handled: &Handled) -> [Conversation; 2] {
    let client = || {
        let client = Client::builder(server.url()).session_api_key(server.session_api_key());
        // A link that is silent during its replay is replaced after this time.
        let client = client.silence_timeout(Duration::from_millis(400));
        client.build().unwrap()
    };
    let calls = handled.clone();
    let tool = ClientTool::new("ask", "Asks.", move |call: ClientToolCall| {
        let key = (call.conversation_id(), call.id().to_owned());
        calls.lock().unwrap().push(key);
        async { Ok("An answer.") }
    });
    let agent = Agent::default_preset(Llm::new("test/model").api_key("key"));
    let first = Conversation::builder(&Place(client()), agent)
        .client_tool(tool)
        .confirmation_policy(policy(true))
        .reconnect_after(Duration::from_millis(5), Duration::from_millis(50))
        .ambiguous_after(Duration::from_millis(200))
        .wedged_after(Duration::from_millis(500))
        .start()
        .await
        .unwrap();
    let second = Conversation::attach(&client(), first.id())
        .reconnect_after(Duration::from_millis(5), Duration::from_millis(50))
        .ambiguous_after(Duration::from_millis(200))
        .wedged_after(Duration::from_millis(500))
        .await
        .unwrap();
    [first, second]
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
    let server = FakeServer::builder().script(script()).start().await;
    let server = Arc::new(server.unwrap());
    let handled = Handled::default();
    let clients = clients(&server, &handled).await;
    let foreign = Client::builder(server.url()).session_api_key(server.session_api_key());
    let shared = Shared {
        server: server.clone(),
        id: clients[0].id(),
        approved: Approved::default(),
        handled,
        foreign: foreign.build().unwrap(),
        goal: Arc::default(),
    };
    let fake = shared.fake();
    clients[0]
        .approvals()
        .set_policy(policy(true))
        .await
        .unwrap();
    let mut chance = Chance::new(seed);
    let mut shown: VecDeque<Vec<PendingAction>> = VecDeque::new();
    let mut work = JoinSet::new();
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    let steps = async {
        for number in 0..count {
            let conversation = clients[usize::try_from(chance.pick(0..=1)).unwrap()].clone();
            let kind = kind(&mut chance);
            let event = recent(&conversation, chance.pick(0..=30));
            let pending = conversation.approvals().pending();
            if !pending.is_empty() {
                shown.push_back(pending.clone());
                shown.truncate(4);
            }
            // The answer refers to the current actions or to earlier ones.
            let old = shown.front().cloned().unwrap_or_default();
            *done.entry(format!("{kind:?}")).or_default() += 1;
            let input = Input {
                number,
                pending,
                old,
                event,
            };
            work.spawn(shared.clone().step(conversation, kind, input));
            disturb(&server, &fake, &mut chance);
            if chance.hit(1, 3) {
                sleep(Duration::from_millis(chance.pick(0..=8))).await;
            }
            while let Some(finished) = work.try_join_next() {
                finished.unwrap();
            }
            // Only a few steps run at the same time, as with human users.
            if work.len() > 6
                && let Ok(Some(finished)) = timeout(LONG, work.join_next()).await
            {
                finished.unwrap();
            }
            // The effect of an answer is known only when the call has returned.
            if number % 25 == 24 {
                while let Ok(Some(finished)) = timeout(LONG, work.join_next()).await {
                    finished.unwrap();
                }
                shared.check(seed);
                println!("{} steps, {} executed", number + 1, server.executed().len());
            }
        }
        server.heal();
    };
    timeout(SLOW * u32::try_from(count).unwrap(), steps)
        .await
        .expect("the steps should be through");
    let needed = shared.check(seed);
    let handled = shared.handled.lock().unwrap().len();
    let goals = fake.events().iter().filter(|event| is_goal(event)).count();
    let copies = server.conversations().len() - 1;
    println!(
        "{count} steps {done:?}: {} executions, {needed} of them approved, {handled} calls of the \
         client tool, {copies} copies, {goals} reports of goals",
        server.executed().len()
    );
    assert!(
        needed > count / 100,
        "{needed} approved actions prove little"
    );
    assert!(
        handled > count / 200,
        "{handled} handled calls prove little"
    );
    assert!(copies > count / 200, "{copies} copies prove little");
    // On a busy machine few goals find the agent at rest.
    assert!(
        goals > count / 1_000,
        "{goals} reports of goals prove little"
    );
    for conversation in clients {
        conversation.close().await.unwrap();
    }
}

fn is_goal(event: &oh_protocol::Event) -> bool {
    let event: Value = serde_json::from_slice(event.raw()).unwrap();
    event["key"] == "goal"
}
