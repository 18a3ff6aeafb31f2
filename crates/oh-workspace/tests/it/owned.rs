//! Futures of operations own all that they need, so that tasks can run them.

use std::future::IntoFuture;

use bytes::Bytes;
use oh_protocol::calls::{files::ArchiveFormat, git::SearchRepositories, skills::LoadSkills};
use oh_testkit::Mock;
use oh_workspace::{Workspace, WorkspaceExt};

fn spawns<F>(future: F)
where
    F: IntoFuture,
    F::IntoFuture: Send + 'static,
{
    drop(future.into_future());
}

#[tokio::test]
async fn every_operation_can_be_moved_into_a_task_and_sends_nothing_before() {
    let mock = Mock::new();
    let workspace = &Workspace::new(&mock.client(), "/w");
    spawns(workspace.execute("ls"));
    spawns(workspace.execute("ls").start());
    spawns(workspace.execute("ls").stream());
    spawns(workspace.execute("ls").bytes());
    spawns(workspace.execute("ls").live());
    spawns(mock.client().workspace("/w").execute("ls"));
    spawns(workspace.command("1"));
    spawns(workspace.clear_history());
    spawns(workspace.history_events(["1"]));
    spawns(workspace.history().page());
    spawns(workspace.upload("a").from_bytes("b"));
    spawns(workspace.upload("a").from_path("b"));
    spawns(workspace.upload("a").from_reader(std::io::empty()));
    spawns(workspace.write("a", Bytes::new()));
    spawns(workspace.download("a").bytes());
    spawns(workspace.download("a").to_path("b"));
    spawns(
        workspace
            .archive("a", ArchiveFormat::TarGz)
            .download()
            .bytes(),
    );
    spawns(workspace.create_directory("a"));
    spawns(workspace.home());
    spawns(workspace.subdirectories("a").all());
    spawns(workspace.clone_repositories(["https://example.com/a/b"]));
    let git = &workspace.git();
    spawns(git.changes());
    spawns(git.changes_against("HEAD"));
    spawns(git.diff("a"));
    spawns(git.diff_against("a", "HEAD"));
    spawns(git.diff_of_commit("a", "b"));
    spawns(git.commits(3));
    spawns(git.commit_changes("a"));
    spawns(git.is_repository());
    spawns(git.patch().text());
    spawns(workspace.search_repositories(SearchRepositories::new("github")));
    spawns(workspace.alive());
    spawns(workspace.server_info());
    spawns(workspace.vscode_url(Some("https://example.com")));
    spawns(workspace.vscode_status());
    spawns(workspace.llm());
    spawns(workspace.llm_profile("a"));
    spawns(workspace.mcp_config());
    spawns(workspace.secrets(&["A"]));
    spawns(workspace.secrets_with_key(&["A"], "key"));
    spawns(workspace.secret_value("A"));
    spawns(workspace.load_skills(LoadSkills::new()));
    spawns(workspace.agent_context());
    mock.verify().unwrap();
}
