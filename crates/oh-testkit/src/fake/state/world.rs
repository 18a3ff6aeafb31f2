//! The state of a fake server: conversations, script, tools, hooks, faults and requests. Routes,
//! sockets and the agent act on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use oh_protocol::event::SecurityRisk;
use serde_json::{Map, Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::fake::state::{
    builtin,
    clock::Clock,
    commands::Bash,
    config::{Analyze, Config, Judge, Shell},
    conversation::Conversation,
    disk::Disk,
    door::Door,
    executed::{Execution, Permission},
    lock::lock,
    logins::Logins,
    pending::Pending,
    policy::{self, ProposedAction},
    repository::Repository,
    slots::Slots,
    stored::Stored,
    subscriber::Ending,
    tools::{HookCall, Observation, Tool, ToolRun, Verdict, normal_hooks},
};
use crate::model::{
    ModelRequest, Step,
    player::{self, Player, attempt},
};
use crate::{fault::Faults, seen::Requests};

pub(crate) struct World {
    pub(crate) door: Door,
    pub(crate) version: String,
    pub(crate) session_socket: bool,
    pub(crate) updates_first: bool,
    pub(crate) runs_wait: bool,
    pub(crate) clock: Arc<Clock>,
    pub(crate) faults: Faults,
    pub(crate) bash: Arc<Bash>,
    pub(crate) disk: Disk,
    /// Repositories by the absolute path of their root.
    pub(crate) repositories: Mutex<BTreeMap<String, Repository>>,
    pub(crate) stored: Mutex<Stored>,
    pub(crate) logins: Mutex<Logins>,
    pub(crate) shell: Option<Shell>,
    pub(crate) slots: Slots,
    player: Mutex<Player>,
    tools: HashMap<String, Arc<dyn Tool>>,
    judge: Judge,
    analyze: Option<Analyze>,
    executed: Mutex<Vec<Execution>>,
    conversations: RwLock<BTreeMap<uuid::Uuid, Arc<Conversation>>>,
    /// The number of conversations created, which orders those with the same timestamp.
    made: AtomicU64,
    pub(crate) seen: Requests,
    frozen: watch::Sender<bool>,
    /// Incremented to silence all open sockets permanently.
    pub(crate) silenced: watch::Sender<u64>,
    tasks: Mutex<JoinSet<()>>,
    started: Instant,
    /// Whether the server is down.
    pub(crate) down: AtomicBool,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            door: Door::new(config.key, config.secret_key),
            version: config.version,
            session_socket: config.session_socket,
            updates_first: config.updates_first,
            runs_wait: config.runs_wait,
            clock: Arc::new(Clock::new(config.seed)),
            faults: Faults::new(config.seed),
            bash: Arc::default(),
            disk: Disk::default(),
            repositories: Mutex::new(BTreeMap::new()),
            stored: Mutex::new(Stored::default()),
            logins: Mutex::new(Logins::default()),
            shell: config.shell,
            slots: Slots::new(config.max_concurrent_runs),
            player: Mutex::new(Player::single(config.script)),
            tools: config.tools,
            judge: config.judge,
            analyze: config.analyze,
            executed: Mutex::new(Vec::new()),
            conversations: RwLock::new(BTreeMap::new()),
            made: AtomicU64::new(0),
            seen: Requests::default(),
            frozen: watch::Sender::new(false),
            silenced: watch::Sender::new(0),
            tasks: Mutex::new(JoinSet::new()),
            started: Instant::now(),
            down: AtomicBool::new(false),
        }
    }

    pub(crate) fn play(&self, request: &ModelRequest) -> Step {
        player::play(&self.player, request)
    }

    /// Returns deviations from the script that have not been reported.
    pub(crate) fn unreported(&self) -> Option<String> {
        lock(&self.player).unreported()
    }

    pub(crate) fn verify(&self) -> crate::Result<()> {
        lock(&self.player).verify()
    }

    pub(crate) fn has_tool(&self, name: &str) -> bool {
        builtin::has(name) || self.tools.contains_key(name)
    }

    /// Returns the tools of a conversation's agent, including those of every agent.
    pub(crate) fn tool_names(&self, conversation: &Conversation) -> Vec<String> {
        let inner = conversation.lock();
        let listed = inner.info["agent"]["tools"].as_array().cloned();
        let listed = listed.unwrap_or_default();
        let names = listed.iter().filter_map(|tool| tool["name"].as_str());
        let mut names: Vec<_> = names.flat_map(builtin::members).collect();
        names.extend(builtin::ALWAYS.map(str::to_owned));
        names
    }

    pub(crate) fn observe(&self, conversation: &Conversation, action: &Pending) -> Observation {
        let Some(tool) = self.tools.get(&action.tool) else {
            return Observation::of(&action.tool, &action.arguments);
        };
        let run = ToolRun {
            conversation: conversation.id.into(),
            action_id: action.action_id.clone(),
            arguments: action.arguments.clone(),
        };
        attempt(|| tool.run(&run)).unwrap_or_else(|panic| {
            let (tool, arguments) = (&action.tool, &action.arguments);
            let objection = format!("tool `{tool}` was called with {arguments}: {panic}");
            self.object(objection.clone());
            Observation::text(objection).error()
        })
    }

    /// Records a deviation from the test's expectations.
    pub(crate) fn object(&self, objection: String) {
        lock(&self.player).object(objection);
    }

    pub(crate) fn judge(&self, call: &HookCall) -> Verdict {
        attempt(|| (self.judge)(call)).unwrap_or_else(|panic| {
            let objection = format!(
                "hook `{}` was called for {}: {panic}",
                call.command, call.event
            );
            self.object(objection.clone());
            Verdict::fail(1, objection)
        })
    }

    /// Returns the risk that a security analyzer assigns to an action, or an error if the test's
    /// closure panics.
    pub(crate) fn analyze(&self, action: &ProposedAction) -> Result<SecurityRisk, String> {
        let Some(analyze) = &self.analyze else {
            self.object(format!(
                "the fake server cannot play the {}: set its ratings with \
                 `FakeServerBuilder::analyzer`",
                action.analyzer
            ));
            return Ok(SecurityRisk::Unknown);
        };
        attempt(|| analyze(action)).inspect_err(|panic| {
            self.object(format!(
                "the analyzer was asked about `{}` with {}: {panic}",
                action.tool, action.arguments
            ));
        })
    }

    /// Records the start of an action and its permission.
    pub(crate) fn record(&self, conversation: &Conversation, action: &Pending, cause: Permission) {
        let asked = conversation.lock().asked.contains(&action.action_id);
        lock(&self.executed).push(Execution {
            conversation: conversation.id.into(),
            action_id: action.action_id.clone(),
            tool: action.tool.clone(),
            arguments: action.arguments.clone(),
            permission: match asked {
                true => cause,
                false => Permission::NotAsked,
            },
        });
    }

    pub(crate) fn executed(&self) -> Vec<Execution> {
        lock(&self.executed).clone()
    }

    /// Spawns a task that ends with the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        // Removes ended tasks, which would otherwise accumulate.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    pub(crate) fn stop(&self) {
        lock(&self.tasks).abort_all();
    }

    /// Freezes or thaws the server.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Waits while the server is frozen.
    pub(crate) async fn thawed(&self) {
        if *self.frozen.borrow() {
            // Cannot fail: `self` keeps the sender alive.
            let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        }
    }

    pub(crate) fn conversation(&self, id: uuid::Uuid) -> Option<Arc<Conversation>> {
        let conversations = self.conversations.read();
        let conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        conversations.get(&id).cloned()
    }

    pub(crate) fn conversations(&self) -> Vec<Arc<Conversation>> {
        let conversations = self.conversations.read();
        let conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        conversations.values().cloned().collect()
    }

    /// Returns the conversation with this id, or creates it. The flag is `true` if it is new.
    pub(crate) fn create(&self, id: uuid::Uuid, request: &Value) -> (Arc<Conversation>, bool) {
        let conversations = self.conversations.write();
        let mut conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = conversations.get(&id) {
            return (Arc::clone(known), false);
        }
        let (info, hooks) = self.info(id, request);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut conversation = Conversation::new(id, number, info, hooks, Arc::clone(&self.clock));
        conversation.request = request.clone();
        let conversation = Arc::new(conversation);
        conversations.insert(id, Arc::clone(&conversation));
        (conversation, true)
    }

    /// Adds a conversation derived from another one, with the hooks of the latter.
    pub(crate) fn adopt(
        &self,
        id: uuid::Uuid,
        info: Map<String, Value>,
        from: &Conversation,
    ) -> Arc<Conversation> {
        let hooks = from.lock().hooks.clone();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let made = Conversation::new(id, number, info, hooks, Arc::clone(&self.clock));
        let made = Arc::new(made);
        let conversations = self.conversations.write();
        let mut conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        conversations.insert(id, Arc::clone(&made));
        made
    }

    /// Deletes a conversation. Its sockets stay open but silent, as on the agent server.
    pub(crate) fn delete(&self, id: uuid::Uuid) -> bool {
        let conversations = self.conversations.write();
        let mut conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        let Some(conversation) = conversations.remove(&id) else {
            return false;
        };
        drop(conversations);
        conversation.lock().deleted = true;
        conversation.changed.notify_waiters();
        true
    }

    /// Removes all conversations.
    pub(crate) fn forget_conversations(&self) {
        let conversations = self.conversations.write();
        let mut conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        conversations.clear();
    }

    /// Ends all sockets.
    pub(crate) fn end_sockets(&self, ending: &Ending) {
        self.bash.end_sockets(ending);
        for conversation in self.conversations() {
            conversation.end_sockets(ending);
        }
    }

    pub(crate) fn server_info(&self) -> Value {
        let uptime = self.started.elapsed().as_secs_f64().floor();
        json!({
            "uptime": uptime,
            "idle_time": 0.0,
            "title": "OpenHands Agent Server",
            "version": self.version,
            "sdk_version": self.version,
            "tools_version": self.version,
            "workspace_version": "unknown",
            "build_git_sha": "unknown",
            "build_git_ref": "unknown",
            "python_version": "",
            "usable_tools": self.usable_tools(),
            "runtime_idle_timeout_seconds": null,
            "conversation_runtime": "local",
            "available_conversation_runtimes": [],
            "capabilities": ["idempotent_conversation_create_v1"],
            "app_backend_ingress_url": null,
            "max_foreground_terminal_timeout_seconds": null,
            "docs": "/docs",
            "redoc": "/redoc",
        })
    }

    /// Returns the tools that an agent can be configured with: the built-in ones and the test's
    /// own.
    fn usable_tools(&self) -> BTreeSet<&str> {
        let own = self.tools.keys().map(String::as_str);
        builtin::GIVEN.into_iter().chain(own).collect()
    }

    /// Returns the tools for the configuration of an agent.
    pub(crate) fn catalog(&self) -> Value {
        let tools = self.usable_tools().into_iter().map(|name| {
            json!({
                "name": name,
                "user_selectable": true,
                "usable": true,
                "description": format!("The tool {name}, played by a test."),
                "in_default_set": builtin::GIVEN.contains(&name),
            })
        });
        json!({"tools": tools.collect::<Vec<_>>()})
    }

    fn info(&self, id: uuid::Uuid, request: &Value) -> (Map<String, Value>, Value) {
        let now = self.clock.utc();
        let or = |field: &str, default: Value| match &request[field] {
            Value::Null => default,
            value => value.clone(),
        };
        let mut agent = match &request["agent"] {
            Value::Null => {
                json!({"llm": request["agent_settings"]["llm"], "tools": [
                    {"name": "terminal", "params": {}}, {"name": "file_editor", "params": {}},
                    {"name": "task_tracker", "params": {}},
                ]})
            }
            agent => agent.clone(),
        };
        agent["kind"] = or_default(&agent["kind"], json!("Agent"));
        for (field, default) in [
            ("tools", json!([])),
            ("mcp_config", json!({})),
            ("include_default_tools", json!(["FinishTool", "ThinkTool"])),
            ("system_prompt_filename", json!("system_prompt.j2")),
            ("security_policy_filename", json!("security_policy.j2")),
            (
                "system_prompt_kwargs",
                json!({"llm_security_analyzer": true}),
            ),
            ("tool_concurrency_limit", json!(1)),
        ] {
            agent[field] = or_default(&agent[field], default);
        }
        // The server returns keys as null.
        if agent["llm"].is_object() {
            agent["llm"]["api_key"] = Value::Null;
            agent["llm"]["usage_id"] = or_default(&agent["llm"]["usage_id"], json!("default"));
        }
        let mut workspace = request["workspace"].clone();
        workspace["kind"] = json!("LocalWorkspace");
        let info = json!({
            "id": id.hyphenated().to_string(),
            "agent": agent,
            "workspace": workspace,
            "persistence_dir": format!("/fake/conversations/{}", id.simple()),
            "max_iterations": or("max_iterations", json!(500)),
            "stuck_detection": or("stuck_detection", json!(true)),
            "execution_status": "idle",
            "confirmation_policy": policy::normal(
                &or("confirmation_policy", json!({"kind": "NeverConfirm"})),
                "confirmation_policy",
            )
            .unwrap_or(json!({"kind": "NeverConfirm"})),
            "security_analyzer": request["security_analyzer"],
            "activated_knowledge_skills": [],
            "invoked_skills": [],
            "blocked_actions": {},
            "blocked_messages": {},
            "last_user_message_id": null,
            "leaf_event_id": null,
            "stats": {"usage_to_metrics": {}},
            "secret_registry": {"secret_sources": {}},
            "agent_state": {},
            "hook_config": null,
            "title": null,
            "metrics": null,
            "created_at": now,
            "updated_at": now,
            "forked_from_conversation_id": null,
            "forked_from_event_id": null,
            "parent_conversation_id": request["parent_conversation_id"],
            "sub_conversation_ids": [],
            "tags": or("tags", json!({})),
            "current_model_id": null,
            "available_models": [],
            "supports_runtime_model_switch": false,
            "launched_agent_profile": request["launched_agent_profile"],
            "client_tools": or("client_tools", json!([])),
            "tool_module_qualnames": or("tool_module_qualnames", json!({})),
            "runtime_info": null,
        });
        let Value::Object(info) = info else {
            return (Map::new(), Value::Null);
        };
        (info, normal_hooks(&request["hook_config"]))
    }
}

fn or_default(value: &Value, default: Value) -> Value {
    match value {
        Value::Null => default,
        value => value.clone(),
    }
}
