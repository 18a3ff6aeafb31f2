//! Actions: the input of each built-in tool.

use crate::{
    Json, Text,
    json::{
        declare::{tagged, wire},
        open_enum::open_enum,
    },
};

tagged! {
    /// The input of a tool call.
    Action {
        /// Edits files with a patch.
        ApplyPatch(ApplyPatchAction) = "ApplyPatchAction",
        /// Asks a stronger model.
        AskOracle(AskOracleAction) = "AskOracleAction",
        /// The base class of the browser actions.
        Browser(NoArguments) = "BrowserAction",
        /// Clicks in the browser.
        BrowserClick(BrowserClickAction) = "BrowserClickAction",
        /// Closes a tab.
        BrowserCloseTab(BrowserTabAction) = "BrowserCloseTabAction",
        /// Gets the content of the page.
        BrowserGetContent(BrowserGetContentAction) = "BrowserGetContentAction",
        /// Gets the state of the browser.
        BrowserGetState(BrowserGetStateAction) = "BrowserGetStateAction",
        /// Gets cookies and storage.
        BrowserGetStorage(NoArguments) = "BrowserGetStorageAction",
        /// Navigates back.
        BrowserGoBack(NoArguments) = "BrowserGoBackAction",
        /// Lists the tabs.
        BrowserListTabs(NoArguments) = "BrowserListTabsAction",
        /// Navigates to a page.
        BrowserNavigate(BrowserNavigateAction) = "BrowserNavigateAction",
        /// Scrolls the page.
        BrowserScroll(BrowserScrollAction) = "BrowserScrollAction",
        /// Sets cookies and storage.
        BrowserSetStorage(BrowserSetStorageAction) = "BrowserSetStorageAction",
        /// Starts a recording.
        BrowserStartRecording(NoArguments) = "BrowserStartRecordingAction",
        /// Stops a recording.
        BrowserStopRecording(NoArguments) = "BrowserStopRecordingAction",
        /// Switches to a tab.
        BrowserSwitchTab(BrowserTabAction) = "BrowserSwitchTabAction",
        /// Types into the page.
        BrowserType(BrowserTypeAction) = "BrowserTypeAction",
        /// Lets the server choose a model for the task.
        ClassifyAndSwitchLlm(NoArguments) = "ClassifyAndSwitchLLMAction",
        /// Asks the Tom agent, which models the user's preferences.
        ConsultTom(ConsultTomAction) = "ConsultTomAction",
        /// Delegates tasks to sub-agents.
        Delegate(DelegateAction) = "DelegateAction",
        /// Replaces text in a file (Gemini's tool).
        Edit(EditAction) = "EditAction",
        /// Views or edits a file.
        FileEditor(FileEditorAction) = "FileEditorAction",
        /// Finishes the work.
        Finish(FinishAction) = "FinishAction",
        /// Finds files by name.
        Glob(GlobAction) = "GlobAction",
        /// Finds files by content.
        Grep(GrepAction) = "GrepAction",
        /// Loads a skill.
        InvokeSkill(InvokeSkillAction) = "InvokeSkillAction",
        /// Lists a directory (Gemini's tool).
        ListDirectory(ListDirectoryAction) = "ListDirectoryAction",
        /// Calls a tool of an MCP server.
        McpTool(McpToolAction) = "MCPToolAction",
        /// Views files or edits the plan.
        PlanningFileEditor(FileEditorAction) = "PlanningFileEditorAction",
        /// Reads a file (Gemini's tool).
        ReadFile(ReadFileAction) = "ReadFileAction",
        /// Updates the Tom agent's model of the user.
        SleeptimeCompute(NoArguments) = "SleeptimeComputeAction",
        /// Starts a child conversation.
        StartChildConversation(StartChildConversationAction) = "StartChildConversationAction",
        /// Switches to another model.
        SwitchLlm(SwitchLlmAction) = "SwitchLLMAction",
        /// Runs a task in a sub-agent and waits for it.
        Task(TaskAction) = "TaskAction",
        /// Views or updates the task list.
        TaskTracker(TaskTrackerAction) = "TaskTrackerAction",
        /// Runs a command in the terminal.
        Terminal(TerminalAction) = "TerminalAction",
        /// Records a thought.
        Think(ThinkAction) = "ThinkAction",
        /// Asks a model about an image.
        VisionInspect(VisionInspectAction) = "VisionInspectAction",
        /// Runs a workflow script with several agents.
        Workflow(WorkflowAction) = "WorkflowAction",
        /// Writes a file (Gemini's tool).
        WriteFile(WriteFileAction) = "WriteFileAction",
    }
    other {
        /// A call of a client tool. The arguments are fields next to `kind`. See
        /// [`client_tool`](Action::client_tool).
        Client if is_client,
    }
}

const CLIENT: &str = "ClientAction_";

fn is_client(kind: &str) -> bool {
    kind.starts_with(CLIENT)
}

impl Action {
    /// Returns the name of the client tool, if this is a client tool call.
    pub fn client_tool(&self) -> Option<&str> {
        match self {
            Self::Client(body) => body.kind.strip_prefix(CLIENT),
            _ => None,
        }
    }
}

open_enum! {
    /// The command of a file editor.
    #[derive(Default)]
    EditorCommand {
        /// Views a file or directory.
        #[default]
        View = "view",
        /// Creates a file.
        Create = "create",
        /// Replaces text.
        StrReplace = "str_replace",
        /// Inserts text.
        Insert = "insert",
        /// Reverts the last edit.
        UndoEdit = "undo_edit",
    }
}

open_enum! {
    /// The command of the task tracker.
    #[derive(Default)]
    TrackerCommand {
        /// Views the list.
        #[default]
        View = "view",
        /// Replaces the list.
        Plan = "plan",
    }
}

open_enum! {
    /// The status of a task.
    #[derive(Default)]
    TaskStatus {
        /// Not started.
        #[default]
        Todo = "todo",
        /// In progress.
        InProgress = "in_progress",
        /// Done.
        Done = "done",
    }
}

wire! {
    /// An action that has no arguments.
    NoArguments {}

    /// Edits files with a patch.
    ApplyPatchAction {
        /// The patch, between `*** Begin Patch` and `*** End Patch`.
        patch: Text,
    }

    /// Asks a stronger model.
    AskOracleAction {
        /// The question.
        question: Text,
        /// The context of the question.
        context: Option<Text> = default,
    }

    /// Clicks in the browser.
    BrowserClickAction {
        /// The element's index in the last browser state.
        index: i64,
        /// Whether to open the link in a new tab.
        new_tab: bool = default,
    }

    /// The tab to close or to switch to.
    BrowserTabAction {
        /// The tab id.
        tab_id: Text,
    }

    /// Gets the content of the page.
    BrowserGetContentAction {
        /// Whether to include links.
        extract_links: bool = default,
        /// The character offset at which to start.
        start_from_char: u64 = default,
    }

    /// Gets the state of the browser.
    BrowserGetStateAction {
        /// Whether to include a screenshot.
        include_screenshot: bool = default,
    }

    /// Navigates to a page.
    BrowserNavigateAction {
        /// The URL of the page.
        url: Text,
        /// Whether to open the page in a new tab.
        new_tab: bool = default,
    }

    /// Scrolls the page.
    BrowserScrollAction {
        /// `up` or `down`.
        direction: Text,
    }

    /// Sets cookies and storage.
    BrowserSetStorageAction {
        /// The cookies and storage to set.
        storage_state: Json,
    }

    /// Types into the page.
    BrowserTypeAction {
        /// The element's index in the last browser state.
        index: i64,
        /// The text to type.
        text: Text,
    }

    /// Asks the Tom agent, which models the user's preferences.
    ConsultTomAction {
        /// The reason for asking.
        reason: Text,
        /// Whether to ask about the user's message.
        use_user_message: Option<bool> = default,
        /// A question to ask instead of the user's message.
        custom_query: Option<Text> = default,
    }

    /// Delegates tasks to sub-agents.
    DelegateAction {
        /// `spawn` or `delegate`.
        command: Text,
        /// The names of the sub-agents to spawn.
        ids: Option<Vec<Text>> = default,
        /// The types of the sub-agents, in the same order.
        agent_types: Option<Vec<Text>> = default,
        /// The task of each sub-agent, by the sub-agent's name.
        tasks: Option<Json> = default,
    }

    /// Replaces text in a file.
    EditAction {
        /// The path of the file.
        file_path: Text,
        /// The text to replace. Empty to create the file.
        old_string: Text,
        /// The replacement.
        new_string: Text,
        /// The expected number of occurrences.
        expected_replacements: Option<u64> = default,
    }

    /// Views or edits a file.
    FileEditorAction {
        /// The command.
        command: EditorCommand,
        /// The path of the file or directory.
        path: Text,
        /// The content for `create`.
        file_text: Option<Text> = default,
        /// The text that `str_replace` replaces.
        old_str: Option<Text> = default,
        /// The new text for `str_replace` and `insert`.
        new_str: Option<Text> = default,
        /// The line after which `insert` inserts the text; 0 for the beginning of the file.
        insert_line: Option<i64> = default,
        /// The first and last line for `view`; −1 as the last line means the end of the file.
        view_range: Option<Vec<i64>> = default,
    }

    /// Finishes the work.
    FinishAction {
        /// The agent's final message.
        message: Text,
    }

    /// Finds files by name.
    GlobAction {
        /// The glob pattern.
        pattern: Text,
        /// The directory to search.
        path: Option<Text> = default,
    }

    /// Finds files by content.
    GrepAction {
        /// The regular expression.
        pattern: Text,
        /// The directory to search.
        path: Option<Text> = default,
        /// A glob pattern that limits the search to files with matching names.
        include: Option<Text> = default,
    }

    /// Loads a skill.
    InvokeSkillAction {
        /// The name of the skill.
        name: Text,
    }

    /// Lists a directory.
    ListDirectoryAction {
        /// The path of the directory.
        dir_path: Text,
        /// Whether to list two levels.
        recursive: bool = default,
    }

    /// Calls a tool of an MCP server.
    McpToolAction {
        /// The arguments.
        data: Json,
    }

    /// Reads a file.
    ReadFileAction {
        /// The path of the file.
        file_path: Text,
        /// The first line to read.
        offset: Option<u64> = default,
        /// The maximum number of lines.
        limit: Option<u64> = default,
    }

    /// Starts a child conversation.
    StartChildConversationAction {
        /// The task of the child conversation.
        task: Text,
        /// The title of the child conversation.
        title: Option<Text> = default,
        /// `worktree` or `shared`.
        isolation: Option<Text> = default,
    }

    /// Switches to another model.
    SwitchLlmAction {
        /// The name of the model profile.
        profile_name: Text,
        /// The reason for the switch.
        reason: Text,
    }

    /// Runs a task in a sub-agent and waits for it.
    TaskAction {
        /// A short description of the task.
        description: Option<Text> = default,
        /// The full task prompt.
        prompt: Text,
        /// The type of the sub-agent.
        subagent_type: Option<Text> = default,
        /// The id of an earlier task to resume.
        resume: Option<Text> = default,
        /// The maximum number of steps.
        max_turns: Option<u64> = default,
    }

    /// Views or updates the task list.
    TaskTrackerAction {
        /// The command.
        command: TrackerCommand,
        /// The new list for `plan`.
        task_list: Vec<TaskItem> = default,
    }

    /// A task in a task list.
    TaskItem {
        /// The title of the task.
        title: Text,
        /// Notes about the task.
        notes: Text = default,
        /// The status of the task.
        status: TaskStatus = default,
    }

    /// Runs a command in the terminal.
    TerminalAction {
        /// The command, or the input for the running command.
        command: Text,
        /// Whether the text is input for the running command.
        is_input: bool = default,
        /// The number of seconds to wait for the command. After that, the tool returns the output
        /// so far, and the command continues to run.
        timeout: Option<f64> = default,
        /// Whether to restart the terminal first.
        reset: bool = default,
    }

    /// Records a thought.
    ThinkAction {
        /// The thought.
        thought: Text,
    }

    /// Asks a model about an image.
    VisionInspectAction {
        /// The index of the image in the conversation.
        image_index: i64,
        /// The question.
        question: Text,
        /// The name of the model profile.
        profile_name: Option<Text> = default,
    }

    /// Runs a workflow script with several agents.
    WorkflowAction {
        /// The name of the workflow.
        name: Text,
        /// The script.
        script: Text,
        /// The maximum number of concurrent agents.
        max_concurrency: Option<u64> = default,
    }

    /// Writes a file.
    WriteFileAction {
        /// The path of the file.
        file_path: Text,
        /// The content to write.
        content: Text,
    }
}
