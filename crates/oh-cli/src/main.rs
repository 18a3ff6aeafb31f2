//! The `oh` command: diagnoses, provisions and runs a local OpenHands agent server.

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use openhands::process::{Environment, LocalServer, Provisioner, SERVER_VERSION};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Tools for an OpenHands agent server.
#[derive(Parser)]
#[command(name = "oh", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the Pythons and environments found; fail with advice if none can be used.
    Doctor,
    /// Create the server's environment, or check the existing one.
    Provision {
        /// The server's version, such as 1.57.0 (default: the version this program was built for).
        #[arg(long, value_name = "VERSION")]
        server_version: Option<String>,
        /// Install the newest compatible packages instead of the versions tested with the server.
        #[arg(long)]
        unpinned: bool,
    },
    /// Run a private server until Ctrl-C; prints its URL and session key to stdout.
    Serve,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Doctor => doctor().await,
        Verb::Provision {
            server_version,
            unpinned,
        } => provision(server_version, unpinned).await,
        Verb::Serve => serve().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "oh: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn doctor() -> Outcome {
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
        true => Ok(()),
        false => Err(problems.join("\n").into()),
    }
}

async fn provision(version: Option<String>, unpinned: bool) -> Outcome {
    let mut provisioner = Provisioner::new().pinned(!unpinned).on_progress(|step| {
        // A closed terminal must not stop the installation.
        let _ = writeln!(std::io::stderr(), "{step}");
    });
    if let Some(version) = version {
        provisioner = provisioner.version(version);
    }
    let environment = provisioner.provision().await?;
    writeln!(std::io::stdout(), "{}", environment.python().display())?;
    Ok(())
}

async fn serve() -> Outcome {
    use secrecy::ExposeSecret;

    let server = LocalServer::builder()
        .on_progress(|step| _ = writeln!(std::io::stderr(), "{step}"))
        .start()
        .await?;
    // The key is meant for the user of this command, so it is printed.
    let key = server.session_api_key().expose_secret();
    writeln!(std::io::stdout(), "{}\n{key}", server.url())?;
    tokio::signal::ctrl_c().await?;
    let ended = server.shutdown(std::time::Duration::from_secs(10)).await?;
    writeln!(std::io::stderr(), "{ended}")?;
    Ok(())
}
