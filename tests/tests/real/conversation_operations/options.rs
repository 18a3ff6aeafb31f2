//! Options of a new conversation besides its agent, and their effects.

use std::{fs, path::Path, process::Command, time::Duration};

use openhands::{
    Agent, Conversation, LocalServer, WorkspaceExt,
    conversation::ErrorKind,
    protocol::config::{Container, ConversationRuntime, LaunchAdditions, Worktree},
    testkit::{ScriptedModel, Step},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    LONG, agent, finishes, is_old, llm, says, start::with_titles, switches::tell, workspace,
};

/// Creates a repository, with a commit or without.
pub(super) fn git(place: &Path, commits: bool) {
    let name = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let commit = ["commit", "--allow-empty", "--quiet", "-m", "first"];
    let steps: [&[&str]; 2] = [&["init", "--quiet"], &[&name[..], &commit].concat()];
    for step in &steps[..if commits { 2 } else { 1 }] {
        let mut git = Command::new("git");
        git.arg("-C").arg(place).args(*step).env("HOME", place);
        assert!(git.status().unwrap().success());
    }
}

pub(super) async fn a_worktree_is_a_place_of_its_own(server: &LocalServer) {
    let model = says("Here.").await;
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_str().unwrap();
    let start = || {
        let worktree = Worktree::of_head().branch_prefix("ours/");
        Conversation::builder(&server.workspace(directory), agent(&model)).worktree(worktree)
    };
    // Without a commit no worktree can be created.
    git(place.path(), false);
    let error = start().start().await.unwrap_err();
    let status = error.transport_error().and_then(|error| error.status());
    assert_eq!(status.map(|status| status.as_u16()), Some(500), "{error:?}");
    git(place.path(), true);
    let conversation = start().start().await.unwrap();
    let at = conversation.state().working_dir().unwrap().to_string();
    assert!(
        Path::new(&at).is_dir() && Path::new(&at) != place.path(),
        "{at}"
    );
    conversation.send("Where are you?").await.unwrap();
    finishes(&conversation).await;
    let asked = model.requests().last().unwrap().body().to_string();
    assert!(asked.contains(&at), "the agent knows where it is");
    let mut git = Command::new("git");
    let branches = git
        .arg("-C")
        .arg(place.path())
        .arg("branch")
        .output()
        .unwrap();
    let branches = String::from_utf8(branches.stdout).unwrap();
    // Older servers choose the branch name themselves.
    assert_eq!(
        branches.contains("ours/"),
        !is_old(server).await,
        "{branches}"
    );
    // The same id leads to the same directory.
    let id = conversation.id();
    let again = start().id(id).start().await.unwrap();
    assert_eq!(again.state().working_dir().as_deref(), Some(&*at));
    assert!(
        again.origin().differences().is_empty(),
        "{:?}",
        again.origin()
    );
    again.close().await.unwrap();
    conversation.delete().await.unwrap();
}

pub(super) async fn what_is_for_traces_and_containers_is_kept(server: &LocalServer) {
    let model = says("Hello.").await;
    let additions = LaunchAdditions::new().system_message_suffix_append("Mind the gap.");
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .user_id("somebody")
        .span_name("nightly")
        .parent_span("of a trace")
        .trace_metadata("build", 7)
        .trace_tag("night")
        .max_iterations(5)
        .stuck_detection(false)
        .runtime(ConversationRuntime::Local)
        .container(Container::new().memory("512m").cpus(1.0))
        .launch_additions(additions)
        .tool_module("glob", "openhands.tools.glob")
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(
        conversation.state().get("max_iterations").unwrap().as_str(),
        "5"
    );
    // This value is not in any response, but on the server's disk.
    let id = conversation.id().to_string().replace('-', "");
    let meta = server
        .state_dir()
        .join("conversations")
        .join(id)
        .join("meta.json");
    let meta: Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    assert_eq!(meta["stuck_detection"], false);
    assert_eq!(
        meta["tool_module_qualnames"]["glob"],
        "openhands.tools.glob"
    );
    assert_eq!(meta["user_id"], "somebody");
    assert_eq!(meta["observability_span_name"], "nightly");
    assert_eq!(meta["observability_metadata"], json!({"build": 7}));
    assert_eq!(meta["observability_tags"], json!(["night"]));
    let asked = model.requests().last().unwrap().body().to_string();
    if !is_old(server).await {
        assert_eq!(meta["observability_parent_span_context"], "of a trace");
        assert!(asked.contains("Mind the gap."), "{asked}");
        // A runtime other than the server's. Older servers do not support runtimes.
        let error = Conversation::builder(&workspace(server), agent(&model))
            .runtime(ConversationRuntime::Docker)
            .start()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
    }
    conversation.delete().await.unwrap();
}

pub(super) async fn a_title_is_made_by_the_profile_and_in_the_words_asked_for(
    server: &LocalServer,
) {
    let model = says("An answer.").await;
    let namer = with_titles(Step::text("A name")).await;
    let profile = json!({"llm": {
        "model": ScriptedModel::MODEL,
        "base_url": namer.base_url(),
        "api_key": "scripted",
        "num_retries": 1,
    }});
    tell(server, http::Method::POST, "/api/profiles/namer", &profile).await;
    let agent = Agent::default_preset(llm(&model)).cli_mode(true);
    let conversation = Conversation::builder(&workspace(server), agent)
        .autotitle(true)
        .title_profile("namer")
        .title_prompt("Find a name for <{conversation_content}>.")
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    finishes(&conversation).await;
    let title = async {
        loop {
            match conversation.info().await.unwrap().title() {
                Some(title) => break title,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let title = timeout(LONG, title).await.unwrap();
    // An older server searches for profiles only in the home directory, and falls back to the
    // agent's model.
    if !is_old(server).await {
        assert_eq!(title, "A name");
        let asked = namer.requests().last().unwrap().body().to_string();
        assert!(asked.contains("Find a name for <"), "{asked}");
    }
    conversation.delete().await.unwrap();
}
