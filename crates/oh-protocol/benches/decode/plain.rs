//! The recorded events as types of plain `serde_json`: `oh-protocol` without its scanner.
//!
//! The types have the same fields, own their texts, and look up the kind before the body. Only the
//! kinds of the recording are included.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

/// The header of an event, and its body.
#[allow(dead_code, reason = "decoded, never looked at")]
pub(crate) struct Event {
    id: String,
    timestamp: String,
    source: Source,
    parent_id: Option<String>,
    body: Body,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    id: String,
    #[serde(default)]
    timestamp: String,
    source: Source,
    parent_id: Option<String>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

impl Event {
    pub(crate) fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        // Text once checked is not checked again.
        let json = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
        let header: Header<'_> = serde_json::from_str(json)?;
        Ok(Self {
            body: Body::read(&header.kind, json)?,
            id: header.id,
            timestamp: header.timestamp,
            source: header.source,
            parent_id: header.parent_id,
        })
    }
}

macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),* })+) => { $(
        #[derive(Deserialize, Default)]
        enum $name {
            $( #[serde(rename = $word)] $variant, )*
            #[default]
            #[serde(other)]
            Other,
        }
    )+ };
}

words! {
    Source { Agent = "agent", User = "user", Environment = "environment", Hook = "hook" }
    Role { User = "user", Assistant = "assistant", System = "system", Tool = "tool" }
    Risk { Unknown = "UNKNOWN", Low = "LOW", Medium = "MEDIUM", High = "HIGH" }
    Failure {
        Auth = "auth", Quota = "quota", RateLimit = "rate_limit", Config = "config",
        Transient = "transient", AgentAction = "agent_action", Internal = "internal",
        Unknown = "unknown"
    }
    Status {
        Idle = "idle", Running = "running", Paused = "paused",
        Waiting = "waiting_for_confirmation", Finished = "finished", Error = "error",
        Stuck = "stuck", Deleting = "deleting"
    }
    Edits {
        View = "view", Create = "create", Replace = "str_replace", Insert = "insert",
        Undo = "undo_edit"
    }
    Tracks { View = "view", Plan = "plan" }
    TaskStatus { Todo = "todo", InProgress = "in_progress", Done = "done" }
}

macro_rules! types {
    ($($name:ident { $($field:ident: $type:ty),* $(,)? })+) => { $(
        #[derive(Deserialize, Default)]
        #[serde(default)]
        #[allow(dead_code, reason = "decoded, never looked at")]
        struct $name { $($field: $type),* }
    )+ };
}

/// The bodies of a kind each; any other is kept as it is written.
macro_rules! kinds {
    ($name:ident { $($kind:ident($type:ty) = $word:literal),* $(,)? }) => {
        #[allow(dead_code, reason = "decoded, never looked at")]
        enum $name {
            $( $kind(Box<$type>), )*
            Unknown(Json),
        }

        impl $name {
            fn read(kind: &str, json: &str) -> serde_json::Result<Self> {
                Ok(match kind {
                    $( $word => Self::$kind(serde_json::from_str(json)?), )*
                    _ => Self::Unknown(serde_json::from_str(json)?),
                })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let json = <&RawValue>::deserialize(deserializer)?.get();
                let kind: Kind<'_> = serde_json::from_str(json).map_err(D::Error::custom)?;
                Self::read(&kind.kind, json).map_err(D::Error::custom)
            }
        }
    };
}

type Text = Option<String>;
type Json = Box<RawValue>;

kinds!(Body {
    SystemPrompt(SystemPrompt) = "SystemPromptEvent",
    Message(MessageBody) = "MessageEvent",
    Action(ActionBody) = "ActionEvent",
    Observation(ObservationBody) = "ObservationEvent",
    AgentError(AgentError) = "AgentErrorEvent",
    StateUpdate(StateUpdate) = "ConversationStateUpdateEvent",
    Hook(Hook) = "HookExecutionEvent",
});

kinds!(Action {
    ApplyPatch(ApplyPatch) = "ApplyPatchAction",
    Edit(Edit) = "EditAction",
    FileEditor(FileEditor) = "FileEditorAction",
    Planning(FileEditor) = "PlanningFileEditorAction",
    Finish(Finish) = "FinishAction",
    Glob(Glob) = "GlobAction",
    Grep(Grep) = "GrepAction",
    List(List) = "ListDirectoryAction",
    Mcp(Mcp) = "MCPToolAction",
    Read(Read) = "ReadFileAction",
    Tracker(Tracker) = "TaskTrackerAction",
    Terminal(Terminal) = "TerminalAction",
    Think(Think) = "ThinkAction",
    Write(Write) = "WriteFileAction",
});

kinds!(Observation {
    ApplyPatch(Patched) = "ApplyPatchObservation",
    Client(Plain) = "ClientToolObservation",
    Edit(Edited) = "EditObservation",
    FileEditor(FileEdited) = "FileEditorObservation",
    Planning(FileEdited) = "PlanningFileEditorObservation",
    Finish(Plain) = "FinishObservation",
    Glob(Globbed) = "GlobObservation",
    Grep(Grepped) = "GrepObservation",
    List(Listed) = "ListDirectoryObservation",
    Mcp(McpAnswer) = "MCPToolObservation",
    Read(FileRead) = "ReadFileObservation",
    Tracker(Tracked) = "TaskTrackerObservation",
    Terminal(Ran) = "TerminalObservation",
    Think(Plain) = "ThinkObservation",
    Write(Written) = "WriteFileObservation",
});

types! {
    SystemPrompt { system_prompt: Content, tools: Vec<Tool>, dynamic_context: Option<Content> }
    Tool {
        kind: String, title: Text, description: String, action_type: Text,
        observation_type: Text, annotations: Option<Json>, input_schema: Option<Json>,
        mcp_tool: Option<Json>, meta: Option<Json>,
    }
    MessageBody {
        llm_message: Message, llm_response_id: Text, activated_skills: Vec<String>,
        extended_content: Vec<Content>, sender: Text, critic_result: Option<Critic>,
    }
    ActionBody {
        thought: Vec<Content>, reasoning_content: Text, thinking_blocks: Vec<Thinking>,
        responses_reasoning_item: Option<Reasoning>, action: Option<Action>, tool_name: String,
        tool_call_id: String, tool_call: Option<ToolCall>, llm_response_id: Text,
        security_risk: Risk, critic_result: Option<Critic>, summary: Text,
    }
    Critic { score: f64, message: Text, metadata: Option<Json> }
    ObservationBody {
        observation: Option<Observation>, action_id: String, tool_name: String,
        tool_call_id: String, extended_content: Vec<Content>,
    }
    AgentError {
        tool_name: String, tool_call_id: String, error: String, classification: Option<Classified>,
    }
    Classified { kind: Failure, retryable: bool, user_action: Text, error_id: Text }
    Hook {
        hook_event_type: String, hook_command: String, tool_name: Text, success: bool,
        blocked: bool, exit_code: Option<i32>, stdout: String, stderr: String, reason: Text,
        additional_context: Text, error: Text, action_id: Text, message_id: Text,
        hook_input: Option<Json>,
    }
    Message {
        role: Role, content: Vec<Content>, tool_calls: Option<Vec<ToolCall>>, tool_call_id: Text,
        name: Text, reasoning_content: Text, thinking_blocks: Vec<Thinking>,
        responses_reasoning_item: Option<Reasoning>,
    }
    ToolCall { id: String, name: String, arguments: String, origin: Text, responses_item_id: Text }
    Reasoning {
        id: Text, summary: Vec<String>, content: Option<Vec<String>>, encrypted_content: Text,
        status: Text,
    }
    Content { r#type: String, text: Text, image_urls: Vec<String>, cache_prompt: bool }
    Thinking { r#type: String, thinking: Text, signature: Text, data: Text }
    Stats { usage_to_metrics: BTreeMap<String, Box<Metrics>> }
    Metrics {
        model_name: String, accumulated_cost: f64, max_budget_per_task: Option<f64>,
        accumulated_token_usage: Option<Usage>, costs: Vec<Cost>,
        response_latencies: Vec<Latency>, token_usages: Vec<Usage>,
    }
    Usage {
        model: String, prompt_tokens: u64, completion_tokens: u64, cache_read_tokens: u64,
        cache_write_tokens: u64, reasoning_tokens: u64, context_window: u64, per_turn_token: u64,
        response_id: String,
    }
    Cost { model: String, cost: f64, timestamp: f64 }
    Latency { model: String, latency: f64, response_id: String }

    ApplyPatch { patch: String }
    Edit {
        file_path: String, old_string: String, new_string: String,
        expected_replacements: Option<u64>,
    }
    FileEditor {
        command: Edits, path: String, file_text: Text, old_str: Text, new_str: Text,
        insert_line: Option<i64>, view_range: Option<Vec<i64>>,
    }
    Finish { message: String }
    Glob { pattern: String, path: Text }
    Grep { pattern: String, path: Text, include: Text }
    List { dir_path: String, recursive: bool }
    Mcp { data: Json }
    Read { file_path: String, offset: Option<u64>, limit: Option<u64> }
    Tracker { command: Tracks, task_list: Vec<Task> }
    Task { title: String, notes: String, status: TaskStatus }
    Terminal { command: String, is_input: bool, timeout: Option<f64>, reset: bool }
    Think { thought: String }
    Write { file_path: String, content: String }

    Plain { content: Vec<Content>, is_error: bool }
    Patched {
        content: Vec<Content>, is_error: bool, message: String, fuzz: i64, commit: Option<Json>,
    }
    Edited {
        content: Vec<Content>, is_error: bool, file_path: Text, is_new_file: bool,
        replacements_made: u64, old_content: Text, new_content: Text,
    }
    FileEdited {
        content: Vec<Content>, is_error: bool, command: Edits, path: Text,
        prev_exist: Option<bool>, old_content: Text, new_content: Text,
    }
    Globbed {
        content: Vec<Content>, is_error: bool, files: Vec<String>, pattern: String,
        search_path: String, truncated: bool,
    }
    Grepped {
        content: Vec<Content>, is_error: bool, matches: Vec<String>, pattern: String,
        search_path: String, include_pattern: Text, truncated: bool,
    }
    Listed {
        content: Vec<Content>, is_error: bool, dir_path: Text, entries: Vec<Entry>,
        total_count: u64, is_truncated: bool,
    }
    Entry { name: String, path: String, is_directory: bool, size: u64, modified_time: Text }
    McpAnswer { content: Vec<Content>, is_error: bool, tool_name: String }
    FileRead {
        content: Vec<Content>, is_error: bool, file_path: String, file_content: String,
        is_truncated: bool, lines_shown: Option<(u64, u64)>, total_lines: Option<u64>,
    }
    Tracked { content: Vec<Content>, is_error: bool, command: Tracks, task_list: Vec<Task> }
    Ran {
        content: Vec<Content>, is_error: bool, command: Text, exit_code: Option<i64>,
        timeout: bool, metadata: Option<Metadata>, full_output_save_dir: Text,
    }
    Metadata {
        exit_code: i64, pid: i64, username: Text, hostname: Text, working_dir: Text,
        py_interpreter_path: Text, prefix: String, suffix: String,
    }
    Written {
        content: Vec<Content>, is_error: bool, file_path: Text, is_new_file: bool,
        old_content: Text, new_content: Text,
    }
}

/// A change of the state, typed by its key; its value as it is written, too.
#[allow(dead_code, reason = "decoded, never looked at")]
struct StateUpdate {
    key: String,
    value: Json,
    change: Change,
}

#[allow(dead_code, reason = "decoded, never looked at")]
enum Change {
    Status(Status),
    Stats(Stats),
    Other,
}

impl<'de> Deserialize<'de> for StateUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            key: String,
            value: Json,
        }
        let Written { key, value } = Deserialize::deserialize(deserializer)?;
        let change = match key.as_str() {
            "execution_status" => serde_json::from_str(value.get()).map(Change::Status),
            "stats" => serde_json::from_str(value.get()).map(Change::Stats),
            _ => Ok(Change::Other),
        };
        let change = change.map_err(D::Error::custom)?;
        Ok(Self { key, value, change })
    }
}
