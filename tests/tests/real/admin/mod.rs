//! The administration of a real server. All scenes share one server, and most run at the same time.

mod agents;
mod doors;
mod extras;
mod keys;
mod login;
mod older;
mod public;
mod server;
mod stage;
mod vendor;

use std::time::Duration;

use openhands::{
    LocalServer,
    admin::Admin,
    testkit::{Script, ScriptedModel},
};
use tokio::join;

use stage::{CANARY, Logged, Stage};

// Single-threaded, so that the subscriber of this thread receives the output of every task.
#[tokio::test]
async fn a_real_server_is_administered() {
    let logged = Logged::default();
    let writer = logged.clone();
    let logging = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber only, `tracing` decides by the thread that comes first whether a line is
    // ever logged.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(logging);
    let home = openhands_tests::home();
    let extensions = public::Extensions::new(&home);
    let vendor = vendor::Vendor::start(&home).await;
    let server = vendor.used_by(openhands_tests::server(&home));
    let server = server.start().await.unwrap();
    let script = Script::new().repeat(4, |script| script.text("Hello."));
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let admin = Admin::of(server.client());
    let stage = Stage { admin, model };
    join!(
        keys::the_catalogues_name_models(&stage),
        keys::a_connection_serves_profiles(&stage),
        keys::a_profile_lives(&stage),
        keys::a_model_is_validated(&stage),
        keys::values_are_rejected(&stage),
        login::the_server_logs_in(&stage, &vendor),
        server::schemas_describe_the_settings(&stage),
        server::secrets_are_stored(&stage),
        server::mcp_servers_are_stored_and_tested(&stage, &server),
        server::an_mcp_server_is_authorized(&stage, &server),
        extras::workspaces_are_saved(&stage),
        extras::a_plugin_lives(&stage, &home),
        public::public_skills_are_found(&stage, &extensions),
        extras::sub_agents_are_found(&stage, &home),
        extras::an_acp_agent_names_its_models(&stage, &server),
    );
    // Compares the installed plugins with those of another scene.
    public::public_plugins_are_fetched(&stage, &extensions).await;
    // Changes the model that the scene of a profile has activated.
    server::settings_are_read_and_changed(&stage).await;
    // Change which model profiles can be deleted.
    extras::a_meta_profile_lives(&stage).await;
    doors::a_client_of_openai_runs_an_agent(&stage).await;
    doors::a_browser_loads_a_page(&stage, &server, &home).await;
    agents::an_agent_profile_lives(&stage).await;
    agents::a_report_names_missing_references(&stage).await;
    agents::a_conversation_uses_a_profile(&stage, &server, &home).await;
    public::a_failed_download_is_reported(&stage, &extensions).await;
    nothing_is_shown(&server, &logged);
    server.shutdown(Duration::from_secs(30)).await.unwrap();
}

/// Checks that the canary is neither in this process's log nor in the server's.
fn nothing_is_shown(server: &LocalServer, logged: &Logged) {
    let ours = logged.text();
    assert!(
        ours.contains("/api/profiles/{name}"),
        "the log has no calls"
    );
    assert!(!ours.contains(CANARY), "in this process's log");
    let theirs = server.log_tail();
    assert!(!format!("{theirs:?}").contains(CANARY), "{theirs:?}");
}
