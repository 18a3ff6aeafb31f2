//! Server functions around a workspace: server information, settings, secrets, profiles, skills.

use std::time::Duration;

use openhands::{
    Client, Workspace, WorkspaceExt, WorkspaceHandle,
    protocol::{
        Request,
        calls::skills::{self, LoadSkills},
    },
    transport::Body,
    workspace::ErrorKind,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

async fn send(client: &Client, method: http::Method, target: &str, body: Value) {
    let mut request = Request::new(method, target);
    let json = http::HeaderValue::from_static("application/json");
    request.headers.insert(http::header::CONTENT_TYPE, json);
    let body = Body::from(bytes::Bytes::from(body.to_string()));
    let answer = client.stream(request, body).await.unwrap();
    client.accepted(answer).await.unwrap();
}

#[tokio::test]
async fn queries_of_the_environment_work_on_the_real_server() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    assert!(workspace.alive().await);
    let info = workspace.server_info().await.unwrap();
    assert_eq!(info.version, server.info().version);
    there_is_no_vscode(&workspace).await;
    stored_models_and_mcp_servers_are_used(&workspace).await;
    secrets_are_names(&workspace).await;
    skills_of_the_project_are_found(&workspace).await;
    skills_are_installed_and_removed(&workspace).await;
    server.shutdown(Duration::from_secs(30)).await.unwrap();
    assert!(!workspace.alive().await);
}

async fn there_is_no_vscode(workspace: &Workspace) {
    let status = workspace.vscode_status().await.unwrap();
    assert!(!status.running && !status.enabled, "{status:?}");
    let error = workspace.vscode_url(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}

async fn stored_models_and_mcp_servers_are_used(workspace: &Workspace) {
    let client = workspace.client();
    let error = workspace.llm_profile("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");

    let llm = json!({"model": "openai/stored", "api_key": "canary", "num_retries": 1});
    let mcp = json!({"svc": {"command": "true", "args": ["a"], "env": {"TOKEN": "canary"}}});
    let diff = json!({"agent_settings_diff": {"llm": llm, "mcp_config": mcp}});
    send(client, http::Method::PATCH, "/api/settings", diff).await;
    let stored = serde_json::to_value(workspace.llm().await.unwrap()).unwrap();
    assert_eq!(
        (&stored["model"], &stored["api_key"]),
        (&json!("openai/stored"), &json!("canary"))
    );

    let servers = workspace.mcp_config().await.unwrap();
    assert!(!format!("{servers:?}").contains("canary"));
    let servers = serde_json::to_value(&servers).unwrap();
    assert_eq!(servers["svc"]["command"], "true");
    assert_eq!(servers["svc"]["env"]["TOKEN"], "canary");

    let profile = json!({"llm": {"model": "openai/fast", "api_key": "canary-2"}});
    send(client, http::Method::POST, "/api/profiles/fast", profile).await;
    send(
        client,
        http::Method::POST,
        "/api/profiles/fast/activate",
        json!({}),
    )
    .await;
    for llm in [workspace.llm().await, workspace.llm_profile("fast").await] {
        let llm = llm.unwrap();
        llm.check().unwrap();
        let wire = serde_json::to_value(&llm).unwrap();
        assert_eq!(
            (&wire["model"], &wire["api_key"]),
            (&json!("openai/fast"), &json!("canary-2"))
        );
        assert_eq!(wire["usage_id"], "profile:fast");
        assert!(!format!("{llm:?}").contains("canary"), "{llm:?}");
    }
}

async fn secrets_are_names(workspace: &Workspace) {
    assert!(workspace.secrets(&[]).await.unwrap().is_empty());
    let secret = json!({"name": "DEPLOY_KEY", "value": "canary", "description": "for deploys"});
    send(
        workspace.client(),
        http::Method::PUT,
        "/api/settings/secrets",
        secret,
    )
    .await;
    let secrets = workspace.secrets(&["DEPLOY_KEY"]).await.unwrap();
    let wire = serde_json::to_value(&secrets).unwrap();
    assert_eq!(
        wire["DEPLOY_KEY"]["url"],
        "/api/settings/secrets/DEPLOY_KEY"
    );
    assert_eq!(wire["DEPLOY_KEY"]["description"], "for deploys");
    assert!(!wire.to_string().contains("canary"));

    let value = workspace.secret_value("DEPLOY_KEY").await.unwrap().unwrap();
    assert_eq!(value.expose_secret(), "canary");
    assert!(workspace.secret_value("NONE").await.unwrap().is_none());
    for name in ["", "a/b", ".."] {
        let error = workspace.secret_value(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
}

async fn skills_of_the_project_are_found(workspace: &Workspace) {
    let skill = "---\nname: greet\ndescription: How to greet.\ntriggers:\n- hello\n---\nSay hi.\n";
    workspace
        .write(".openhands/skills/greet.md", skill)
        .await
        .unwrap();
    let which = LoadSkills::new().project(workspace.working_dir());
    let loaded = workspace.load_skills(which).await.unwrap();
    let greet = loaded.skills.iter().find(|skill| skill.name == "greet");
    let greet = greet.unwrap_or_else(|| panic!("{loaded:?}"));
    assert_eq!(
        (greet.content.trim(), greet.triggers.as_slice()),
        ("Say hi.", &["hello".to_owned()][..])
    );
    let context = workspace.agent_context().await.unwrap();
    context.check().unwrap();
    let wire = serde_json::to_value(&context).unwrap();
    assert!(
        wire["skills"]
            .as_array()
            .unwrap()
            .iter()
            .any(|skill| skill["name"] == "greet")
    );
}

async fn skills_are_installed_and_removed(workspace: &Workspace) {
    let client = workspace.client();
    assert!(
        client
            .call(&skills::ListInstalled::default())
            .await
            .unwrap()
            .is_empty()
    );
    let text = "---\nname: polish\ndescription: How to polish.\n---\nRub it.\n";
    workspace.write("polish/SKILL.md", text).await.unwrap();
    let source = format!("{}/polish", workspace.working_dir());
    let install = skills::Install::new(&source);
    let installed = client.call(&install).await.unwrap();
    assert_eq!(
        (installed.name.as_str(), installed.enabled),
        ("polish", true)
    );
    let again = client.call(&install).await.unwrap_err();
    assert_eq!(again.kind(), openhands::transport::ErrorKind::Conflict);
    client.call(&install.force(true)).await.unwrap();
    client
        .call(&skills::SetEnabled::new("polish", false))
        .await
        .unwrap();
    let found = client
        .call(&skills::GetInstalled::new("polish"))
        .await
        .unwrap();
    assert!(
        !found.enabled && found.description == "How to polish.",
        "{found:?}"
    );
    workspace
        .write("polish/SKILL.md", text.replace("Rub", "Shine"))
        .await
        .unwrap();
    client.call(&skills::Refresh::new("polish")).await.unwrap();
    assert_eq!(
        client
            .call(&skills::ListInstalled::default())
            .await
            .unwrap()
            .len(),
        1
    );
    client
        .call(&skills::Uninstall::new("polish"))
        .await
        .unwrap();
    let gone = client
        .call(&skills::GetInstalled::new("polish"))
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), openhands::transport::ErrorKind::NotFound);
    let unnamed = client
        .call(&skills::Uninstall::new(".."))
        .await
        .unwrap_err();
    assert_eq!(
        unnamed.kind(),
        openhands::transport::ErrorKind::InvalidInput
    );
}
