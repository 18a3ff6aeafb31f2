//! `oh hooks check`.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use openhands::hooks::{LintKind, lint_with, load};
use serde::Serialize;

use crate::{
    exit::{Exit, Outcome},
    records::clean,
};

#[derive(Args)]
pub(crate) struct Check {
    /// The file. Default: .openhands/hooks.json in the current directory.
    pub(super) file: Option<PathBuf>,
    /// The name of a tool that an MCP server or a client provides. Can be repeated.
    #[arg(long, value_name = "NAME")]
    tool: Vec<String>,
    /// Print each finding as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// A line of `oh hooks check --json`.
#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    place: String,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
}

/// `oh hooks check`.
pub(super) fn check(path: &Path, options: &Check) -> Outcome {
    let config = load(path).map_err(|error| Exit::Configuration.because(error.to_string()))?;
    let findings: Vec<_> = lint_with(&config, &options.tool)
        .into_iter()
        .map(|lint| Finding {
            severity: severity(lint.kind),
            place: lint.place,
            message: lint.message,
        })
        .collect();
    let mut out = io::stdout().lock();
    for finding in &findings {
        if options.json {
            let line = serde_json::to_string(finding)
                .map_err(|error| Exit::Internal.because(error.to_string()))?;
            writeln!(out, "{line}")?;
            continue;
        }
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (place, message) = (clean(&finding.place), clean(&finding.message));
        writeln!(out, "{severity}: {place}: {message}")?;
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    let shown = path.display();
    match errors {
        0 => {
            if !options.json {
                writeln!(out, "{shown}: {} hooks, no errors", config.iter().count())?;
            }
            Ok(Exit::Finished)
        }
        _ => Err(Exit::Configuration.because(format!("{shown}: {errors} errors"))),
    }
}

/// Returns whether a finding is certain. A pattern for a tool that an MCP server provides is fine,
/// and a pattern that only the server can evaluate may be.
fn severity(kind: LintKind) -> Severity {
    match kind {
        LintKind::UnknownTool | LintKind::ObscurePattern => Severity::Warning,
        _ => Severity::Error,
    }
}
