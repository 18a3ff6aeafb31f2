//! Two clients and another program in a random order, against the real server: runs, messages,
//! approvals, pauses, policies, goals, a client tool, copies, navigation, cuts and lost responses.
//! Every executed action was approved by its id, once for each execution, or no policy asked for it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    Client, Conversation, WorkspaceExt,
    conversation::{ClientTool, ClientToolCall, ErrorKind, PendingAction},
    protocol::{
        ConversationId,
        calls::conversations::{Get, SetConfirmationPolicy},
        config::{ConfirmationPolicy, Llm},
    },
    testkit::{Chance, Fault, Proxy, Script, ScriptedModel, Step},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::live::{LONG, agent, events, llm};

/// Delay between the starts of two steps.
const STEP: Duration = Duration::from_millis(150);
/// Time limit of a run, and of a goal.
const WAIT: Duration = Duration::from_secs(4);
/// Maximum number of concurrent steps.
const CROWD: usize = 5;
/// Number of rounds of the script, which are more than the steps can use.
const ROUNDS: usize = 100;

const RUN: &str = "/api/conversations/{id}/run";
const RESPOND: &str = "/api/conversations/{id}/events/respond_to_confirmation";
const NAVIGATE: &str = "/api/conversations/{id}/navigate";
const FORK: &str = "/api/conversations/{id}/fork";
const GOAL: &str = "/api/conversations/{id}/goal";

/// An action of a conversation. A copy of the conversation has actions with the same ids.
type Action = (ConversationId, String);

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

/// The kinds, and how often each occurs.
const KINDS: [(Kind, usize); 19] = [
    (Kind::Run, 24),
    (Kind::Send, 5),
    (Kind::SendAndRun, 13),
    (Kind::Approve, 26),
    (Kind::ApproveOld, 5),
    (Kind::Reject, 4),
    (Kind::Pause, 6),
    (Kind::Interrupt, 2),
    (Kind::Policy { asks: false }, 2),
    (Kind::Policy { asks: true }, 6),
    (Kind::ForeignPolicy { asks: false }, 1),
    (Kind::ForeignPolicy { asks: true }, 3),
    (Kind::Goal { rounds: 1 }, 2),
    (Kind::Goal { rounds: 2 }, 1),
    (Kind::StopGoal, 1),
    (Kind::Navigate, 5),
    (Kind::NavigateToStart, 1),
    (Kind::Fork { from_event: false }, 2),
    (Kind::Fork { from_event: true }, 2),
];

/// Returns all steps in a random order.
fn steps(chance: &mut Chance) -> Vec<Kind> {
    let each = KINDS.iter();
    let mut steps: Vec<_> = each
        .flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count))
        .collect();
    for at in (1..steps.len()).rev() {
        let other = chance.pick(0..=u64::try_from(at).unwrap());
        steps.swap(at, usize::try_from(other).unwrap());
    }
    assert!(steps.len() >= 100);
    steps
}

fn seed() -> u64 {
    let given = std::env::var("OH_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("OH_SEED={seed}");
    seed
}

/// Returns a script in which each command appends its own number to the file `ran`. A judge of a
/// goal gets the same steps, and understands none of them.
fn script() -> Script {
    let mut script = Script::new();
    for round in 0..ROUNDS {
        let act = |n: usize| json!({ "command": format!("echo {} >> ran", round * 10 + n) });
        script = script
            .call("terminal", act(0))
            .call("terminal", act(1))
            .step(Step::call("terminal", act(2)).and_call("terminal", act(3)))
            .call("ask", json!({}))
            .step(Step::call("terminal", act(4)).and_call("ask", json!({})))
            .finish("Done.");
    }
    script
}

fn policy(asks: bool) -> ConfirmationPolicy {
    match asks {
        true => ConfirmationPolicy::always(),
        false => ConfirmationPolicy::never(),
    }
}

/// The parts that the steps share.
#[derive(Clone)]
struct Shared {
    id: ConversationId,
    /// The model, for copies.
    llm: Llm,
    /// Another program, which has no handle, and whose connections are not disturbed.
    foreign: Client,
    /// How often the test may have approved each action.
    approved: Arc<Mutex<HashMap<Action, usize>>>,
    /// The calls of the client tool that its handler has got.
    handled: Arc<Mutex<Vec<Action>>>,
    copies: Arc<Mutex<Vec<ConversationId>>>,
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

impl Shared {
    async fn step(self, conversation: Conversation, kind: Kind, input: Input) {
        let number = input.number;
        match kind {
            Kind::Run => drop(conversation.run().timeout(WAIT).await),
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
                self.foreign.call(&call).await.unwrap();
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
                let fork = conversation.branches().fork().llm(self.llm.clone());
                let fork = match input.event.filter(|_| from_event) {
                    Some(event) => fork.from_event(event),
                    None => fork,
                };
                if let Ok(copy) = fork.await {
                    self.use_copy(&copy, number, WAIT).await;
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
            drop(timeout(WAIT, goal.ended()).await);
        }
        // A goal whose request had no response may have started, too.
        let over = async {
            while self.is_pursued().await {
                drop(conversation.goals().stop().await);
                sleep(STEP / 4).await;
            }
        };
        timeout(LONG, over).await.expect("the goal should end");
    }

    async fn is_pursued(&self) -> bool {
        let info = self.foreign.call(&Get::new(self.id)).await.unwrap();
        let goal = info.state().get("goal").map(|goal| goal.to_value());
        goal.is_some_and(|goal| goal["active"] == true)
    }

    /// Uses a copy as a user would. Every other copy gets no approval.
    async fn use_copy(&self, copy: &Conversation, number: usize, limit: Duration) {
        self.copies.lock().unwrap().push(copy.id());
        for _ in 0..2 {
            drop(copy.run().timeout(limit).await);
            let pending = copy.approvals().pending();
            if number.is_multiple_of(2) && !pending.is_empty() {
                self.answer(copy, &pending, true).await;
            }
        }
        drop(copy.interrupt().await);
        drop(copy.close().await);
    }
}

/// The logs of the conversation and its copies.
#[derive(Default)]
struct Logs {
    /// The id of the action by the number that its command writes.
    numbered: HashMap<String, String>,
    /// The actions that a policy has asked for.
    asked: HashSet<String>,
    /// The number of executions, without those that a copy has from its original.
    executed: HashMap<Action, usize>,
    goals: usize,
}

impl Logs {
    /// Reads the log of a conversation. Its copies are read later.
    fn read(&mut self, id: ConversationId, log: &[Value], copied: &HashSet<String>) {
        // The actions of one response of the model. That they wait is logged directly after them.
        let mut together: (Value, Vec<String>) = Default::default();
        for event in log {
            let event_id = event["id"].as_str().unwrap().to_owned();
            match event["kind"].as_str().unwrap() {
                "ActionEvent" => {
                    if let Some(number) = number(event) {
                        self.numbered.insert(number, event_id.clone());
                    }
                    let response = event["llm_response_id"].clone();
                    if together.0 != response {
                        together = (response, Vec::new());
                    }
                    together.1.push(event_id);
                }
                "ObservationEvent" => {
                    let action = event["action_id"].as_str().unwrap().to_owned();
                    together.1.retain(|it| *it != action);
                    if !copied.contains(&event_id) {
                        *self.executed.entry((id, action)).or_default() += 1;
                    }
                }
                "ConversationStateUpdateEvent" if event["value"] == "waiting_for_confirmation" => {
                    self.asked.extend(together.1.iter().cloned());
                }
                _ => self.goals += usize::from(event["key"] == "goal"),
            }
        }
    }
}

/// Returns the number that an action's command writes, if the event is such an action.
fn number(event: &Value) -> Option<String> {
    let command = event["action"]["command"].as_str()?;
    let number = command.strip_prefix("echo ")?.strip_suffix(" >> ran")?;
    Some(number.to_owned())
}

impl Shared {
    /// Takes the steps that chance may leave out, without any disturbance: a goal whose run has all
    /// steps of the script, and an approval in a copy.
    async fn begin(&self, conversation: &Conversation) {
        let approvals = conversation.approvals();
        approvals.set_policy(policy(false)).await.unwrap();
        let goal = conversation.goals().start("Do it all.").max_iterations(1);
        let goal = goal.await.unwrap();
        timeout(LONG, goal.ended()).await.unwrap().unwrap();
        approvals.set_policy(policy(true)).await.unwrap();
        let copy = conversation.branches().fork().llm(self.llm.clone());
        self.use_copy(&copy.await.unwrap(), 0, LONG).await;
    }

    /// Checks all conversations, and the commands that the shell has executed.
    async fn check(&self, ran: &str, seed: u64) {
        let mut logs = Logs::default();
        let mut copied = HashSet::new();
        let copies = self.copies.lock().unwrap().clone();
        for id in [self.id].iter().chain(&copies) {
            let log = events(&self.foreign, *id).await;
            let log: Vec<Value> = log
                .iter()
                .map(|event| serde_json::from_slice(event.raw()).unwrap())
                .collect();
            logs.read(*id, &log, &copied);
            if copied.is_empty() {
                let ids = log.iter().map(|event| event["id"].as_str().unwrap());
                copied.extend(ids.map(str::to_owned));
            }
        }
        let approved = self.approved.lock().unwrap();
        let mut needed = 0;
        for (action, executed) in &logs.executed {
            if !logs.asked.contains(&action.1) {
                continue;
            }
            needed += executed;
            let approvals = approved.get(action).copied().unwrap_or_default();
            assert!(
                *executed <= approvals,
                "{action:?} was executed {executed} times and approved {approvals} times \
                 (OH_SEED={seed})"
            );
        }
        let mut lines: HashMap<&str, usize> = HashMap::new();
        for line in ran.lines() {
            *lines.entry(line).or_default() += 1;
        }
        for (line, count) in &lines {
            let action = &logs.numbered[*line];
            let of_it = approved.iter().filter(|((_, id), _)| id == action);
            let approvals: usize = of_it.map(|(_, count)| count).sum();
            assert!(
                *count <= approvals || !logs.asked.contains(action),
                "{line} ran {count} times, and {action} was approved {approvals} times \
                 (OH_SEED={seed})"
            );
        }
        let handled = self.handled.lock().unwrap();
        for call in handled.iter() {
            let known = logs.executed.contains_key(call);
            assert!(known, "{call:?} was handled before it ran (OH_SEED={seed})");
        }
        println!(
            "{} commands ran, {} actions were executed, {needed} of them approved, {} calls of the \
             client tool, {} copies, {} reports of goals",
            ran.lines().count(),
            logs.executed.values().sum::<usize>(),
            handled.len(),
            copies.len(),
            logs.goals
        );
        assert!(needed > 0, "no approved action");
        assert!(!handled.is_empty(), "no call of the client tool");
        assert!(!copies.is_empty(), "no copy");
        assert!(logs.goals > 0, "no goal");
    }
}

/// Breaks something at random.
async fn disturb(proxy: &Proxy, chance: &mut Chance) {
    let lose = |route: &str| proxy.inject(Fault::lost_answer().on(route).times(1));
    match chance.pick(0..=29) {
        0 | 1 => proxy.cut(),
        2 => {
            proxy.hold();
            sleep(STEP).await;
            proxy.release();
        }
        3 => lose(RUN),
        4 => lose(RESPOND),
        5 => lose(NAVIGATE),
        6 => lose(FORK),
        7 => lose(GOAL),
        _ => {}
    }
}

/// Returns one of the last events that navigation can go to.
fn recent(conversation: &Conversation, place: u64) -> Option<String> {
    let kinds = ["MessageEvent", "ActionEvent", "ObservationEvent"];
    let events = conversation.events();
    let mut places = events
        .iter()
        .rev()
        .filter(|event| kinds.contains(&event.kind()));
    let event = places.nth(usize::try_from(place).unwrap())?;
    Some(event.id().to_owned())
}

/// Creates a conversation with a client tool, and attaches another client to it.
async fn clients(
    client: impl Fn() -> Client,
    model: &ScriptedModel,
    directory: &PathBuf,
    handled: &Arc<Mutex<Vec<Action>>>,
) -> [Conversation; 2] {
    fs::create_dir(directory).unwrap();
    let calls = handled.clone();
    let tool = ClientTool::new("ask", "Asks.", move |call: ClientToolCall| {
        let key = (call.conversation_id(), call.id().to_owned());
        calls.lock().unwrap().push(key);
        async { Ok("An answer.") }
    });
    let workspace = client().workspace(directory.display().to_string());
    let first = Conversation::builder(&workspace, agent(model))
        .client_tool(tool)
        .confirmation_policy(policy(true))
        .start()
        .await
        .unwrap();
    let second = Conversation::attach(&client(), first.id()).await.unwrap();
    [first, second]
}

#[tokio::test]
async fn every_executed_action_was_approved_by_id_or_no_policy_asked() {
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
    let handled = Arc::default();
    let clients = clients(client, &model, &directory, &handled).await;
    let shared = Shared {
        id: clients[0].id(),
        llm: llm(&model, ScriptedModel::MODEL),
        foreign: server.client().clone(),
        approved: Arc::default(),
        handled,
        copies: Arc::default(),
        goal: Arc::default(),
    };
    shared.begin(&clients[0]).await;
    let mut chance = Chance::new(seed);
    let mut shown: VecDeque<Vec<PendingAction>> = VecDeque::new();
    let mut work = JoinSet::new();
    for (number, kind) in steps(&mut chance).into_iter().enumerate() {
        let conversation = clients[usize::try_from(chance.pick(0..=1)).unwrap()].clone();
        let event = recent(&conversation, chance.pick(0..=12));
        let pending = conversation.approvals().pending();
        if !pending.is_empty() {
            shown.push_back(pending.clone());
            shown.truncate(4);
        }
        // The answer refers to the current actions or to earlier ones.
        let old = shown.front().cloned().unwrap_or_default();
        let input = Input {
            number,
            pending,
            old,
            event,
        };
        work.spawn(shared.clone().step(conversation, kind, input));
        disturb(&proxy, &mut chance).await;
        // The next step starts concurrently with this one, or after it.
        sleep(STEP).await;
        while let Some(finished) = work.try_join_next() {
            finished.unwrap();
        }
        while work.len() > CROWD {
            let finished = timeout(LONG, work.join_next()).await.unwrap();
            finished.unwrap().unwrap();
        }
    }
    while let Some(finished) = timeout(LONG, work.join_next()).await.unwrap() {
        finished.unwrap();
    }
    proxy.heal();
    timeout(LONG, clients[0].interrupt())
        .await
        .unwrap()
        .unwrap();
    timeout(LONG, clients[0].ready()).await.unwrap().unwrap();
    let ran = fs::read_to_string(directory.join("ran")).unwrap_or_default();
    shared.check(&ran, seed).await;
    for conversation in clients {
        conversation.close().await.unwrap();
    }
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
