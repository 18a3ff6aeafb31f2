//! What an agent asks its tools to do: the action of each built-in tool.

use crate::{
    Json, Text,
    open_enum::open_enum,
    wire::{tagged, wire},
};

tagged! {
    /// What a tool is asked to do.
    Action {
        /// Edits files by a patch.
        ApplyPatch(ApplyPatchAction) = "ApplyPatchAction",
        /// Asks a stronger model.
        AskOracle(AskOracleAction) = "AskOracleAction",
        /// What the actions of the browser have in common.
        Browser(NoArguments) = "BrowserAction",
        /// Clicks in the browser.
        BrowserClick(BrowserClickAction) = "BrowserClickAction",
        /// Closes a tab.
        BrowserCloseTab(BrowserTabAction) = "BrowserCloseTabAction",
        /// Reads the page.
        BrowserGetContent(BrowserGetContentAction) = "BrowserGetContentAction",
        /// Looks at the browser.
        BrowserGetState(BrowserGetStateAction) = "BrowserGetStateAction",
        /// Reads cookies and storage.
        BrowserGetStorage(NoArguments) = "BrowserGetStorageAction",
        /// Goes back a page.
        BrowserGoBack(NoArguments) = "BrowserGoBackAction",
        /// Lists the tabs.
        BrowserListTabs(NoArguments) = "BrowserListTabsAction",
        /// Goes to a page.
        BrowserNavigate(BrowserNavigateAction) = "BrowserNavigateAction",
        /// Scrolls.
        BrowserScroll(BrowserScrollAction) = "BrowserScrollAction",
        /// Sets cookies and storage.
        BrowserSetStorage(BrowserSetStorageAction) = "BrowserSetStorageAction",
        /// Begins to record.
        BrowserStartRecording(NoArguments) = "BrowserStartRecordingAction",
        /// Ends a recording.
        BrowserStopRecording(NoArguments) = "BrowserStopRecordingAction",
        /// Changes to a tab.
        BrowserSwitchTab(BrowserTabAction) = "BrowserSwitchTabAction",
        /// Types into the page.
        BrowserType(BrowserTypeAction) = "BrowserTypeAction",
        /// Lets the server choose a model for the task.
        ClassifyAndSwitchLlm(NoArguments) = "ClassifyAndSwitchLLMAction",
        /// Asks what is known of the user.
        ConsultTom(ConsultTomAction) = "ConsultTomAction",
        /// Hands tasks to sub-agents.
        Delegate(DelegateAction) = "DelegateAction",
        /// Replaces text in a file (Gemini's tool).
        Edit(EditAction) = "EditAction",
        /// Views or edits a file.
        FileEditor(FileEditorAction) = "FileEditorAction",
        /// Declares the work done.
        Finish(FinishAction) = "FinishAction",
        /// Finds files by name.
        Glob(GlobAction) = "GlobAction",
        /// Finds files by content.
        Grep(GrepAction) = "GrepAction",
        /// Reads a skill.
        InvokeSkill(InvokeSkillAction) = "InvokeSkillAction",
        /// Lists a directory (Gemini's tool).
        ListDirectory(ListDirectoryAction) = "ListDirectoryAction",
        /// Calls a tool of an MCP server.
        McpTool(McpToolAction) = "MCPToolAction",
        /// Views files, or edits the plan.
        PlanningFileEditor(FileEditorAction) = "PlanningFileEditorAction",
        /// Reads a file (Gemini's tool).
        ReadFile(ReadFileAction) = "ReadFileAction",
        /// Digests what is known of the user.
        SleeptimeCompute(NoArguments) = "SleeptimeComputeAction",
        /// Starts a conversation under this one.
        StartChildConversation(StartChildConversationAction) = "StartChildConversationAction",
        /// Changes to another model.
        SwitchLlm(SwitchLlmAction) = "SwitchLLMAction",
        /// Hands a task to a sub-agent and waits.
        Task(TaskAction) = "TaskAction",
        /// Keeps a list of tasks.
        TaskTracker(TaskTrackerAction) = "TaskTrackerAction",
        /// Runs a command in the terminal.
        Terminal(TerminalAction) = "TerminalAction",
        /// Writes a thought down.
        Think(ThinkAction) = "ThinkAction",
        /// Asks a model about an image.
        VisionInspect(VisionInspectAction) = "VisionInspectAction",
        /// Runs a script of agents.
        Workflow(WorkflowAction) = "WorkflowAction",
        /// Writes a file (Gemini's tool).
        WriteFile(WriteFileAction) = "WriteFileAction",
    }
    other {
        /// A tool of the client: its arguments stand beside `kind`. See
        /// [`client_tool`](Action::client_tool).
        Client if is_client,
    }
}

const CLIENT: &str = "ClientAction_";

fn is_client(kind: &str) -> bool {
    kind.starts_with(CLIENT)
}

impl Action {
    /// The name of the client tool that is called, if it is one.
    pub fn client_tool(&self) -> Option<&str> {
        match self {
            Self::Client(body) => body.kind.strip_prefix(CLIENT),
            _ => None,
        }
    }
}

open_enum! {
    /// What an editor is asked to do.
    EditorCommand {
        /// Show it.
        View = "view",
        /// Create it.
        Create = "create",
        /// Replace text.
        StrReplace = "str_replace",
        /// Insert text.
        Insert = "insert",
        /// Take the last edit back.
        UndoEdit = "undo_edit",
    }
}

open_enum! {
    /// What to do with a list of tasks.
    TrackerCommand {
        /// Show it.
        View = "view",
        /// Replace it.
        Plan = "plan",
    }
}

open_enum! {
    /// How far a task is.
    #[derive(Default)]
    TaskStatus {
        /// Not begun.
        #[default]
        Todo = "todo",
        /// Begun.
        InProgress = "in_progress",
        /// Done.
        Done = "done",
    }
}

wire! {
    /// An action that has no arguments.
    NoArguments {}

    /// Edits files by a patch.
    ApplyPatchAction {
        /// The patch, between `*** Begin Patch` and `*** End Patch`.
        patch: Text,
    }

    /// Asks a stronger model.
    AskOracleAction {
        /// The question.
        question: Text,
        /// What it should know.
        context: Option<Text> = default,
    }

    /// Clicks in the browser.
    BrowserClickAction {
        /// The element's number in the last state.
        index: i64,
        /// Whether to open a new tab.
        new_tab: bool = default,
    }

    /// Names a tab.
    BrowserTabAction {
        /// The tab.
        tab_id: Text,
    }

    /// Reads the page.
    BrowserGetContentAction {
        /// Whether to list links.
        extract_links: bool = default,
        /// Where in the content to begin.
        start_from_char: u64 = default,
    }

    /// Looks at the browser.
    BrowserGetStateAction {
        /// Whether to take a picture.
        include_screenshot: bool = default,
    }

    /// Goes to a page.
    BrowserNavigateAction {
        /// The page.
        url: Text,
        /// Whether to open a new tab.
        new_tab: bool = default,
    }

    /// Scrolls.
    BrowserScrollAction {
        /// `up` or `down`.
        direction: Text,
    }

    /// Sets cookies and storage.
    BrowserSetStorageAction {
        /// What to set.
        storage_state: Json,
    }

    /// Types into the page.
    BrowserTypeAction {
        /// The element's number in the last state.
        index: i64,
        /// The text.
        text: Text,
    }

    /// Asks what is known of the user.
    ConsultTomAction {
        /// Why.
        reason: Text,
        /// Whether to ask about the user's message.
        use_user_message: Option<bool> = default,
        /// What to ask instead.
        custom_query: Option<Text> = default,
    }

    /// Hands tasks to sub-agents.
    DelegateAction {
        /// `spawn` or `delegate`.
        command: Text,
        /// Names of the sub-agents to spawn.
        ids: Option<Vec<Text>> = default,
        /// Their types, in the same order.
        agent_types: Option<Vec<Text>> = default,
        /// Tasks by name of the sub-agent.
        tasks: Option<Json> = default,
    }

    /// Replaces text in a file.
    EditAction {
        /// The file.
        file_path: Text,
        /// What to replace; empty to create the file.
        old_string: Text,
        /// What to put there.
        new_string: Text,
        /// How often it must occur.
        expected_replacements: Option<u64> = default,
    }

    /// Views or edits a file.
    FileEditorAction {
        /// What to do.
        command: EditorCommand,
        /// The file or directory.
        path: Text,
        /// What `create` writes.
        file_text: Option<Text> = default,
        /// What `str_replace` replaces.
        old_str: Option<Text> = default,
        /// What `str_replace` and `insert` put there.
        new_str: Option<Text> = default,
        /// After which line `insert` inserts; 0 for the top.
        insert_line: Option<i64> = default,
        /// First and last line of a `view`; −1 for the end.
        view_range: Option<Vec<i64>> = default,
    }

    /// Declares the work done.
    FinishAction {
        /// What the agent says of it.
        message: Text,
    }

    /// Finds files by name.
    GlobAction {
        /// The pattern.
        pattern: Text,
        /// Where to look.
        path: Option<Text> = default,
    }

    /// Finds files by content.
    GrepAction {
        /// The regular expression.
        pattern: Text,
        /// Where to look.
        path: Option<Text> = default,
        /// Which files, by name.
        include: Option<Text> = default,
    }

    /// Reads a skill.
    InvokeSkillAction {
        /// Its name.
        name: Text,
    }

    /// Lists a directory.
    ListDirectoryAction {
        /// The directory.
        dir_path: Text,
        /// Whether to go two levels down.
        recursive: bool = default,
    }

    /// Calls a tool of an MCP server.
    McpToolAction {
        /// The arguments.
        data: Json,
    }

    /// Reads a file.
    ReadFileAction {
        /// The file.
        file_path: Text,
        /// From which line.
        offset: Option<u64> = default,
        /// How many lines.
        limit: Option<u64> = default,
    }

    /// Starts a conversation under this one.
    StartChildConversationAction {
        /// The task.
        task: Text,
        /// Its title.
        title: Option<Text> = default,
        /// `worktree` or `shared`.
        isolation: Option<Text> = default,
    }

    /// Changes to another model.
    SwitchLlmAction {
        /// The profile that describes it.
        profile_name: Text,
        /// Why.
        reason: Text,
    }

    /// Hands a task to a sub-agent and waits.
    TaskAction {
        /// It in a few words.
        description: Option<Text> = default,
        /// It at length.
        prompt: Text,
        /// Which sub-agent.
        subagent_type: Option<Text> = default,
        /// A task to go on with.
        resume: Option<Text> = default,
        /// After how many steps it ends.
        max_turns: Option<u64> = default,
    }

    /// Keeps a list of tasks.
    TaskTrackerAction {
        /// What to do.
        command: TrackerCommand,
        /// The list that `plan` writes.
        task_list: Vec<TaskItem> = default,
    }

    /// A task of a list.
    TaskItem {
        /// What to do.
        title: Text,
        /// What to mind.
        notes: Text = default,
        /// How far it is.
        status: TaskStatus = default,
    }

    /// Runs a command in the terminal.
    TerminalAction {
        /// The command, or what to type into the one that runs.
        command: Text,
        /// Whether it is typed into the one that runs.
        is_input: bool = default,
        /// After how many seconds to look at the output, the command running on.
        timeout: Option<f64> = default,
        /// Whether to begin with a fresh terminal.
        reset: bool = default,
    }

    /// Writes a thought down.
    ThinkAction {
        /// The thought.
        thought: Text,
    }

    /// Asks a model about an image.
    VisionInspectAction {
        /// Which image of the conversation.
        image_index: i64,
        /// The question.
        question: Text,
        /// The profile of the model to ask.
        profile_name: Option<Text> = default,
    }

    /// Runs a script of agents.
    WorkflowAction {
        /// Its name.
        name: Text,
        /// The script.
        script: Text,
        /// How many agents at once.
        max_concurrency: Option<u64> = default,
    }

    /// Writes a file.
    WriteFileAction {
        /// The file.
        file_path: Text,
        /// What to write.
        content: Text,
    }
}
