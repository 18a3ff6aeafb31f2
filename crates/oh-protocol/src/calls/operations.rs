//! The list of all operations that have a typed call.

use super::{
    acp, agent_profiles, auth, bash, connections, conversations, events, files, git, hooks, init,
    llm, mcp, meta_profiles, plugins, profiles, server, settings, skills, sub_agents, tools,
    vscode, workspaces,
};
use crate::Operation;

/// Returns all operations that have a typed call, each exactly once per call. Programs can use the
/// list to configure a gateway, and tests to find operations without a call.
///
/// ```
/// use oh_protocol::calls::operations;
///
/// let run = "/api/conversations/{conversation_id}/run";
/// assert!(operations().any(|operation| operation.route == run));
/// ```
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    CALLS.iter().copied().flatten()
}

macro_rules! calls {
    ($($module:ident: $($name:ident)+;)+) => {
        &[$($($module::$name::OPERATIONS,)+)+]
    };
}

/// The operations of each call. `cargo xtask api-coverage` fails if a call is missing here.
const CALLS: &[&[Operation]] = calls! {
    acp: DiscoverAcpModels;
    agent_profiles: ListAgentProfiles GetAgentProfile SaveAgentProfile RenameAgentProfile
        ActivateAgentProfile Materialize DeleteAgentProfile;
    auth: CreateWorkspaceSession DeleteWorkspaceSession;
    bash: StartCommand Execute StopCommand SearchEvents SearchOutput GetEvent BatchEvents
        ClearEvents;
    connections: ListConnections CreateConnection UpdateConnection DeleteConnection;
    conversations: Ask BatchGet BindCredential Condense Count Create Delete FinalResponse Fork Get
        GetCredentials GetRuntime Interrupt LoadPlugin Navigate Pause PreparePause Release
        Reprovision ResumeGoal Run Search
        SetConfirmationPolicy SetSecrets SetSecurityAnalyzer StartChild StartGoal StopGoal
        SwitchAcpModel SwitchLlm SwitchProfile Update;
    events: BatchGet Count Get Respond Search SendMessage;
    files: Archive CreateDirectory Download GetHome SearchSubdirs StaticFile Trajectory Upload;
    git: Changes CommitChanges Commits Diff SearchRepositories;
    hooks: Discover;
    init: GetInitStatus Init;
    llm: GetSubscription ListModels ListProviders ListSubscriptionModels ListVerifiedModels Logout
        PollLogin StartLogin;
    mcp: GetOAuthJob StartOAuth SubmitOAuthCallback TestServer;
    meta_profiles: ListMetaProfiles GetMetaProfile SaveMetaProfile ActivateMetaProfile
        DeleteMetaProfile;
    plugins: ListPlugins FetchPlugin InstallPlugin ListInstalledPlugins GetInstalledPlugin
        SetPluginEnabled UninstallPlugin RefreshPlugin PluginMarketplace;
    profiles: ListProfiles GetProfile SaveProfile ValidateProfile RenameProfile ActivateProfile
        DeleteProfile;
    server: Alive GetServerInfo Health Ready;
    settings: AddMcpServer PatchMcpServer RemoveMcpServer DeleteSecret GetAgentSchema
        GetConversationSchema GetSecret GetSettings ListSecrets
        SetSecret UpdateSettings;
    skills: Catalog GetInstalled Install ListInstalled LoadSkills Marketplace Refresh SetEnabled
        SyncSkills Uninstall;
    sub_agents: ListSubAgents;
    tools: GetCatalog ListTools;
    vscode: GetStatus GetUrl;
    workspaces: ListWorkspaces AddWorkspaces RemoveWorkspace AddWorkspaceParents
        RemoveWorkspaceParent;
};
