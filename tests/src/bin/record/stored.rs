//! Responses of the routes of agents, plugins, skills, rules and places.

use std::{fs, path::Path};

use openhands::protocol::config::AcpAgent;
use serde_json::{Value, json};

use crate::{played::Played, sockets::Outcome};

/// A program that offers the models of an ACP agent.
const AGENT: &str = "\
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    result = {'protocolVersion': 1, 'agentInfo': {'name': 'player', 'version': '3'},
              'agentCapabilities': {}, 'sessionId': 's', 'models': {'currentModelId': 'a',
              'availableModels': [{'modelId': 'a', 'name': 'A', 'description': 'One'}]}}
    if 'id' in call:
        print(json.dumps({'jsonrpc': '2.0', 'id': call['id'], 'result': result}), flush=True)
";

/// Sends a request of each operation. `base` has the server's environment, and gets the files of
/// the requests.
pub(crate) async fn all(played: &mut Played<'_>, base: &Path) -> Outcome {
    let project = &base.join("stored");
    agents(played, base, project).await?;
    plugins(played, project).await?;
    skills(played, project).await?;
    let route = "/api/meta-profiles/{name}";
    let rules = json!({"classifier_model": "m", "classes": [
        {"description": "Easy tasks", "model": "fast"},
        {"description": "Hard tasks", "model": "slow"},
    ]});
    played.send("POST", route, "rules", rules).await?;
    played.send("GET", route, "rules", Value::Null).await?;
    played.get("/api/meta-profiles").await?;
    let activate = "/api/meta-profiles/{name}/activate";
    played.send("POST", activate, "rules", Value::Null).await?;
    played.send("DELETE", route, "rules", Value::Null).await?;

    let place = json!({"workspaces": [{"id": "1", "name": "One", "path": "/srv/one"}]});
    played.send("POST", "/api/workspaces", "", place).await?;
    let parent = json!({"parents": [{"id": "p", "name": "All", "path": "/srv"}]});
    played
        .send("POST", "/api/workspaces/parents", "", parent)
        .await?;
    played.get("/api/workspaces").await?;
    for route in [
        "/api/workspaces?path=/srv/one",
        "/api/workspaces/parents?path=/srv",
    ] {
        played.send("DELETE", route, "", Value::Null).await?;
    }
    Ok(())
}

async fn agents(played: &mut Played<'_>, base: &Path, project: &Path) -> Outcome {
    let route = "/api/agent-profiles/{name}";
    let profile = json!({"llm_profile_ref": "new", "tools": [{"name": "terminal"}]});
    played.send("POST", route, "reviewer", profile).await?;
    let stored = played.send("GET", route, "reviewer", Value::Null).await?;
    played.get("/api/agent-profiles").await?;
    let report = "/api/agent-profiles/{name}/materialize";
    played.send("POST", report, "reviewer", Value::Null).await?;
    let id = stored["profile"]["id"].as_str().unwrap_or_default();
    let activate = "/api/agent-profiles/{profile_id}/activate";
    played.send("POST", activate, id, Value::Null).await?;
    played
        .send("DELETE", route, "reviewer", Value::Null)
        .await?;

    let agents = project.join(".agents/agents");
    fs::create_dir_all(&agents)?;
    let text =
        "---\nname: tester\ndescription: Tests.\ntools: [terminal]\nmodel: fast\n---\nTest.\n";
    fs::write(agents.join("tester.md"), text)?;
    let own = json!({"project_dir": project, "load_user": false, "load_builtin": false});
    played.send("POST", "/api/sub-agents", "", own).await?;

    let python = base.join("python/bin/python");
    let python = python.display().to_string();
    let agent = AcpAgent::new([&*python, "-c", AGENT]).acp_server("custom");
    let models = json!({"agent_settings": agent, "refresh": true});
    played.send("POST", "/api/acp/models", "", models).await?;
    Ok(())
}

async fn plugins(played: &mut Played<'_>, project: &Path) -> Outcome {
    let directory = project.join("plugin");
    fs::create_dir_all(directory.join(".plugin"))?;
    fs::create_dir_all(directory.join("skills/one"))?;
    let manifest = json!({"name": "helper", "version": "1.0.0", "description": "Helps"});
    fs::write(directory.join(".plugin/plugin.json"), manifest.to_string())?;
    let skill = "---\nname: one\ndescription: A skill.\n---\nDo one.\n";
    fs::write(directory.join("skills/one/SKILL.md"), skill)?;
    let source = json!({ "source": directory });
    played
        .send("POST", "/api/plugins/fetch", "", source.clone())
        .await?;
    played
        .send("POST", "/api/plugins/install", "", source.clone())
        .await?;
    played
        .send("POST", "/api/plugins/install", "", source)
        .await?;
    played.get("/api/plugins/installed").await?;
    let route = "/api/plugins/installed/{plugin_name}";
    played.send("GET", route, "helper", Value::Null).await?;
    played
        .send("PATCH", route, "helper", json!({"enabled": true}))
        .await?;
    let refresh = "/api/plugins/installed/{plugin_name}/refresh";
    played.send("POST", refresh, "helper", Value::Null).await?;
    played
        .send("POST", "/api/plugins", "", json!({"load_project": false}))
        .await?;
    played.send("DELETE", route, "helper", Value::Null).await?;
    Ok(())
}

async fn skills(played: &mut Played<'_>, project: &Path) -> Outcome {
    let directory = project.join("polish");
    fs::create_dir_all(&directory)?;
    let skill = "---\nname: polish\ndescription: How to polish.\n---\nRub it.\n";
    fs::write(directory.join("SKILL.md"), skill)?;
    let source = json!({ "source": directory });
    played
        .send("POST", "/api/skills/install", "", source.clone())
        .await?;
    played
        .send("POST", "/api/skills/install", "", source)
        .await?;
    played.get("/api/skills/installed").await?;
    let route = "/api/skills/installed/{skill_name}";
    played.send("GET", route, "polish", Value::Null).await?;
    played
        .send("PATCH", route, "polish", json!({"enabled": true}))
        .await?;
    let refresh = "/api/skills/installed/{skill_name}/refresh";
    played.send("POST", refresh, "polish", Value::Null).await?;
    let user = json!({"load_public": false, "load_user": true, "load_project": false,
        "load_org": false});
    played.send("POST", "/api/skills", "", user).await?;
    played.send("DELETE", route, "polish", Value::Null).await?;
    Ok(())
}
