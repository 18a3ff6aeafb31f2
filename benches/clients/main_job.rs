//! Measures the main job, from the start of the process to its end: starting the server, a command,
//! a conversation whose Stop hook sends the agent back to work once, a title, stopping the server.
//!
//! Ours is `examples/local_agent_server.rs`. The peer is the same program on the Python SDK. The
//! floor only starts the server, sends the requests and reads the socket, so its time is the
//! server's own. With a template, the server is forked.

use std::{
    env, fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use openhands::{
    prelude::*,
    process::{Environment, TemplateServer},
    protocol::config::Llm,
    testkit::{Script, ScriptedModel, Step},
};
use openhands_benches::{Http, Outcome, python, row, skipped, upgraded, us, wanted};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

const WORK: &str = "main job";
const HOOK: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/hooks/pycompile_check.sh"
);
const TASK: &str = "Create test_broken.py with a function that has a syntax error on purpose. \
    Then finish. If the file does not compile, correct it and finish again.";

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let rounds = if smoke { 1 } else { 4 };
    for round in 0..rounds {
        let subjects = [
            ("server's own", Some(us("main-job-floor")?)),
            ("ours", env::var_os("OPENHANDS_MAIN_JOB").map(Command::new)),
            ("Python SDK", python("main_job")),
        ];
        for (name, command) in subjects {
            if !wanted(name) {
                continue;
            }
            let Some(command) = command else {
                if round == 0 {
                    skipped(WORK, name, "not provisioned");
                }
                continue;
            };
            row(WORK, name, take(command).await?, "s");
        }
    }
    in_this_process(rounds).await
}

/// Measures the same job with an existing template, from the server's start to its end.
async fn in_this_process(rounds: usize) -> Outcome {
    const WORK: &str = "main job, template ready";
    if !wanted("ours") {
        return Ok(());
    }
    let python = env::var_os("OPENHANDS_PYTHON").ok_or("no OPENHANDS_PYTHON")?;
    let environment = Environment::at(python).await?;
    let template = TemplateServer::builder().environment(environment);
    let template = template.start().await?;
    for _ in 0..rounds {
        let model = model().await?;
        let begun = Instant::now();
        job(&template, &model).await?;
        row(WORK, "ours", begun.elapsed().as_secs_f64(), "s");
        row(WORK, "promised", 3.0, "s");
        model.verify()?;
    }
    Ok(())
}

async fn job(template: &TemplateServer, model: &ScriptedModel) -> Outcome {
    let server = LocalServer::builder().template(template).start().await?;
    let workspace = server.workspace(server.workspace_dir());
    workspace.execute("pwd").await?;
    let llm = |name: &str| Llm::new(name).base_url(model.base_url()).api_key("none");
    let agent = Agent::default_preset(llm(ScriptedModel::MODEL)).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .hooks(HookConfig::new().stop(Hook::command(HOOK).timeout(Duration::from_secs(60))))
        .on_event(|_| {})
        .start()
        .await?;
    conversation.send(TASK).await?;
    let outcome = conversation.run().await?;
    if !outcome.is_finished() {
        return Err(format!("the agent did not finish: {outcome}").into());
    }
    let title = conversation.title().generate();
    let title = title.llm(llm("openai/scripted-title")).await?;
    conversation.title().set(&title).await?;
    let check = workspace
        .execute("python3 -m py_compile test_broken.py")
        .await?;
    if !check.success() {
        return Err(format!("it does not compile: {}", check.stderr()).into());
    }
    conversation.close().await?;
    conversation.delete().await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs a program to its end, with a model that plays the job.
async fn take(mut command: Command) -> Outcome<f64> {
    let model = model().await?;
    let log = tempfile::NamedTempFile::new()?;
    command
        .env("LLM_API_KEY", "none")
        .env("LLM_MODEL", "openai/scripted")
        .env("LLM_TITLE_MODEL", "openai/scripted-title")
        .env("LLM_BASE_URL", model.base_url())
        .env("OPENHANDS_HOOK", HOOK)
        .stdin(Stdio::null())
        .stdout(log.reopen()?)
        .stderr(log.reopen()?)
        .kill_on_drop(true);
    let begun = Instant::now();
    let status = command.status().await?;
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        let log = fs::read_to_string(log.path())?;
        return Err(format!("{:?}: {status}\n{log}", command.as_std().get_program()).into());
    }
    model.verify()?;
    Ok(seconds)
}

async fn model() -> Outcome<ScriptedModel> {
    let write = "cat > test_broken.py <<'EOF'\ndef greet(name:\n    return 'Hello ' + name\nEOF";
    let mend = "sed -i 's/greet(name:/greet(name):/' test_broken.py";
    let script = Script::new()
        .step(Step::call("terminal", json!({"command": write})))
        .finish("The file is written.")
        .step(Step::call("terminal", json!({"command": mend})).expect("test_broken.py"))
        .finish("The file compiles now.");
    let titles = Script::new().forever(|script| script.text("Write and mend a Python file"));
    let model = ScriptedModel::builder().script(script);
    Ok(model.model("scripted-title", titles).start().await?)
}

/// Timeout of the server for the whole job.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the floor, which takes little more than the server's own time.
pub(crate) async fn floor() -> Outcome {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    let work = root.join("work");
    fs::create_dir(&work)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let port = listener.local_addr()?.port().to_string();
    drop(listener);
    let python = env::var_os("OPENHANDS_PYTHON").ok_or("no OPENHANDS_PYTHON")?;
    let mut server = Command::new(python)
        .args(["-m", "openhands.agent_server", "--host", "127.0.0.1"])
        .args(["--port", &port])
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| name == "PATH"))
        // Not the user's home: a shell that starts slowly loses the agent's first command.
        .env("HOME", root)
        .env("OH_SESSION_API_KEYS_0", "key")
        .env("OH_SECRET_KEY", "a-key-of-more-than-sixteen-characters")
        .env("OH_CONVERSATIONS_PATH", root.join("conversations"))
        .env("OH_BASH_EVENTS_DIR", root.join("bash"))
        .env("OH_PERSISTENCE_DIR", root.join("persistence"))
        .env("OH_WORKSPACE_PATH", &work)
        .envs([("TZ", "UTC"), ("OH_ENABLE_VSCODE", "false")])
        .envs([
            ("OH_PRELOAD_TOOLS", "false"),
            ("OPENHANDS_SUPPRESS_BANNER", "1"),
        ])
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("TMUX_TMPDIR", root)
        .env("TMPDIR", root)
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let done = timeout(LIMIT, requests(&mut server, &address, &work)).await;
    // The server stops its agent's terminals, even after a failure.
    let pid = server.id().ok_or("the server has ended")?;
    let pid = rustix::process::Pid::from_raw(pid.try_into()?).ok_or("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    server.wait().await?;
    done.unwrap_or_else(|_| Err(format!("the job is not done within {LIMIT:?}").into()))
}

/// Sends the requests of the job and reads the frames of its run.
async fn requests(server: &mut Child, address: &str, work: &Path) -> Outcome {
    let http = Http::new(address, Some("X-Session-API-Key: key"));
    while http.call("GET", "/ready", None).await.is_err() {
        if server.try_wait()?.is_some() {
            return Err("the server did not start".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    let bash = "/api/bash/execute_bash_command";
    let run = |command: &str| json!({"command": command, "cwd": work});
    http.call("POST", bash, Some(&run("pwd"))).await?;
    let llm = |name: &str| {
        json!({
            "model": env::var(name).unwrap_or_default(), "api_key": "none", "num_retries": 1,
            "base_url": env::var("LLM_BASE_URL").unwrap_or_default(),
        })
    };
    let tools = ["terminal", "file_editor", "task_tracker"].map(|name| json!({"name": name}));
    let hook = json!({"type": "command", "command": HOOK, "timeout": 60});
    let start = json!({
        "workspace": {"working_dir": work},
        "agent": {"kind": "Agent", "llm": llm("LLM_MODEL"), "tools": tools,
            "system_prompt_kwargs": {"cli_mode": true}},
        "hook_config": {"stop": [{"hooks": [hook]}]},
        // An automatic title would consume the scripted model's first answer.
        "autotitle": false,
    });
    let created = http
        .call("POST", "/api/conversations", Some(&start))
        .await?;
    let id = created["id"]
        .as_str()
        .ok_or("a conversation without an id")?;
    let path = format!("/api/conversations/{id}");
    let target = format!("/sockets/session/{id}?after_seq=-1");
    let mut socket = upgraded(address, &target, Some("key")).await?;
    let message = json!({"content": [{"type": "text", "text": TASK}]});
    http.call("POST", &format!("{path}/events"), Some(&message))
        .await?;
    http.call("POST", &format!("{path}/run"), None).await?;
    let status = |status: &str| format!("\"execution_status\":\"{status}\"");
    let (finished, failed) = (status("finished"), status("error"));
    loop {
        let frame = std::str::from_utf8(socket.next().await?)?;
        if !frame.starts_with("{\"type\":\"transient\"") {
            continue;
        }
        if frame.contains(&failed) {
            return Err("the agent failed".into());
        }
        if frame.contains(&finished) {
            break;
        }
    }
    // The model is asked for the title directly, without the server.
    let base = env::var("LLM_BASE_URL")?;
    let (host, prefix) = base
        .trim_start_matches("http://")
        .split_once('/')
        .unwrap_or((&base, ""));
    let question = json!({
        "model": "scripted-title",
        "messages": [{"role": "user", "content": format!("A title for: {TASK}")}],
    });
    let completions = format!("/{prefix}/chat/completions");
    let answer = Http::new(host, None)
        .call("POST", &completions, Some(&question))
        .await?;
    let title = json!({"title": answer["choices"][0]["message"]["content"]});
    http.call("PATCH", &path, Some(&title)).await?;
    let check = run("python3 -m py_compile test_broken.py");
    let check = http.call("POST", bash, Some(&check)).await?;
    if check["exit_code"] != 0 {
        return Err(format!("it does not compile: {check}").into());
    }
    drop(socket);
    http.call("DELETE", &path, None).await?;
    Ok(())
}
