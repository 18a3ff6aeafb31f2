//! The settings of a server, as its test chooses them.

use std::{collections::HashMap, sync::Arc};

use oh_protocol::event::SecurityRisk;

use crate::Script;
use crate::fake::state::{
    commands::CommandOutput,
    policy::ProposedAction,
    tools::{HookCall, Tool, Verdict},
};

pub(crate) type Judge = Arc<dyn Fn(&HookCall) -> Verdict + Send + Sync>;
pub(crate) type Analyze = Arc<dyn Fn(&ProposedAction) -> SecurityRisk + Send + Sync>;
pub(crate) type Shell = Arc<dyn Fn(&str) -> CommandOutput + Send + Sync>;

/// The settings of a server.
pub(crate) struct Config {
    pub(crate) key: Option<String>,
    pub(crate) secret_key: Option<String>,
    pub(crate) version: String,
    pub(crate) session_socket: bool,
    pub(crate) updates_first: bool,
    pub(crate) runs_wait: bool,
    pub(crate) max_concurrent_runs: usize,
    pub(crate) seed: u64,
    pub(crate) script: Script,
    pub(crate) tools: HashMap<String, Arc<dyn Tool>>,
    pub(crate) judge: Judge,
    pub(crate) analyze: Option<Analyze>,
    pub(crate) shell: Option<Shell>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            key: Some("fake-session-key".to_owned()),
            secret_key: None,
            version: "1.58.2".to_owned(),
            session_socket: true,
            updates_first: false,
            runs_wait: false,
            max_concurrent_runs: 10,
            seed: 0,
            script: Script::new(),
            tools: HashMap::new(),
            judge: Arc::new(|_| Verdict::allow()),
            analyze: None,
            shell: None,
        }
    }
}
