//! What tools answer: the observation of each built-in tool.

use super::{
    TaskItem,
    action::{EditorCommand, TrackerCommand},
    message::{Content, text_of},
};
use crate::{
    Json, Text,
    wire::{self, tagged, wire},
};

/// Declares observations: what all of them have, and what is their own.
macro_rules! observations {
    ($(
        $(#[$meta:meta])*
        $variant:ident = $kind:literal as $name:ident {
            $( $(#[$fmeta:meta])* $field:ident : $type:ty $(= $default:ident)? ),* $(,)?
        }
    )+) => {
        tagged! {
            /// What a tool answers.
            Observation { $( $(#[$meta])* $variant($name) = $kind ),+ }
            other {}
        }

        wire! { $(
            $(#[$meta])*
            $name {
                /// What the model sees of it.
                content: Vec<Content> = default,
                /// Whether the tool reports a failure.
                is_error: bool = default,
                $( $(#[$fmeta])* $field: $type $(= $default)? ),*
            }
        )+ }

        impl Observation {
            /// What the model sees of it. Nothing where the kind is unknown: see
            /// [`text`](Self::text).
            pub fn content(&self) -> &[Content] {
                match self {
                    $( Self::$variant(body) => &body.content, )+
                    Self::Unknown(_) | Self::Malformed(_) => &[],
                }
            }

            /// Whether the tool reports a failure.
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
    /// Files were edited by a patch.
    ApplyPatch = "ApplyPatchObservation" as ApplyPatchObservation {
        /// What happened.
        message: Text = default,
        /// How inexactly the patch fitted; 0 for exactly.
        fuzz: i64 = default,
        /// What changed, by file.
        commit: Option<Json> = default,
    }
    /// The stronger model answered.
    AskOracle = "AskOracleObservation" as AskOracleObservation {}
    /// The browser did it.
    Browser = "BrowserObservation" as BrowserObservation {
        /// A picture, in base64.
        screenshot_data: Option<Text> = default,
        /// Where the whole output is, when it was too long.
        full_output_save_dir: Option<Text> = default,
    }
    /// The server chose a model.
    ClassifyAndSwitchLlm = "ClassifyAndSwitchLLMObservation" as ClassifyAndSwitchLlmObservation {
        /// For which class of tasks.
        chosen_class: Option<Text> = default,
        /// The model asked for.
        model: Option<Text> = default,
        /// The model in use.
        active_model: Option<Text> = default,
    }
    /// The call went to the client; what it gives comes as a message, if at all.
    ClientTool = "ClientToolObservation" as ClientToolObservation {}
    /// What is known of the user.
    ConsultTom = "ConsultTomObservation" as ConsultTomObservation {
        /// What to do.
        suggestions: Text = default,
        /// How sure it is, from 0 to 1.
        confidence: Option<f64> = default,
        /// Why.
        reasoning: Option<Text> = default,
    }
    /// Tasks were handed to sub-agents.
    Delegate = "DelegateObservation" as DelegateObservation {
        /// `spawn` or `delegate`.
        command: Text,
    }
    /// Text of a file was replaced.
    Edit = "EditObservation" as EditObservation {
        /// The file.
        file_path: Option<Text> = default,
        /// Whether it is new.
        is_new_file: bool = default,
        /// How often.
        replacements_made: u64 = default,
        /// What it held.
        old_content: Option<Text> = default,
        /// What it holds.
        new_content: Option<Text> = default,
    }
    /// A file was viewed or edited.
    FileEditor = "FileEditorObservation" as FileEditorObservation {
        /// What was done.
        command: EditorCommand,
        /// The file.
        path: Option<Text> = default,
        /// Whether it was there before.
        prev_exist: Option<bool> = default,
        /// What it held.
        old_content: Option<Text> = default,
        /// What it holds.
        new_content: Option<Text> = default,
    }
    /// The work is declared done.
    Finish = "FinishObservation" as FinishObservation {}
    /// Files found by name.
    Glob = "GlobObservation" as GlobObservation {
        /// Them, newest first.
        files: Vec<Text>,
        /// The pattern.
        pattern: Text,
        /// Where they were looked for.
        search_path: Text,
        /// Whether there were more.
        truncated: bool = default,
    }
    /// Files found by content.
    Grep = "GrepObservation" as GrepObservation {
        /// Them, newest first.
        matches: Vec<Text>,
        /// The regular expression.
        pattern: Text,
        /// Where they were looked for.
        search_path: Text,
        /// Which files, by name.
        include_pattern: Option<Text> = default,
        /// Whether there were more.
        truncated: bool = default,
    }
    /// A skill was read.
    InvokeSkill = "InvokeSkillObservation" as InvokeSkillObservation {
        /// Its name.
        skill_name: Text,
    }
    /// A directory was listed.
    ListDirectory = "ListDirectoryObservation" as ListDirectoryObservation {
        /// The directory.
        dir_path: Option<Text> = default,
        /// What is in it.
        entries: Vec<FileEntry> = default,
        /// How much is in it.
        total_count: u64 = default,
        /// Whether there was more.
        is_truncated: bool = default,
    }
    /// A tool of an MCP server answered.
    McpTool = "MCPToolObservation" as McpToolObservation {
        /// The tool.
        tool_name: Text,
    }
    /// A file was viewed, or the plan edited.
    PlanningFileEditor = "PlanningFileEditorObservation" as PlanningFileEditorObservation {
        /// What was done.
        command: EditorCommand,
        /// The file.
        path: Option<Text> = default,
        /// Whether it was there before.
        prev_exist: Option<bool> = default,
        /// What it held.
        old_content: Option<Text> = default,
        /// What it holds.
        new_content: Option<Text> = default,
    }
    /// A file was read.
    ReadFile = "ReadFileObservation" as ReadFileObservation {
        /// The file.
        file_path: Text,
        /// What it holds.
        file_content: Text = default,
        /// Whether there was more.
        is_truncated: bool = default,
        /// First and last line shown.
        lines_shown: Option<(u64, u64)> = default,
        /// How many lines there are.
        total_lines: Option<u64> = default,
    }
    /// What is known of the user was digested.
    SleeptimeCompute = "SleeptimeComputeObservation" as SleeptimeComputeObservation {
        /// What happened.
        message: Text = default,
        /// Of how many sessions.
        sessions_processed: u64 = default,
    }
    /// A conversation was started under this one.
    StartChildConversation = "StartChildConversationObservation" as StartChildConversationObservation {
        /// Its id.
        conversation_id: Option<Text> = default,
        /// This one's id.
        parent_conversation_id: Option<Text> = default,
        /// What it is doing.
        status: Option<Text> = default,
        /// Its title.
        title: Option<Text> = default,
        /// Where to look at it.
        url: Option<Text> = default,
        /// Where it works.
        workspace: Option<Text> = default,
        /// `worktree` or `shared`.
        isolation: Option<Text> = default,
    }
    /// The model was changed.
    SwitchLlm = "SwitchLLMObservation" as SwitchLlmObservation {
        /// The profile that describes it.
        profile_name: Text,
        /// Why.
        reason: Option<Text> = default,
        /// The model in use.
        active_model: Option<Text> = default,
    }
    /// A sub-agent did a task.
    Task = "TaskObservation" as TaskObservation {
        /// The task, to go on with.
        task_id: Text,
        /// Which sub-agent.
        subagent: Text,
        /// How it ended.
        status: Text,
    }
    /// A list of tasks.
    TaskTracker = "TaskTrackerObservation" as TaskTrackerObservation {
        /// What was done.
        command: TrackerCommand,
        /// It.
        task_list: Vec<TaskItem> = default,
    }
    /// A command's output.
    Terminal = "TerminalObservation" as TerminalObservation {
        /// The command.
        command: Option<Text> = default,
        /// Its exit code; −1 while it runs.
        exit_code: Option<i64> = default,
        /// Whether it runs on.
        timeout: bool = default,
        /// What the terminal knows.
        metadata: Option<CommandMetadata> = default,
        /// Where the whole output is, when it was too long.
        full_output_save_dir: Option<Text> = default,
    }
    /// A thought was written down.
    Think = "ThinkObservation" as ThinkObservation {}
    /// A model looked at an image.
    VisionInspect = "VisionInspectObservation" as VisionInspectObservation {
        /// Which image of the conversation.
        image_index: i64,
        /// The question.
        question: Text,
        /// The profile of the model asked.
        profile_name: Option<Text> = default,
        /// The model.
        model: Option<Text> = default,
        /// Where it is.
        base_url: Option<Text> = default,
        /// What it said.
        answer: Option<Text> = default,
    }
    /// A script of agents ran.
    Workflow = "WorkflowObservation" as WorkflowObservation {
        /// Its name.
        name: Text,
        /// `completed` or `error`.
        status: Text,
    }
    /// A file was written.
    WriteFile = "WriteFileObservation" as WriteFileObservation {
        /// The file.
        file_path: Option<Text> = default,
        /// Whether it is new.
        is_new_file: bool = default,
        /// What it held.
        old_content: Option<Text> = default,
        /// What it holds.
        new_content: Option<Text> = default,
    }
}

wire! {
    /// An entry of a directory.
    FileEntry {
        /// Its name.
        name: Text,
        /// Its path.
        path: Text,
        /// Whether it is a directory.
        is_directory: bool,
        /// Its size in bytes.
        size: u64 = default,
        /// When it was changed.
        modified_time: Option<Text> = default,
    }

    /// What the terminal knows of a command.
    CommandMetadata {
        /// Its exit code; −1 while it runs.
        exit_code: i64,
        /// The shell's process.
        pid: i64 = default,
        /// The user.
        username: Option<Text> = default,
        /// The machine.
        hostname: Option<Text> = default,
        /// Where the shell is now.
        working_dir: Option<Text> = default,
        /// The Python that `python` means.
        py_interpreter_path: Option<Text> = default,
        /// What the model is told before the output.
        prefix: Text = default,
        /// What the model is told after the output.
        suffix: Text = default,
    }

    /// What every observation has, known or not.
    PlainObservation {
        /// What the model sees of it.
        content: Vec<Content> = default,
        /// Whether the tool reports a failure.
        is_error: bool = default,
    }
}

impl Observation {
    /// The text the model sees, also of an unknown kind.
    pub fn text(&self) -> String {
        match self.plain() {
            Some(body) => text_of(&body.content),
            None => text_of(self.content()),
        }
    }

    /// What can be read of a kind that is not known.
    fn plain(&self) -> Option<PlainObservation> {
        match self {
            Self::Unknown(body) => wire::decode(body.json.text()).ok(),
            Self::Malformed(body) => wire::decode(body.json.text()).ok(),
            _ => None,
        }
    }
}
