//! Observations: the output of each built-in tool.

use super::{
    TaskItem,
    action::{EditorCommand, TrackerCommand},
    message::{Content, text_of},
};
use crate::{
    Json, Text,
    json::{
        declare::{tagged, wire},
        wire,
    },
};

/// Declares the observations with their common and specific fields.
macro_rules! observations {
    ($(
        $(#[$meta:meta])*
        $variant:ident = $kind:literal as $name:ident {
            $( $(#[$fmeta:meta])* $field:ident : $type:ty $(= $default:ident)? ),* $(,)?
        }
    )+) => {
        tagged! {
            /// The output of a tool call.
            Observation { $( $(#[$meta])* $variant($name) = $kind ),+ }
            other {}
        }

        wire! { $(
            $(#[$meta])*
            $name {
                /// The content for the model.
                content: Vec<Content> = default,
                /// Whether the tool reports a failure.
                is_error: bool = default,
                $( $(#[$fmeta])* $field: $type $(= $default)? ),*
            }
        )+ }

        impl Observation {
            /// Returns the content for the model. Empty if the kind is unknown; see
            /// [`text`](Self::text).
            pub fn content(&self) -> &[Content] {
                match self {
                    $( Self::$variant(body) => &body.content, )+
                    Self::Unknown(_) | Self::Malformed(_) => &[],
                }
            }

            /// Returns whether the tool reports a failure.
            pub fn is_error(&self) -> bool {
                match self {
                    $( Self::$variant(body) => body.is_error, )+
                    _ => self.plain().is_some_and(|body| body.is_error),
                }
            }
        }
    };
}

observations! {
    /// The result of a patch.
    ApplyPatch = "ApplyPatchObservation" as ApplyPatchObservation {
        /// The message of the tool.
        message: Text = default,
        /// The amount of fuzz with which the patch was applied; 0 for an exact match.
        fuzz: i64 = default,
        /// The changes, by file.
        commit: Option<Json> = default,
    }
    /// The stronger model's answer.
    AskOracle = "AskOracleObservation" as AskOracleObservation {}
    /// The result of a browser action.
    Browser = "BrowserObservation" as BrowserObservation {
        /// A screenshot in base64.
        screenshot_data: Option<Text> = default,
        /// The directory with the whole output, if it was truncated.
        full_output_save_dir: Option<Text> = default,
    }
    /// The model that the server chose.
    ClassifyAndSwitchLlm = "ClassifyAndSwitchLLMObservation" as ClassifyAndSwitchLlmObservation {
        /// The class of tasks that was chosen.
        chosen_class: Option<Text> = default,
        /// The requested model.
        model: Option<Text> = default,
        /// The active model.
        active_model: Option<Text> = default,
    }
    /// The acknowledgement of a client tool call. A result, if any, is sent as a message.
    ClientTool = "ClientToolObservation" as ClientToolObservation {}
    /// The Tom agent's answer.
    ConsultTom = "ConsultTomObservation" as ConsultTomObservation {
        /// The suggestions.
        suggestions: Text = default,
        /// The confidence, from 0 to 1.
        confidence: Option<f64> = default,
        /// The reasoning behind the suggestions.
        reasoning: Option<Text> = default,
    }
    /// The result of delegating tasks to sub-agents.
    Delegate = "DelegateObservation" as DelegateObservation {
        /// `spawn` or `delegate`.
        command: Text,
    }
    /// The result of replacing text in a file.
    Edit = "EditObservation" as EditObservation {
        /// The path of the file.
        file_path: Option<Text> = default,
        /// Whether the file was created.
        is_new_file: bool = default,
        /// The number of replacements.
        replacements_made: u64 = default,
        /// The old content of the file.
        old_content: Option<Text> = default,
        /// The new content of the file.
        new_content: Option<Text> = default,
    }
    /// The result of viewing or editing a file.
    FileEditor = "FileEditorObservation" as FileEditorObservation {
        /// The command.
        command: EditorCommand,
        /// The path of the file.
        path: Option<Text> = default,
        /// Whether the file existed before.
        prev_exist: Option<bool> = default,
        /// The old content of the file.
        old_content: Option<Text> = default,
        /// The new content of the file.
        new_content: Option<Text> = default,
    }
    /// The acknowledgement of the finish action.
    Finish = "FinishObservation" as FinishObservation {}
    /// The files that match a name pattern.
    Glob = "GlobObservation" as GlobObservation {
        /// Matching paths, newest first.
        files: Vec<Text>,
        /// The glob pattern.
        pattern: Text,
        /// The directory that was searched.
        search_path: Text,
        /// Whether the list is truncated.
        truncated: bool = default,
    }
    /// The files whose content matches a pattern.
    Grep = "GrepObservation" as GrepObservation {
        /// Matching paths, newest first.
        matches: Vec<Text>,
        /// The regular expression.
        pattern: Text,
        /// The directory that was searched.
        search_path: Text,
        /// The glob pattern for file names.
        include_pattern: Option<Text> = default,
        /// Whether the list is truncated.
        truncated: bool = default,
    }
    /// The result of loading a skill.
    InvokeSkill = "InvokeSkillObservation" as InvokeSkillObservation {
        /// The name of the skill.
        skill_name: Text,
    }
    /// The content of a directory.
    ListDirectory = "ListDirectoryObservation" as ListDirectoryObservation {
        /// The path of the directory.
        dir_path: Option<Text> = default,
        /// The entries of the directory.
        entries: Vec<FileEntry> = default,
        /// The total number of entries.
        total_count: u64 = default,
        /// Whether the list is truncated.
        is_truncated: bool = default,
    }
    /// The output of an MCP tool.
    McpTool = "MCPToolObservation" as McpToolObservation {
        /// The name of the tool.
        tool_name: Text,
    }
    /// The result of viewing a file or editing the plan.
    PlanningFileEditor = "PlanningFileEditorObservation" as PlanningFileEditorObservation {
        /// The command.
        command: EditorCommand,
        /// The path of the file.
        path: Option<Text> = default,
        /// Whether the file existed before.
        prev_exist: Option<bool> = default,
        /// The old content of the file.
        old_content: Option<Text> = default,
        /// The new content of the file.
        new_content: Option<Text> = default,
    }
    /// The content of a file.
    ReadFile = "ReadFileObservation" as ReadFileObservation {
        /// The path of the file.
        file_path: Text,
        /// The content of the file.
        file_content: Text = default,
        /// Whether the content is truncated.
        is_truncated: bool = default,
        /// The first and last line in the content.
        lines_shown: Option<(u64, u64)> = default,
        /// The number of lines in the file.
        total_lines: Option<u64> = default,
    }
    /// The result of updating the Tom agent's model of the user.
    SleeptimeCompute = "SleeptimeComputeObservation" as SleeptimeComputeObservation {
        /// The message of the tool.
        message: Text = default,
        /// The number of processed sessions.
        sessions_processed: u64 = default,
    }
    /// The child conversation that was started.
    StartChildConversation = "StartChildConversationObservation"
        as StartChildConversationObservation {
        /// The id of the child conversation.
        conversation_id: Option<Text> = default,
        /// The id of the parent conversation.
        parent_conversation_id: Option<Text> = default,
        /// The status of the child conversation.
        status: Option<Text> = default,
        /// The title of the child conversation.
        title: Option<Text> = default,
        /// The URL of the child conversation.
        url: Option<Text> = default,
        /// The workspace of the child conversation.
        workspace: Option<Text> = default,
        /// `worktree` or `shared`.
        isolation: Option<Text> = default,
    }
    /// The result of switching the model.
    SwitchLlm = "SwitchLLMObservation" as SwitchLlmObservation {
        /// The name of the model profile.
        profile_name: Text,
        /// The reason for the switch.
        reason: Option<Text> = default,
        /// The active model.
        active_model: Option<Text> = default,
    }
    /// The result of a task in a sub-agent.
    Task = "TaskObservation" as TaskObservation {
        /// The id of the task, with which it can be resumed.
        task_id: Text,
        /// The sub-agent.
        subagent: Text,
        /// The final status of the task.
        status: Text,
    }
    /// The task list.
    TaskTracker = "TaskTrackerObservation" as TaskTrackerObservation {
        /// The command.
        command: TrackerCommand,
        /// The task list.
        task_list: Vec<TaskItem> = default,
    }
    /// The output of a command.
    Terminal = "TerminalObservation" as TerminalObservation {
        /// The command.
        command: Option<Text> = default,
        /// The exit code; −1 while the command is running.
        exit_code: Option<i64> = default,
        /// Whether the command is still running.
        timeout: bool = default,
        /// The terminal's metadata.
        metadata: Option<CommandMetadata> = default,
        /// The directory with the whole output, if it was truncated.
        full_output_save_dir: Option<Text> = default,
    }
    /// The acknowledgement of a thought.
    Think = "ThinkObservation" as ThinkObservation {}
    /// The answer of a model to a question about an image.
    VisionInspect = "VisionInspectObservation" as VisionInspectObservation {
        /// The index of the image in the conversation.
        image_index: i64,
        /// The question.
        question: Text,
        /// The name of the model profile.
        profile_name: Option<Text> = default,
        /// The name of the model.
        model: Option<Text> = default,
        /// The base URL of the model.
        base_url: Option<Text> = default,
        /// The answer.
        answer: Option<Text> = default,
    }
    /// The result of a workflow script.
    Workflow = "WorkflowObservation" as WorkflowObservation {
        /// The name of the workflow.
        name: Text,
        /// The status: `completed` or `error`.
        status: Text,
    }
    /// The result of writing a file.
    WriteFile = "WriteFileObservation" as WriteFileObservation {
        /// The path of the file.
        file_path: Option<Text> = default,
        /// Whether the file was created.
        is_new_file: bool = default,
        /// The old content of the file.
        old_content: Option<Text> = default,
        /// The new content of the file.
        new_content: Option<Text> = default,
    }
}

wire! {
    /// An entry in a directory.
    FileEntry {
        /// The name of the entry.
        name: Text,
        /// The path of the entry.
        path: Text,
        /// Whether the entry is a directory.
        is_directory: bool,
        /// The size in bytes.
        size: u64 = default,
        /// The time of the last change.
        modified_time: Option<Text> = default,
    }

    /// The terminal's metadata for a command.
    CommandMetadata {
        /// The exit code; −1 while the command is running.
        exit_code: i64,
        /// The process id of the shell.
        pid: i64 = default,
        /// The name of the user.
        username: Option<Text> = default,
        /// The name of the host.
        hostname: Option<Text> = default,
        /// The current directory of the shell.
        working_dir: Option<Text> = default,
        /// The path of the Python interpreter.
        py_interpreter_path: Option<Text> = default,
        /// The text that the model receives before the output.
        prefix: Text = default,
        /// The text that the model receives after the output.
        suffix: Text = default,
    }

    /// The common fields of all observations, including unknown kinds.
    PlainObservation {
        /// The content for the model.
        content: Vec<Content> = default,
        /// Whether the tool reports a failure.
        is_error: bool = default,
    }
}

impl Observation {
    /// Returns the text for the model, also for an unknown kind.
    pub fn text(&self) -> String {
        match self.plain() {
            Some(body) => text_of(&body.content),
            None => text_of(self.content()),
        }
    }

    /// Decodes the common fields of an unknown kind.
    fn plain(&self) -> Option<PlainObservation> {
        match self {
            Self::Unknown(body) => wire::decode(body.json.text()).ok(),
            Self::Malformed(body) => wire::decode(body.json.text()).ok(),
            _ => None,
        }
    }
}
