//! Tries all capabilities on a server of a version, and prints a JSON object for each.
//! `cargo xtask matrix` runs this program.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use openhands_tests::conformance::{Outcome, Stage, try_all};
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(version) = env::args().nth(1) else {
        let _ = writeln!(io::stderr(), "usage: conformance VERSION");
        return ExitCode::from(2);
    };
    let stage = match Stage::start(&version).await {
        Ok(stage) => stage,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot start {version}: {error}");
            return ExitCode::FAILURE;
        }
    };
    try_all(&stage, |capability, outcome| {
        let (result, reason) = match outcome {
            Outcome::Works => ("works", None),
            Outcome::NotOffered(reason) => ("not offered", Some(reason)),
            Outcome::Failed(reason) => ("fails", Some(reason)),
            _ => ("unknown", None),
        };
        let line = json!({"capability": capability, "result": result, "reason": reason});
        let _ = writeln!(io::stdout(), "{line}");
    })
    .await;
    ExitCode::SUCCESS
}
