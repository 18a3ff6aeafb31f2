//! Settings, secrets and MCP servers.

use std::time::Duration;

use openhands::{
    LocalServer,
    admin::ErrorKind,
    protocol::{
        calls::{
            mcp::{OAuthStatus, StartedOAuth, TestServer, TestedServer},
            settings::{Expose, SetSecret, UpdateSettings},
        },
        config::{Llm, McpAuth, McpServer, McpServerPatch},
    },
};
use secrecy::ExposeSecret as _;
use serde_json::{Map, json};

use super::stage::{CANARY, Stage};

/// The scenes that change the model in the settings, one after the other.
pub(super) async fn settings_are_read_and_changed(stage: &Stage) {
    let settings = stage.admin.settings();
    let update = UpdateSettings::new()
        .llm(stage.llm())
        .agent(json!({"tool_concurrency_limit": 3}))
        .conversation(json!({"max_iterations": 77}))
        .misc(json!({"theme": {"dark": true}, "list": [1]}));
    let changed = settings.update(update).await.unwrap();
    assert_eq!(changed.agent_settings["llm"]["api_key"], "**********");
    assert_eq!(changed.conversation_settings["max_iterations"], 77);
    assert_eq!(changed.agent_settings["tool_concurrency_limit"], 3);
    assert!(changed.llm_api_key_is_set);

    // What was read cannot be sent back with the mask: the server would remove the key.
    let back = UpdateSettings::new().agent(changed.agent_settings.clone());
    let error = settings.update(back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    // The encrypted form can be sent back, and other fields of the model can be changed.
    let sealed = settings.get_with(Expose::Encrypted).await.unwrap();
    let llm = sealed.agent_settings["llm"].clone();
    settings
        .update(UpdateSettings::new().agent(json!({ "llm": llm })))
        .await
        .unwrap();
    let more = UpdateSettings::new().llm(Llm::new("openai/other"));
    settings.update(more).await.unwrap();
    let plain = settings.get_with(Expose::Plain).await.unwrap();
    let llm = &plain.agent_settings["llm"];
    assert_eq!(
        (&llm["api_key"], &llm["model"]),
        (&json!(CANARY), &json!("openai/other"))
    );
    assert!(!format!("{plain:?} {changed:?}").contains(CANARY));

    let merged = UpdateSettings::new().misc(json!({"theme": {"size": 2}, "list": [2, 3]}));
    let merged = settings.update(merged).await.unwrap().misc_settings;
    assert_eq!(
        merged,
        json!({"theme": {"dark": true, "size": 2}, "list": [2, 3]})
    );

    for update in [
        UpdateSettings::new().conversation(json!({"max_iterations": -1})),
        UpdateSettings::new().conversation(json!({"max_iterations": null})),
        UpdateSettings::new().agent(json!({"llm": {"temperature": "hot"}})),
        UpdateSettings::new().active_profile("a b"),
        UpdateSettings::new().active_agent_profile("no-uuid"),
    ] {
        let error = settings.update(update).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    for update in [
        UpdateSettings::new().active_profile("none"),
        UpdateSettings::new().active_meta_profile("none"),
        UpdateSettings::new().active_agent_profile("11111111-1111-4111-8111-111111111111"),
    ] {
        let error = settings.update(update).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let cleared = UpdateSettings::new()
        .active_profile(None)
        .active_agent_profile(None)
        .active_meta_profile(None);
    settings.update(cleared).await.unwrap();
    let now = settings.get().await.unwrap();
    assert_eq!(now.conversation_settings["max_iterations"], 77);
    assert_eq!(now.active_agent_profile_id, None);
}

pub(super) async fn schemas_describe_the_settings(stage: &Stage) {
    let settings = stage.admin.settings();
    let agent = settings.agent_schema().await.unwrap();
    let fields = agent.sections.iter().flat_map(|section| &section.fields);
    let fields: Vec<_> = fields.collect();
    let key = fields
        .iter()
        .find(|field| field.key == "llm.api_key")
        .unwrap();
    assert!(key.secret && !key.label.is_empty(), "{key:?}");
    assert!(fields.iter().any(|field| !field.choices.is_empty()));
    let conversation = settings.conversation_schema().await.unwrap();
    let mut fields = conversation
        .sections
        .iter()
        .flat_map(|section| &section.fields);
    let most = fields.find(|field| field.key == "max_iterations").unwrap();
    assert_eq!(most.value_type, "integer", "{most:?}");
}

pub(super) async fn secrets_are_stored(stage: &Stage) {
    let secrets = stage.admin.secrets();
    let stored = SetSecret::new("ADMIN_TOKEN", CANARY).description("For tests");
    let info = secrets.put(stored).await.unwrap();
    assert!(secrets.list().await.unwrap().contains(&info));
    let twice = format!("{CANARY}\n-2 \u{e4}\u{1f511}");
    let replaced = secrets.set("ADMIN_TOKEN", twice.clone()).await.unwrap();
    assert_eq!(replaced.description, None);
    let value = secrets.value("ADMIN_TOKEN").await.unwrap();
    assert_eq!(value.expose_secret(), twice);
    let unknown = "11111111-1111-4111-8111-111111111111";
    let error = secrets.of_agent_profile(unknown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for name in ["1A", "a-b", "a b", "\u{e4}"] {
        let error = secrets.set(name, CANARY).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
        let error = secrets.value(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
        let error = secrets.delete(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    for value in ["", " \n", "**********"] {
        let error = secrets.set("ADMIN_TOKEN", value).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(secrets.delete("ADMIN_TOKEN").await.unwrap());
    assert!(!secrets.delete("ADMIN_TOKEN").await.unwrap());
    let error = secrets.value("ADMIN_TOKEN").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Returns a server with one tool, run by the agent server's own Python.
fn echo(server: &LocalServer) -> McpServer {
    let code = "from fastmcp import FastMCP\nm = FastMCP('echo')\n@m.tool\ndef echo(text: str) -> \
                str:\n    return text\nm.run()";
    let python = server.environment().python();
    McpServer::stdio(python.display().to_string())
        .args(["-c", code])
        .env("TOKEN", CANARY)
}

pub(super) async fn mcp_servers_are_stored_and_tested(stage: &Stage, server: &LocalServer) {
    let mcp = stage.admin.mcp();
    let arguments = Map::from_iter([("text".to_owned(), json!("through the test"))]);
    let test = TestServer::new(echo(server))
        .timeout(Duration::from_secs(60))
        .tool_call("echo", arguments);
    let TestedServer::Works {
        tools,
        tool_result,
        oauth_state,
    } = mcp.test(test).await.unwrap()
    else {
        panic!("the test failed")
    };
    assert_eq!((tools, oauth_state), (vec!["echo".to_owned()], None));
    let result = tool_result.unwrap();
    assert_eq!(
        (result.is_error, &*result.text),
        (false, "through the test")
    );
    let broken = mcp
        .test(TestServer::new(McpServer::stdio("/no/such/program")))
        .await
        .unwrap();
    let TestedServer::Fails { error_kind, .. } = broken else {
        panic!("{broken:?}")
    };
    assert_eq!(error_kind, "connection");

    let name = "the echo";
    let added = mcp.add(name, echo(server)).await.unwrap();
    let stored = added.iter().find(|stored| stored.name == name).unwrap();
    assert!(stored.enabled && stored.command.is_some() && stored.url.is_none());
    let error = mcp.add(name, echo(server)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let patch = McpServerPatch::new()
        .enabled(false)
        .description("Echoes.".to_owned())
        .env("MORE", format!("{CANARY}-2"))
        .remove_env("TOKEN");
    let all = mcp.patch(name, patch).await.unwrap();
    let stored = all.iter().find(|stored| stored.name == name).unwrap();
    assert_eq!(
        (stored.enabled, stored.description.as_deref()),
        (false, Some("Echoes."))
    );
    let plain = stage
        .admin
        .settings()
        .get_with(Expose::Plain)
        .await
        .unwrap();
    let env = &plain.agent_settings["mcp_config"][name]["env"];
    assert_eq!(env, &json!({"MORE": format!("{CANARY}-2")}));
    // `None` resets a field to its default.
    let reset = McpServerPatch::new().enabled(None).description(None);
    let all = mcp.patch(name, reset).await.unwrap();
    let stored = all.iter().find(|stored| stored.name == name).unwrap();
    assert_eq!((stored.enabled, &stored.description), (true, &None));
    assert!(mcp.delete(name).await.unwrap());
    assert!(!mcp.delete(name).await.unwrap());

    let patch = || McpServerPatch::new().enabled(true);
    let error = mcp.patch("none", patch()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for error in [
        mcp.add("bad", McpServer::stdio("x").set("future", 1))
            .await
            .unwrap_err(),
        mcp.patch("none", patch().set("future", 1))
            .await
            .unwrap_err(),
        mcp.authorize(TestServer::new(echo(server)))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    for error in [
        mcp.add("a/b", echo(server)).await.unwrap_err(),
        mcp.add("", echo(server)).await.unwrap_err(),
        mcp.add("a", McpServer::stdio("x").env("A", "**********"))
            .await
            .unwrap_err(),
        mcp.delete("..").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

/// An MCP server with OAuth on this machine. Prints its port when it listens.
const OAUTH: &str = "\
import asyncio, socket, sys
from fastmcp import FastMCP
from fastmcp.server.auth.auth import ClientRegistrationOptions
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
import uvicorn
listener = socket.create_server(('127.0.0.1', 0))
port = listener.getsockname()[1]
options = ClientRegistrationOptions(enabled=True)
auth = InMemoryOAuthProvider(base_url=f'http://127.0.0.1:{port}', client_registration_options=options)
m = FastMCP('guarded', auth=auth)
@m.tool
def whoami() -> str:
    return 'me'
print(port, flush=True)
config = uvicorn.Config(m.http_app(), log_level='critical')
asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
";

pub(super) async fn an_mcp_server_is_authorized(stage: &Stage, server: &LocalServer) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut guarded = tokio::process::Command::new(server.environment().python())
        .args(["-c", &format!("{}{OAUTH}", openhands_tests::TIDY)])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stdout = BufReader::new(guarded.stdout.take().unwrap());
    let port = stdout.lines().next_line().await.unwrap().unwrap();
    let url = format!("http://127.0.0.1:{port}/mcp");
    let test = || {
        TestServer::new(McpServer::http(&url).auth(McpAuth::oauth()))
            .timeout(Duration::from_secs(100))
    };
    let mcp = stage.admin.mcp();
    let started = mcp.authorize(test()).await.unwrap();
    let StartedOAuth::Authorize { job_id, url: page } = started else {
        panic!("{started:?}")
    };
    let open = mcp.authorization(&job_id).await.unwrap();
    assert!(!open.has_ended() && open.authorization_url.as_deref() == Some(&page));
    for wrong in [
        "http://example.com/callback?code=a",
        "not a url",
        "http://localhost:x/",
    ] {
        let error = mcp.submit_callback(&job_id, wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    // The part of the user's browser: the page grants access and redirects to the callback.
    let callback = redirect(&page).await;
    let error = mcp
        .submit_callback("none", callback.clone())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    loop {
        let job = mcp.authorization(&job_id).await.unwrap();
        assert!(!job.has_ended(), "{job:?}");
        if job.callback_ready {
            break;
        }
    }
    mcp.submit_callback(&job_id, callback).await.unwrap();
    let ended = mcp
        .authorized(&job_id)
        .interval(Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(ended.status, OAuthStatus::Succeeded, "{ended:?}");
    assert_eq!(ended.tools, ["whoami"]);
    assert!(!format!("{ended:?}").contains("access_token") && ended.error.is_none());

    // With the tokens nobody has to grant access again.
    let auth = McpAuth::oauth().state(ended.state.unwrap());
    let stored = McpServer::http(&url).auth(auth);
    mcp.add("guarded", stored.clone()).await.unwrap();
    let again = TestServer::new(stored).timeout(Duration::from_secs(60));
    let again = mcp.test(again).await.unwrap();
    assert!(matches!(again, TestedServer::Works { .. }), "{again:?}");
    assert!(mcp.delete("guarded").await.unwrap());
    let error = mcp.authorization("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    guarded.kill().await.unwrap();
}

/// Requests a page, and returns the address that it redirects to.
async fn redirect(page: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let page: url::Url = page.parse().unwrap();
    let address = (page.host_str().unwrap(), page.port().unwrap());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let target = &page[url::Position::BeforePath..];
    let request = format!(
        "GET {target} HTTP/1.0\r\nHost: {}:{}\r\n\r\n",
        address.0, address.1
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.to_owned())
    });
    location.unwrap_or_else(|| panic!("no redirect: {answer}"))
}
