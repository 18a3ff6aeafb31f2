//! A hook that records its input and allows everything.

use std::{fs::OpenOptions, io::Write as _, process::ExitCode};

use openhands::hooks::author::{Environment, Verdict, run};
use serde_json::json;

fn main() -> ExitCode {
    run(|event| {
        let told = Environment::read();
        let directory = told.project_dir.ok_or("not started as a hook")?;
        let line = json!({
            "environment": [told.event_type, told.session_id, told.tool_name],
            "event": event,
            "action": event.action().map(|action| action.kind().to_owned()),
            "command": event.command(),
            "answer": event.observation().map(|seen| seen.text()),
            "reason": event.reason(),
        });
        let path = directory.join("probe.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.map_err(|error| error.to_string())?;
        writeln!(file, "{line}").map_err(|error| error.to_string())?;
        Ok::<_, String>(Verdict::allow())
    })
}
