//! The stage of the scenes in `approvals`, `copies`, `ends`, `limits`, `links`, `odd`, `older`,
//! `policies`, `steps` and `unclear`: one real server for all scenes. The proxy records the requests of a
//! program. The commands write a file that shows what was executed.

use std::{
    cell::Cell, collections::HashMap, fmt::Write as _, fs, future::IntoFuture as _,
    net::SocketAddr, panic::Location, path::PathBuf, process::Command, sync::Arc, time::Duration,
};

use openhands::{
    Client, Conversation, LocalServer, RunOutcome, RunStatus, WorkspaceExt,
    conversation::{ConversationBuilder, ErrorKind, PendingAction},
    process::{RestartPolicy, Status},
    protocol::{ConversationId, calls, config::ConfirmationPolicy},
    testkit::{Proxy, Script, ScriptedModel, Step, fake::Seen},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    approvals, copies, ends as endings, limits, links,
    live::{LONG, agent, events},
    odd, older, policies, steps, unclear,
};

/// Maximum number of concurrent scenes.
const AT_ONCE: usize = 6;

/// Time limit for all scenes: the test runner ends the process a little later, without a report.
const LIMIT: Duration = Duration::from_secs(280);

thread_local! {
    /// Whether a scene is being dropped because it has exceeded the time limit.
    static EXCEEDED: Cell<bool> = const { Cell::new(false) };
}

pub(crate) const RUN: &str = "/api/conversations/{id}/run";
pub(crate) const RESPOND: &str = "/api/conversations/{id}/events/respond_to_confirmation";
pub(crate) const SEARCH: &str = "/api/conversations/{id}/events/search";
pub(crate) const SOCKETS: &str = "/sockets/";

/// Parts shared by all scenes.
pub(crate) struct Stage {
    /// Not set if the server belongs to others.
    server: Option<LocalServer>,
    address: SocketAddr,
    key: secrecy::SecretString,
    /// The directory that contains those of the scenes.
    place: PathBuf,
    places: Semaphore,
}

impl Stage {
    pub(crate) async fn start(home: &TempDir) -> Self {
        Self::start_with(home, RestartPolicy::never()).await
    }

    /// Starts a server that can be [restarted](Self::restart).
    pub(crate) async fn restarting(home: &TempDir) -> Self {
        Self::start_with(home, RestartPolicy::on_failure(3)).await
    }

    async fn start_with(home: &TempDir, restart: RestartPolicy) -> Self {
        // Some scenes have more than one conversation.
        let server = openhands_tests::server(home).env("OH_MAX_CONCURRENT_RUNS", "40");
        let server = server.restart(restart).start().await.unwrap();
        let (address, key) = (server.address(), server.session_api_key().clone());
        let place = server.workspace_dir().to_owned();
        Self {
            server: Some(server),
            ..Self::on(address, key, place)
        }
    }

    /// Creates a stage on a server of others, whose agents work below this directory.
    pub(crate) fn on(address: SocketAddr, key: secrecy::SecretString, place: PathBuf) -> Self {
        Self {
            server: None,
            address,
            key,
            place,
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Kills the server, and waits until its supervisor has started it again.
    pub(crate) async fn restart(&self) {
        let server = self.server.as_ref().unwrap();
        let pid = server.pid();
        let mut kill = Command::new("kill");
        let killed = kill.args(["-9", &pid.to_string()]).status();
        assert!(killed.unwrap().success());
        let mut status = server.status();
        let back = status.wait_for(|status| *status == Status::Ready && server.pid() != pid);
        within("a restart", back).await.unwrap();
    }

    pub(crate) async fn end(self) {
        if let Some(server) = self.server {
            server.shutdown(Duration::from_secs(20)).await.unwrap();
        }
    }

    /// Creates a directory for the conversation of a scene.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let directory = self.place.join(name);
        fs::create_dir(&directory).unwrap();
        directory
    }

    /// Creates a client that is connected directly to the server.
    pub(crate) fn client(&self) -> Client {
        let client = Client::builder(format!("http://{}", self.address));
        let client = client.session_api_key(self.key.clone());
        client.build().unwrap()
    }
}

/// A conversation with two clients: one behind a recording proxy, and one connected directly to the
/// server.
pub(crate) struct Scene {
    pub(crate) model: ScriptedModel,
    pub(crate) proxy: Proxy,
    /// The client whose requests are recorded.
    pub(crate) near: Conversation,
    /// Handle of a second client with its own link, like a client in another process.
    pub(crate) other: Conversation,
    pub(crate) directory: PathBuf,
    direct: Client,
    key: secrecy::SecretString,
}

/// Returns a step whose command appends a line to the file `ran`.
pub(crate) fn act(name: &str) -> Step {
    let command = format!("echo {name} >> ran");
    Step::call("terminal", json!({ "command": command }))
}

impl Scene {
    pub(crate) async fn start(
        stage: &Stage,
        name: &str,
        policy: ConfirmationPolicy,
        script: Script,
    ) -> Self {
        Self::start_with(stage, name, policy, script, |builder| builder).await
    }

    pub(crate) async fn start_with(
        stage: &Stage,
        name: &str,
        policy: ConfirmationPolicy,
        script: Script,
        with: impl FnOnce(ConversationBuilder) -> ConversationBuilder,
    ) -> Self {
        let model = ScriptedModel::start(script).await.unwrap();
        let proxy = Proxy::start(stage.address).await.unwrap();
        proxy.record();
        let key = stage.key.clone();
        let client = Client::builder(proxy.url()).session_api_key(key.clone());
        let client = client.build().unwrap();
        let direct = stage.client();
        let directory = stage.directory(name);
        let workspace = client.workspace(directory.display().to_string());
        let builder = Conversation::builder(&workspace, agent(&model)).confirmation_policy(policy);
        // On a busy machine the server may need more than the default of 15 s to say what waits.
        let builder = builder.ambiguous_after(LONG);
        let near = within("a start", with(builder).start().into_future()).await;
        let near = near.unwrap();
        let other = Conversation::attach(&direct, near.id());
        let other = within("attaching", other.into_future()).await.unwrap();
        Self {
            model,
            proxy,
            near,
            other,
            directory,
            direct,
            key,
        }
    }

    /// Creates another client behind the proxy, without any state of the conversation.
    pub(crate) fn client(&self) -> Client {
        let client = Client::builder(self.proxy.url()).session_api_key(self.key.clone());
        client.build().unwrap()
    }

    /// Returns how many requests of the near client to this route were answered.
    pub(crate) fn answered(&self, method: &str, route: &str) -> usize {
        let seen = self.proxy.requests_to(method, route);
        seen.iter().filter(|seen| seen.status != 0).count()
    }

    /// Returns the near client's requests that can start a run or answer a pending action, in
    /// order.
    pub(crate) fn sent(&self, id: ConversationId) -> Vec<&'static str> {
        let path = format!("/api/conversations/{id}/");
        let all = self.proxy.requests();
        let of_it = all
            .iter()
            .filter_map(|seen| Some((seen, seen.path.strip_prefix(&path)?)));
        of_it
            .filter_map(|(seen, rest)| approving(seen, rest))
            .collect()
    }

    /// Returns the executed commands.
    pub(crate) fn ran(&self) -> Vec<String> {
        let ran = fs::read_to_string(self.directory.join("ran")).unwrap_or_default();
        ran.lines().map(str::to_owned).collect()
    }

    /// Waits until the server is idle. Then checks which requests were sent and which commands were
    /// executed.
    pub(crate) async fn shows(&self, sent: &[&str], ran: &[&str]) {
        let id = self.near.id();
        let still = async {
            loop {
                let get = calls::conversations::Get::new(id);
                let info = self.direct.call(&get).await.unwrap();
                let paths = ["run", "events", "events/respond_to_confirmation"];
                let paths = paths.map(|path| format!("/api/conversations/{id}/{path}"));
                let waits = |path| {
                    let sent = self.proxy.requests_to("POST", path);
                    sent.iter().any(|seen| seen.status == 0)
                };
                let waits = paths.iter().any(|path| waits(path));
                if !waits && !info.execution_status().is_running() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        within("an idle server", still).await;
        assert_eq!(self.sent(id), sent, "what was sent");
        assert_eq!(self.ran(), ran, "what was executed");
        // The log must agree.
        let log = events(&self.direct, id).await;
        let bodies = log.iter().map(|event| {
            let body: Value = serde_json::from_slice(event.raw()).unwrap();
            body
        });
        let executed = bodies
            .filter(|body| body["kind"] == "ObservationEvent" && body["tool_name"] == "terminal");
        assert_eq!(executed.count(), ran.len(), "what the log says");
        println!("{}: sent {sent:?}, executed {ran:?}", self.name());
    }

    pub(crate) fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.display().to_string()
    }

    /// Describes what the clients and the proxy know.
    fn report(&self) -> String {
        let mut report = format!("{}: executed {:?}\n", self.name(), self.ran());
        for (name, client) in [("near", &self.near), ("other", &self.other)] {
            let (status, error) = (
                client.state().execution_status(),
                client.link().last_error(),
            );
            let error = error.map(|error| error.to_string());
            let _ = writeln!(
                report,
                "  {name}: {:?}, {} connections, {error:?}, {status}, {} events, {} pending",
                client.link().status(),
                client.link().connections(),
                client.events().len(),
                client.approvals().pending().len(),
            );
            for event in client.events().iter().rev().take(8) {
                let _ = writeln!(report, "    {event}");
            }
        }
        let open = self.proxy.open();
        let _ = writeln!(report, "  proxy: {open} open connections; last requests:");
        for seen in self.proxy.requests().iter().rev().take(30) {
            let _ = writeln!(report, "    {} {} {}", seen.status, seen.method, seen.path);
        }
        report
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() || EXCEEDED.get() {
            eprintln!("{}", self.report());
        }
    }
}

/// Returns the effect that a request can have on a pending action, judged by the rest of its path.
fn approving(seen: &Seen, rest: &str) -> Option<&'static str> {
    if seen.method != "POST" {
        return None;
    }
    let body = seen.json();
    match rest {
        "run" => Some("run"),
        "events" if body["run"] == true => Some("message that runs"),
        "events/respond_to_confirmation" if body["accept"] == true => Some("approve"),
        "events/respond_to_confirmation" => Some("reject"),
        "condense" => Some("condense"),
        "children" => Some("child"),
        "goal" => Some("goal"),
        "goal/resume" => Some("goal taken up"),
        _ => None,
    }
}

/// Returns a policy that never asks for approval.
pub(crate) fn never() -> ConfirmationPolicy {
    ConfirmationPolicy::never()
}

/// Waits for something that takes less than [`LONG`], even on a busy machine. Panics with the place
/// of the caller otherwise.
#[track_caller]
pub(crate) fn within<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match timeout(LONG, work).await {
            Ok(done) => done,
            Err(_) => panic!("{caller}: waited {LONG:?} for {what}"),
        }
    }
}

#[track_caller]
pub(crate) fn until(mut happens: impl FnMut() -> bool) -> impl Future<Output = ()> {
    within("a condition", async move {
        while !happens() {
            sleep(Duration::from_millis(5)).await;
        }
    })
}

pub(crate) fn running(
    conversation: &Conversation,
) -> JoinHandle<openhands::conversation::Result<RunOutcome>> {
    tokio::spawn(conversation.run())
}

#[track_caller]
pub(crate) fn ends(
    running: JoinHandle<openhands::conversation::Result<RunOutcome>>,
) -> impl Future<Output = RunOutcome> {
    let end = within("the end of a run", running);
    async { end.await.unwrap().unwrap() }
}

#[track_caller]
pub(crate) fn runs(conversation: &Conversation) -> impl Future<Output = RunOutcome> {
    ends(running(conversation))
}

/// Runs until actions wait for approval, and returns them.
#[track_caller]
pub(crate) fn asks(conversation: &Conversation) -> impl Future<Output = Vec<PendingAction>> {
    let outcome = runs(conversation);
    async { waits(conversation, &outcome.await) }
}

/// Asserts that a run ended because actions wait for approval, and returns them.
pub(crate) fn waits(conversation: &Conversation, outcome: &RunOutcome) -> Vec<PendingAction> {
    let status = outcome.status();
    assert_eq!(status, RunStatus::WaitingForConfirmation, "{outcome}");
    let pending = conversation.approvals().pending();
    assert_eq!(pending.len(), 1, "{pending:?}");
    pending
}

pub(crate) fn fails<T: std::fmt::Debug>(
    result: openhands::conversation::Result<T>,
    kind: ErrorKind,
) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
}

// Starting a server takes long, so all scenes share one. The environment variable `SCENES` limits the
// test to some of them, by name, separated by commas.
#[tokio::test]
async fn no_unapproved_action_is_executed_and_links_keep_their_promises() {
    let wanted = std::env::var("SCENES").ok();
    let wanted = wanted
        .as_deref()
        .map(|names| names.split(',').collect::<Vec<_>>());
    let home = openhands_tests::home();
    play_scenes(Stage::start(&home).await, wanted.as_deref()).await;
}

/// Plays all scenes, or the ones with these names.
pub(crate) async fn play_scenes(stage: Stage, wanted: Option<&[&str]>) {
    let over = Instant::now() + LIMIT;
    let stage = Arc::new(stage);
    let mut plays = JoinSet::new();
    let mut names = HashMap::new();
    let is_wanted = |name| wanted.is_none_or(|wanted| wanted.contains(&name));
    macro_rules! play {
        ($($of:ident: $($scene:ident),+;)+) => {$($(if is_wanted(stringify!($scene)) {
            let stage = stage.clone();
            let play = async move {
                let _place = stage.places.acquire().await.unwrap();
                let begun = Instant::now();
                assert!(begun < over, "not begun within {LIMIT:?}");
                let mut scene = Box::pin($of::$scene(&stage));
                if timeout_at(over, &mut scene).await.is_err() {
                    EXCEEDED.set(true);
                    drop(scene);
                    EXCEEDED.set(false);
                    panic!("after {:?}: not over", begun.elapsed());
                }
                println!("{}: {:?}", stringify!($scene), begun.elapsed());
            };
            names.insert(plays.spawn(play).id(), stringify!($scene));
        })+)+};
    }
    play! {
        links:
            sockets_that_a_gateway_refuses,
            sockets_that_a_gateway_answers_oddly,
            large_events_through_cuts,
            handles_of_one_process,
            a_command_over_a_refused_connection;
        endings:
            closing_during_a_run,
            another_log_under_the_id,
            a_reused_id,
            sockets_that_fall_silent;
        limits:
            a_budget_ends_a_run,
            a_time_limit_ends_the_wait_only,
            parts_of_a_log;
        approvals:
            a_run_after_a_pause,
            lost_answers_to_a_message_and_a_run,
            a_run_after_an_approval,
            a_run_after_an_approval_over_a_slow_link,
            the_result_of_a_client_tool,
            a_message_during_a_replay,
            stale_answers,
            a_lost_answer_to_an_approval,
            a_run_over_a_link_that_is_down,
            a_branch_that_was_left,
            a_slow_link,
            goals_that_would_approve,
            approvals_at_once,
            every_other_way;
        policies:
            an_old_policy_on_its_way,
            a_policy_on_its_way,
            a_policy_that_was_forgotten,
            a_policy_without_an_answer,
            a_policy_whose_caller_has_left,
            a_policy_across_two_reconnects,
            a_newer_policy_of_another_program,
            a_policy_and_a_goal,
            a_run_without_a_response;
        steps:
            condensing_approves_nothing,
            children_without_the_policy_of_their_parent;
        copies:
            a_policy_that_has_not_arrived,
            a_fork_without_its_settings,
            client_tools_of_a_child;
        unclear:
            a_gateway_that_gives_up,
            a_gateway_that_gives_up_on_everything,
            a_gateway_that_gives_up_on_new_conversations,
            a_gateway_that_gives_up_on_a_goal,
            a_gateway_that_gives_up_on_a_navigation,
            a_gateway_that_gives_up_on_a_result,
            a_result_that_is_always_rejected,
            a_budget_whose_interrupts_fail,
            requests_without_a_response;
        odd:
            pages_that_do_not_decode,
            a_start_that_is_answered_late,
            a_reader_of_tokens_that_falls_behind,
            a_title_that_changes_during_an_outage;
        older:
            an_older_action,
            an_older_action_of_another_branch,
            a_navigation_of_another_client,
            an_older_action_over_a_silent_socket;
    }
    assert!(!names.is_empty(), "no such scenes: {wanted:?}");
    let mut failed = Vec::new();
    while let Some(played) = plays.join_next_with_id().await {
        let id = match &played {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        if played.is_err() {
            failed.push(names[&id]);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
    Arc::into_inner(stage).unwrap().end().await;
}
