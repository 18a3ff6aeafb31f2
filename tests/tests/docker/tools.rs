//! Tools of the user in a container: mounted, and in an image that is built for them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use openhands::{
    prelude::*,
    protocol::config::ToolSpec,
    sandbox::{Engine, ErrorKind, Volume},
    testkit::{Script, ScriptedModel, Step},
};
use openhands_tests::containers::{builder, containers, docker, image};
use serde_json::json;

use super::images::stand_in_image;

/// A module that registers a tool.
const GREETING: &str = r#"
from openhands.sdk import TextContent
from openhands.sdk.tool import Action, Observation, ToolDefinition, ToolExecutor, register_tool

class GreetAction(Action):
    name: str

class GreetObservation(Observation):
    pass

class GreetExecutor(ToolExecutor):
    def __call__(self, action, conversation=None):
        return GreetObservation(content=[TextContent(text=f"Hello, {action.name}!")])

class GreetTool(ToolDefinition[GreetAction, GreetObservation]):
    @classmethod
    def create(cls, conv_state=None, **params):
        return [cls(action_type=GreetAction, observation_type=GreetObservation,
                    description="Greets.", executor=GreetExecutor())]

register_tool("GreetTool", GreetTool)
"#;

/// Creates a directory with the module, which the user of the container can read.
fn tools(place: &Path) {
    fs::write(place.join("greeting.py"), GREETING).unwrap();
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Lets an agent call the tool. The second request of the model must contain the greeting.
async fn greets(server: &impl WorkspaceHandle) {
    let script = Script::new()
        .step(Step::call("greet", json!({"name": "Ada"})))
        .step(Step::finish("Done.").expect("Hello, Ada!"));
    let model = ScriptedModel::start(script).await.unwrap();
    let llm = Llm::new("openai/scripted")
        .api_key("none")
        .base_url(model.base_url());
    let agent = Agent::new(llm.num_retries(0)).tool(ToolSpec::new("GreetTool"));
    let conversation = Conversation::builder(server, agent).start().await.unwrap();
    conversation.send("Greet Ada.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    conversation.close().await.unwrap();
}

#[tokio::test]
async fn an_agent_uses_a_tool_that_is_mounted() {
    let place = tempfile::tempdir().unwrap();
    tools(place.path());
    let server = builder("mounted-tool")
        .network("host")
        .volume(Volume::bind(place.path().to_str().unwrap(), "/tools").read_only(true))
        .arg("--extra-python-path=/tools")
        .arg("--import-modules=greeting")
        .start()
        .await
        .unwrap();
    greets(&server).await;
    drop(server);
    assert_eq!(containers("mounted-tool"), [""; 0]);
}

#[tokio::test]
async fn an_agent_uses_a_tool_of_an_image_that_was_built_for_it() {
    let place = tempfile::tempdir().unwrap();
    tools(place.path());
    let dockerfile = format!(
        "FROM {}\nCOPY greeting.py /tools/\nENV OH_EXTRA_PYTHON_PATH=/tools\n",
        image()
    );
    let engine = Engine::connect().await.unwrap();
    let name = format!("oh-test-tools:{}", std::process::id());
    let error = engine.build(place.path(), &*name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    fs::write(
        place.path().join("Dockerfile"),
        format!("{dockerfile}RUN echo why; false\n"),
    )
    .unwrap();
    let error = engine.build(place.path(), &*name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
    assert!(
        error.log_tail().contains(&"why".to_owned()),
        "{:?}",
        error.log_tail()
    );
    fs::write(place.path().join("Dockerfile"), dockerfile).unwrap();
    engine.build(place.path(), &*name).await.unwrap();
    let server = builder("built-tool")
        .network("host")
        .image(&*name)
        .arg("--import-modules=greeting")
        .remove_image(true)
        .start()
        .await
        .unwrap();
    greets(&server).await;
    server
        .shutdown(std::time::Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(containers("built-tool"), [""; 0]);
    assert_eq!(docker(&["images", "--quiet", &name]), "");
}

/// Long, because all files of the server's image are copied.
#[tokio::test]
async fn soak_an_image_with_the_server_is_built_from_a_base_image() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("base"), "of the base image").unwrap();
    // The base has nothing of the server: not even a shell.
    let base = stand_in_image();
    let dockerfile = format!(
        "FROM {} AS server\nFROM {base}\nCOPY base /base\nCOPY --from=server / /\n\
         ENTRYPOINT [\"tini\", \"--\", \"/opt/agent-server/bin/python\", \"-P\", \"-m\", \
         \"openhands.agent_server\"]\nUSER openhands\n",
        image()
    );
    fs::write(place.path().join("Dockerfile"), dockerfile).unwrap();
    let engine = Engine::connect().await.unwrap();
    let name = format!("oh-test-from-base:{}", std::process::id());
    engine.build(place.path(), &*name).await.unwrap();
    let server = builder("from-base").image(&*name).remove_image(true);
    let server = server.start().await.unwrap();
    let read = server.execute("cat /base; test -x /server").await.unwrap();
    assert!(read.success(), "{read:?}");
    assert_eq!(read.stdout(), "of the base image");
    let grace = std::time::Duration::from_secs(10);
    server.shutdown(grace).await.unwrap();
    assert_eq!(containers("from-base"), [""; 0]);
    assert_eq!(docker(&["images", "--quiet", &name]), "");
}
