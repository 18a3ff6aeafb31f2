//! A hook that records its input and allows everything.

use std::{fs::OpenOptions, io::Write as _, process::ExitCode};

use openhands::hooks::author::{Environment, Verdict, run};
use serde_json::json;

fn main() -> ExitCode {
    run(|event| {
        let reported = Environment::read();
        let directory = reported.project_dir.ok_or("not started as a hook")?;
        let line = json!({
            "environment": [reported.event_type, reported.session_id, reported.tool_name],
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
