//! `oh doctor`.

use std::io::Write as _;

use openhands::process::{Environment, Provisioner, SERVER_VERSION};

use crate::exit::{Exit, Outcome};

/// Lists what was found, and fails with advice if no server can be started.
pub(crate) async fn doctor() -> Outcome {
    let provisioner = Provisioner::new();
    let mut out = std::io::stdout();
    writeln!(out, "packages: {}", provisioner.packages().join(", "))?;
    writeln!(out, "interpreters:")?;
    let candidates = provisioner.candidates().await;
    for candidate in &candidates {
        writeln!(out, "  {candidate}")?;
    }
    let uv = provisioner.uv()?;
    let shown = uv
        .as_ref()
        .map_or("not found".into(), |uv| uv.to_string_lossy());
    writeln!(out, "uv: {shown}")?;
    writeln!(out, "environments:")?;
    let (mut ready, mut problems) = (false, Vec::new());
    for path in provisioner.cached()? {
        match Environment::at(&path).await {
            Ok(environment) => {
                let (server, python) = (environment.server_version(), environment.python_version());
                writeln!(
                    out,
                    "  {}: server {server}, Python {python}",
                    path.display()
                )?;
                ready |= server == SERVER_VERSION;
            }
            Err(error) => {
                writeln!(out, "  {}: {error}", path.display())?;
                problems.push(format!("an environment cannot be used: {error}"));
            }
        }
    }
    let fit = candidates
        .iter()
        .any(|candidate| candidate.rejected.is_none());
    if !(ready || fit || uv.is_some()) {
        problems.push(
            "no Python 3.12 or newer with venv and no uv were found: run `oh provision`, which \
             downloads uv and Python into the cache (unless OPENHANDS_OFFLINE is set), or install \
             one of them"
                .to_owned(),
        );
    }
    match problems.is_empty() {
        true => Ok(Exit::Finished),
        false => Err(Exit::Configuration.because(problems.join("\n"))),
    }
}
