//! The state of a fake server: conversations, script, tools, hooks, faults and requests. Routes,
//! sockets and the agent act on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use oh_protocol::event::SecurityRisk;
use serde_json::{Map, Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{
    builtin,
    clock::Clock,
    conversation::{Conversation, Ending},
    disk::Disk,
    entries::snake,
    executed::{Execution, Permission},
    git::Repository,
    init::Door,
    pending::Pending,
    policy::{self, ProposedAction},
    slots::Slots,
    stored::Stored,
    tools::{HookCall, Observation, Verdict},
};
use crate::model::{
    ModelRequest, Step,
    player::{self, Player, attempt},
};
use crate::{fault::Faults, seen::Requests};

pub(super) type Tool = Arc<dyn Fn(&Value) -> Observation + Send + Sync>;
pub(super) type Judge = Arc<dyn Fn(&HookCall) -> Verdict + Send + Sync>;
pub(super) type Analyze = Arc<dyn Fn(&ProposedAction) -> SecurityRisk + Send + Sync>;
pub(super) type Shell = Arc<dyn Fn(&str) -> super::CommandOutput + Send + Sync>;

pub(super) struct World {
    pub(super) door: Door,
    pub(super) version: String,
    pub(super) session_socket: bool,
    pub(super) updates_first: bool,
    pub(super) runs_wait: bool,
    pub(super) clock: Arc<Clock>,
    pub(super) faults: Faults,
    pub(super) bash: Arc<super::bash::Bash>,
    pub(super) disk: Disk,
    /// Repositories by the absolute path of their root.
    pub(super) repositories: Mutex<BTreeMap<String, Repository>>,
    pub(super) stored: Mutex<Stored>,
    pub(super) shell: Option<Shell>,
    pub(super) slots: Slots,
    player: Mutex<Player>,
    tools: HashMap<String, Tool>,
    judge: Judge,
    analyze: Option<Analyze>,
    executed: Mutex<Vec<Execution>>,
    conversations: RwLock<BTreeMap<uuid::Uuid, Arc<Conversation>>>,
    /// The number of conversations created, which orders those with the same timestamp.
    made: AtomicU64,
    pub(super) seen: Requests,
    frozen: watch::Sender<bool>,
    /// Incremented to silence all open sockets permanently.
    pub(super) silenced: watch::Sender<u64>,
    tasks: Mutex<JoinSet<()>>,
    started: Instant,
    /// Whether the server is down.
    pub(super) down: AtomicBool,
}

impl World {
    pub(super) fn new(builder: super::FakeServerBuilder) -> Self {
        Self {
            door: Door::new(builder.key, builder.secret_key),
            version: builder.version,
            session_socket: builder.session_socket,
            updates_first: builder.updates_first,
            runs_wait: builder.runs_wait,
            clock: Arc::new(Clock::new(builder.seed)),
            faults: Faults::new(builder.seed),
            bash: Arc::default(),
            disk: Disk::default(),
            repositories: Mutex::new(BTreeMap::new()),
            stored: Mutex::new(Stored::default()),
            shell: builder.shell,
            slots: Slots::new(builder.max_concurrent_runs),
            player: Mutex::new(Player::single(builder.script)),
            tools: builder.tools,
            judge: builder.judge,
            analyze: builder.analyze,
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

    pub(super) fn play(&self, request: &ModelRequest) -> Step {
        player::play(&self.player, request)
    }

    /// Returns deviations from the script that have not been reported.
    pub(super) fn unheard(&self) -> Option<String> {
        lock(&self.player).unheard()
    }

    pub(super) fn verify(&self) -> crate::Result<()> {
        lock(&self.player).verify()
    }

    pub(super) fn has_tool(&self, name: &str) -> bool {
        builtin::has(name) || self.tools.contains_key(name)
    }

    /// Returns the tools of a conversation's agent, including those of every agent.
    pub(super) fn tool_names(&self, conversation: &Conversation) -> Vec<String> {
        let inner = conversation.lock();
        let listed = inner.info["agent"]["tools"].as_array().cloned();
        let listed = listed.unwrap_or_default();
        let names = listed.iter().filter_map(|tool| tool["name"].as_str());
        let mut names: Vec<_> = names.flat_map(builtin::members).collect();
        names.extend(builtin::ALWAYS.map(str::to_owned));
        names
    }

    pub(super) fn observe(&self, tool: &str, arguments: &Value) -> Observation {
        let Some(play) = self.tools.get(tool) else {
            return Observation::of(tool, arguments);
        };
        attempt(|| play(arguments)).unwrap_or_else(|panic| {
            let objection = format!("tool `{tool}` was called with {arguments}: {panic}");
            self.object(objection.clone());
            Observation::text(objection).error()
        })
    }

    /// Records a deviation from the test's expectations.
    pub(super) fn object(&self, objection: String) {
        lock(&self.player).object(objection);
    }

    pub(super) fn judge(&self, call: &HookCall) -> Verdict {
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
    pub(super) fn analyze(&self, action: &ProposedAction) -> Result<SecurityRisk, String> {
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
    pub(super) fn record(&self, conversation: &Conversation, action: &Pending, cause: Permission) {
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

    pub(super) fn executed(&self) -> Vec<Execution> {
        lock(&self.executed).clone()
    }

    /// Spawns a task that ends with the server.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        // Removes ended tasks, which would otherwise accumulate.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    pub(super) fn stop(&self) {
        lock(&self.tasks).abort_all();
    }

    /// Freezes or thaws the server.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Waits while the server is frozen.
    pub(super) async fn thawed(&self) {
        if *self.frozen.borrow() {
            // Cannot fail: `self` keeps the sender alive.
            let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        }
    }

    pub(super) fn conversation(&self, id: uuid::Uuid) -> Option<Arc<Conversation>> {
        let conversations = self.conversations.read();
        let conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        conversations.get(&id).cloned()
    }

    pub(super) fn conversations(&self) -> Vec<Arc<Conversation>> {
        let conversations = self.conversations.read();
        let conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        conversations.values().cloned().collect()
    }

    /// Returns the conversation with this id, or creates it. The flag is `true` if it is new.
    pub(super) fn create(&self, id: uuid::Uuid, request: &Value) -> (Arc<Conversation>, bool) {
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
    pub(super) fn adopt(
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
    pub(super) fn delete(&self, id: uuid::Uuid) -> bool {
        let conversations = self.conversations.write();
        let mut conversations = conversations.unwrap_or_else(PoisonError::into_inner);
        let Some(conversation) = conversations.remove(&id) else {
            return false;
        };
        drop(conversations);
        conversation.lock().deleted = true;
        conversation.stir.notify_waiters();
        true
    }

    /// Ends all sockets.
    pub(super) fn end_sockets(&self, ending: &Ending) {
        self.bash.end_sockets(ending);
        for conversation in self.conversations() {
            conversation.end_sockets(ending);
        }
    }

    /// Stops the server: with a code, pauses running conversations and closes sockets; without one,
    /// cuts everything.
    pub(super) fn go_down(&self, code: Option<u16>) {
        self.down.store(true, Ordering::SeqCst);
        let ending = match code {
            Some(code) => Ending::Close(code, "Service restart".to_owned()),
            None => Ending::Cut,
        };
        self.end_sockets(&ending);
        for conversation in self.conversations() {
            let mut inner = conversation.lock();
            let ran = inner.running;
            inner.interrupted |= ran;
            drop(inner);
            if ran && code.is_some() {
                conversation.set_status("paused");
                conversation.append("user", "InterruptEvent", json!({}));
            }
            if code.is_some() {
                super::agent::close(self, &conversation);
            }
            conversation.stir.notify_waiters();
        }
    }

    /// Restarts the server. Running conversations get an error, and settings that were changed at
    /// run time are reset when a conversation is loaded.
    pub(super) fn come_up(&self, keep: bool) {
        if !keep {
            let conversations = self.conversations.write();
            conversations
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            self.bash.forget();
            *lock(&self.stored) = Stored::default();
        }
        for conversation in self.conversations() {
            {
                let mut inner = conversation.lock();
                inner.unloaded = true;
                inner.ready = false;
            }
            if conversation.status() == "running" {
                conversation.set_status("error");
                super::agent::restarted(&conversation);
            }
        }
        self.down.store(false, Ordering::SeqCst);
    }

    pub(super) fn server_info(&self) -> Value {
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
    pub(super) fn catalog(&self) -> Value {
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
            "launched_agent_profile": null,
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

/// Normalizes the event names of a hook configuration to the server's spelling.
pub(super) fn normal_hooks(config: &Value) -> Value {
    let config = match &config["hooks"] {
        Value::Object(_) => &config["hooks"],
        _ => config,
    };
    let Value::Object(given) = config else {
        return Value::Null;
    };
    let mut normal = json!({
        "pre_tool_use": [], "post_tool_use": [], "user_prompt_submit": [],
        "session_start": [], "session_end": [], "stop": [],
    });
    for (event, matchers) in given {
        normal[snake(event)] = matchers.clone();
    }
    normal
}

fn or_default(value: &Value, default: Value) -> Value {
    match value {
        Value::Null => default,
        value => value.clone(),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
