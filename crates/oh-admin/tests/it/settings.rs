//! Settings, secrets and MCP servers on the fake server.

use std::time::Duration;

use oh_admin::{Admin, ErrorKind};
use oh_protocol::{
    calls::{
        mcp::{OAuthStatus, TestServer},
        settings::{Expose, SetSecret, UpdateSettings},
    },
    config::{Llm, McpAuth, McpServer, McpServerPatch},
    secrecy::ExposeSecret,
};
use oh_testkit::Mock;
use serde_json::json;

use crate::{MASK, server};

#[tokio::test]
async fn settings_that_were_read_cannot_be_sent_back_with_their_masks() {
    let (server, admin) = server().await;
    let update = UpdateSettings::new()
        .llm(Llm::new("m").api_key("canary"))
        .conversation(json!({"max_iterations": 7}))
        .misc(json!({"theme": "dark"}));
    let changed = admin.settings().update(update).await.unwrap();
    assert_eq!(changed.agent_settings["llm"]["api_key"], MASK);
    assert_eq!(changed.conversation_settings["max_iterations"], 7);
    assert_eq!(changed.misc_settings["theme"], "dark");
    server.forget_requests();
    let back = UpdateSettings::new().agent(changed.agent_settings.clone());
    let error = admin.settings().update(back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let message = error.to_string();
    assert!(
        message.contains("agent_settings_diff.llm.api_key: the server's mask"),
        "{message}"
    );
    assert!(server.requests().is_empty());
    let plain = admin.settings().get_with(Expose::Plain).await.unwrap();
    assert_eq!(plain.agent_settings["llm"]["api_key"], "canary");
    assert!(!format!("{plain:?}").contains("canary"));
    // Encrypted secrets may be sent back.
    let sealed = admin.settings().get_with(Expose::Encrypted).await.unwrap();
    let back = UpdateSettings::new().agent(json!({"llm": sealed.agent_settings["llm"]}));
    admin.settings().update(back).await.unwrap();
}

#[tokio::test]
async fn a_pointer_is_set_and_cleared() {
    let (_server, admin) = server().await;
    admin.profiles().save("fast", Llm::new("m")).await.unwrap();
    let settings = admin.settings();
    let set = settings
        .update(UpdateSettings::new().active_profile("fast"))
        .await
        .unwrap();
    assert_eq!(set.active_profile.as_deref(), Some("fast"));
    let none = settings
        .update(UpdateSettings::new().active_profile(None))
        .await
        .unwrap();
    assert_eq!(none.active_profile, None);
    let gone = UpdateSettings::new().active_profile("gone");
    let error = settings.update(gone).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_secret_is_stored_replaced_read_and_deleted() {
    let (_server, admin) = server().await;
    let secrets = admin.secrets();
    let stored = SetSecret::new("TOKEN", "canary").description("A token");
    assert!(!format!("{stored:?}").contains("canary"));
    let info = secrets.put(stored).await.unwrap();
    assert_eq!(info.description.as_deref(), Some("A token"));
    secrets.set("TOKEN", "canary-2").await.unwrap();
    let value = secrets.value("TOKEN").await.unwrap();
    assert_eq!(value.expose_secret(), "canary-2");
    assert_eq!(secrets.list().await.unwrap().len(), 1);
    assert!(secrets.delete("TOKEN").await.unwrap());
    assert!(!secrets.delete("TOKEN").await.unwrap());
    let error = secrets.value("TOKEN").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = secrets.set("1BAD", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
}

#[tokio::test]
async fn an_mcp_server_is_added_changed_and_removed() {
    let (_server, admin) = server().await;
    let mcp = admin.mcp();
    let local = McpServer::stdio("uvx").args(["x"]).env("TOKEN", "canary");
    let all = mcp.add("fetch", local.clone()).await.unwrap();
    assert_eq!(
        (&*all[0].name, all[0].command.as_deref()),
        ("fetch", Some("uvx"))
    );
    let error = mcp.add("fetch", local).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let patch = McpServerPatch::new()
        .enabled(false)
        .env("MORE", "canary")
        .remove_env("TOKEN");
    let all = mcp.patch("fetch", patch).await.unwrap();
    assert!(!all[0].enabled);
    let plain = admin.settings().get_with(Expose::Plain).await.unwrap();
    let env = &plain.agent_settings["mcp_config"]["fetch"]["env"];
    assert_eq!(env, &json!({"MORE": "canary"}));
    let masked = admin.settings().get().await.unwrap();
    assert!(!masked.agent_settings.to_string().contains("canary"));
    assert!(mcp.delete("fetch").await.unwrap());
    assert!(!mcp.delete("fetch").await.unwrap());
    let error = mcp
        .patch("fetch", McpServerPatch::new().cwd(None))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(mcp.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn masks_are_never_sent() {
    let (server, admin) = server().await;
    let remote = || McpServer::http("https://h/mcp");
    let masked = || remote().auth(McpAuth::bearer(MASK));
    for error in [
        admin.secrets().set("A", MASK).await.unwrap_err(),
        admin.secrets().set("A", "").await.unwrap_err(),
        admin.mcp().add("a", masked()).await.unwrap_err(),
        admin
            .mcp()
            .add("a", remote().header("X", MASK))
            .await
            .unwrap_err(),
        admin
            .mcp()
            .patch("a", McpServerPatch::new().env("A", MASK))
            .await
            .unwrap_err(),
        admin
            .mcp()
            .test(TestServer::new(masked()))
            .await
            .unwrap_err(),
        admin
            .mcp()
            .authorize(TestServer::new(masked()))
            .await
            .unwrap_err(),
        admin.mcp().submit_callback("a", MASK).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("mask") || error.to_string().contains("empty"));
    }
    for update in [
        UpdateSettings::new().misc(json!([MASK])),
        UpdateSettings::new().conversation(json!({"a": {"b": MASK}})),
        UpdateSettings::new().llm(Llm::new("m").api_key(MASK)),
        UpdateSettings::new().agent(json!(1)).llm(Llm::new("m")),
        UpdateSettings::new(),
    ] {
        let error = admin.settings().update(update).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_authorization_is_awaited_until_its_end_or_the_limit() {
    let mock = Mock::new();
    let admin = Admin::of(&mock.client());
    let path = "/api/mcp/oauth/status/j";
    let job = |status: &str| json!({"ok": true, "status": status, "job_id": "j"});
    for status in ["pending", "authorizing", "later", "succeeded"] {
        mock.expect("GET", path).answer(200, job(status));
    }
    let begun = tokio::time::Instant::now();
    let ended = admin
        .mcp()
        .authorized("j")
        .interval(Duration::from_secs(3))
        .await
        .unwrap();
    assert_eq!(ended.status, OAuthStatus::Succeeded);
    assert_eq!(begun.elapsed().as_secs(), 9);
    for _ in 0..3 {
        mock.expect("GET", path).answer(200, job("authorizing"));
    }
    let begun = tokio::time::Instant::now();
    let limit = Duration::from_millis(2500);
    let error = admin
        .mcp()
        .authorized("j")
        .timeout(limit)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(begun.elapsed().as_millis(), 2500);
    mock.expect("GET", path)
        .answer(404, json!({"detail": "MCP OAuth job not found"}));
    let error = admin
        .mcp()
        .authorized("j")
        .timeout(Duration::MAX)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    mock.verify().unwrap();
}
