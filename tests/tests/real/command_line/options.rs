//! The options of a run: files of settings, hooks, skills, tools, profiles and rules.

use std::{fs, path::Path, process::Command};

use openhands::{
    LocalServer, WorkspaceExt as _,
    admin::Admin,
    protocol::config::Llm,
    testkit::{Script, ScriptedModel},
};
use serde_json::{Value, json};

use super::{Running, oh, on};

const TOOL: &str = "\
from collections.abc import Sequence
from openhands.sdk.tool import Action, Observation, ToolDefinition, ToolExecutor, register_tool

class GreetAction(Action):
    name_of: str

class GreetObservation(Observation):
    pass

class GreetExecutor(ToolExecutor):
    def __call__(self, action, conversation=None):
        return GreetObservation.from_text(f'greetings to {action.name_of}')

class GreetTool(ToolDefinition[GreetAction, GreetObservation]):
    @classmethod
    def create(cls, conv_state=None, **params) -> Sequence[ToolDefinition]:
        return [cls(description='Greets.', action_type=GreetAction,
                    observation_type=GreetObservation, executor=GreetExecutor())]

register_tool('GreetTool', GreetTool)
";

async fn model(script: Script) -> ScriptedModel {
    let builder = ScriptedModel::builder().script(script);
    builder.start().await.unwrap()
}

fn end(command: &mut Command) -> (i32, Value, String) {
    Running::start(command).end()
}

fn written(place: &Path, name: &str, text: &str) -> String {
    let path = place.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_skills_and_a_stored_model_are_used() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new()
        .finish("Too early.")
        .call("terminal", json!({"command": "touch ready"}))
        .finish("Done.");
    let model = model(script).await;
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("canary-of-the-profile");
    let profiles = Admin::of(server.client()).profiles();
    profiles.save("scripted", llm).await.unwrap();
    let hooks = json!({"hooks": {"stop": [{"hooks": [
        {"command": "test -e ready || { echo 'ready is missing' >&2; exit 2; }"},
    ]}]}});
    let hooks = written(home.path(), "hooks.json", &hooks.to_string());
    let skill = "---\nname: colours\ndescription: Names colours.\n---\nThe colour is mauve.\n";
    let skill = written(home.path(), "colours.md", skill);

    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Work.")
        .env_remove("LLM_MODEL")
        .env_remove("LLM_API_KEY")
        .args(["--profile", "scripted", "--hook", &hooks, "--skill", &skill]);
    let files = home.path().join("files");
    let (code, last, errors) = end(command.arg("--output-dir").arg(&files));
    assert_eq!((code, &last["answer"]), (0, &"Done.".into()), "{errors}");
    let requests = model.requests();
    assert!(
        requests[0].contains("The colour is mauve."),
        "{:?}",
        requests[0].body()
    );
    assert!(requests[1].contains("ready is missing"));
    let page = fs::read_to_string(files.join("trajectory.html")).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("Too early."),
        "{page}"
    );

    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Work.").args(["--profile", "unknown"]);
    let (code, _, errors) = end(&mut command);
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("unknown"), "{errors}");
    for option in ["--hook", "--mcp", "--skill"] {
        let mut command = oh(home.path(), &model);
        on(&mut command, &server, "Work.").args([option, "/nowhere"]);
        let (code, _, errors) = end(&mut command);
        assert!(code == 3 && errors.contains("/nowhere"), "{code} {errors}");
    }
    server.shutdown(super::LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_approves_only_matching_actions() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new()
        .call("terminal", json!({"command": "touch one"}))
        .call("terminal", json!({"command": "touch two; touch three"}))
        .finish("Done.");
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Touch.");
    command.args(["--confirm", "always", "--approve", "terminal:touch *"]);
    let mut running = Running::start(&mut command);
    let approved = running.line("approved_by_rule");
    assert_eq!(approved["actions"].as_array().unwrap().len(), 1);
    let asked = running.line("approval_requested");
    assert_eq!(
        asked["actions"][0]["event"]["action"]["command"],
        "touch two; touch three"
    );
    running.close_input();
    let (code, _, errors) = running.end();
    assert_eq!(code, 9, "{errors}");
    let listed = server.execute("ls").await.unwrap();
    assert_eq!(listed.stdout().trim(), "one");
    server.shutdown(super::LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_user_and_project_count() {
    let home = openhands_tests::home();
    let work = home.path().join("work");
    written(
        &work,
        "oh.toml",
        "confirm = \"always\"\nmax-iterations = 3\n",
    );
    let user = "timeout = 100\nmodel = \"openai/of-the-file\"\n";
    let user = written(home.path(), "config/oh/config.toml", user);
    let model = model(Script::new()).await;
    let doctor = |timeout: Option<&str>| {
        let mut command = oh(home.path(), &model);
        command
            .arg("doctor")
            .current_dir(&work)
            .env_remove("LLM_MODEL");
        if let Some(timeout) = timeout {
            command.env("OH_TIMEOUT", timeout);
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, shown, errors) = doctor(Some("7"));
    assert_eq!(code, Some(0), "{errors}");
    let project = work.join("oh.toml");
    for line in [
        "  timeout: 7 (OH_TIMEOUT)".to_owned(),
        format!("  max-iterations: 3 ({})", project.display()),
        format!("  model: \"openai/of-the-file\" ({user})"),
        "  LLM_API_KEY: set".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    assert!(!shown.contains("canary"), "{shown}");
    let (code, _, errors) = doctor(Some("soon"));
    assert!(code == Some(3) && errors.contains("OH_TIMEOUT"), "{errors}");

    let run = || {
        end(oh(home.path(), &model)
            .args(["run", "Work."])
            .current_dir(&work))
    };
    fs::write(&project, "base-url = \"http://127.0.0.1:1\"\n").unwrap();
    let (code, _, errors) = run();
    assert!(code == 3 && errors.contains("base-url"), "{errors}");
    fs::write(&project, "max-cost = 1\nmax-cost = 2\n").unwrap();
    let (code, _, errors) = run();
    assert!(code == 3 && errors.contains("oh.toml:2:1"), "{errors}");
    assert!(model.requests().is_empty());
}

// With a private server, which can load the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_of_the_user_is_loaded_by_a_private_server() {
    let home = openhands_tests::home();
    let script = Script::new()
        .call("greet", json!({"name_of": "everyone"}))
        .finish("Done.");
    let model = model(script).await;
    let file = written(home.path(), "tools/greet_tool.py", TOOL);
    let mut command = oh(home.path(), &model);
    command
        .args(["run", "Greet.", "--json", "--private", "--tool"])
        .arg(format!("GreetTool={file}"))
        .current_dir(home.path().join("tools"));
    let (code, last, errors) = end(&mut command);
    assert_eq!((code, &last["answer"]), (0, &"Done.".into()), "{errors}");
    assert!(model.requests()[1].contains("greetings to everyone"));

    let server: LocalServer = openhands_tests::server(&home).start().await.unwrap();
    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Greet.")
        .arg("--tool")
        .arg(format!("GreetTool={file}"));
    let (code, _, errors) = end(&mut command);
    assert!(code == 2 && errors.contains("--private"), "{errors}");
    server.shutdown(super::LONG).await.unwrap();
}
