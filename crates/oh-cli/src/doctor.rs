//! `oh doctor`.

use std::{
    env,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use clap::Args;
use openhands::{
    LocalServer, WorkspaceExt as _,
    admin::Admin,
    process::{Environment, Provisioner, SERVER_VERSION},
    protocol::calls::profiles::Validation,
    sandbox::Engine,
};

use crate::{
    config::{Config, Settings, user_file},
    exit::{Exit, Failure, Outcome},
    records::clean,
    run,
    server::Server,
};

/// A shell that needs longer to start makes the first command of an agent unreliable.
const SLOW_SHELL: Duration = Duration::from_millis(500);
/// Time in which an engine must answer.
const ENGINE_LIMIT: Duration = Duration::from_secs(5);
/// The longest time that is measured.
const SHELL_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    /// Start a private server, run a command on it, and send one short request to the model, which
    /// its provider may bill.
    #[arg(long)]
    full: bool,
}

/// Lists what was found, and fails with advice if no server can be started.
pub(crate) async fn doctor(options: &Options) -> Outcome {
    let mut out = io::stdout();
    let mut problems = Vec::new();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "oh {version}, made for server {SERVER_VERSION}")?;
    settings(&mut out, &mut problems)?;
    environments(&mut out, &mut problems).await?;
    let background = match Server::background().await {
        Ok(Some(server)) => format!(
            "server {} at {}",
            server.version(),
            server.client().base_url()
        ),
        Ok(None) => "none; `oh up` starts one".to_owned(),
        Err(error) => {
            problems.push(format!(
                "the background server does not work: {error}; try `oh down`"
            ));
            "does not work".to_owned()
        }
    };
    writeln!(out, "background server: {background}")?;
    let engine = match Engine::connect().within(ENGINE_LIMIT).await {
        Ok(engine) => format!("{} at {}", engine.platform(), engine.address()),
        // Only containers need one.
        Err(error) => clean(&format!("none: {error}")),
    };
    writeln!(out, "container engine: {engine}")?;
    // Without a usable environment, there is nothing to start.
    if options.full && problems.is_empty() {
        full(&mut out, &mut problems).await?;
    }
    match problems.is_empty() {
        true => Ok(Exit::Finished),
        false => Err(Exit::Configuration.because(problems.join("\n"))),
    }
}

/// Shows which settings count here, and where they come from.
fn settings(out: &mut impl Write, problems: &mut Vec<String>) -> Result<(), Failure> {
    writeln!(out, "settings:")?;
    let directory = env::current_dir().ok();
    let config = match Config::load(Settings::default(), directory.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            problems.push(error.to_string());
            return Ok(());
        }
    };
    match config.all() {
        Ok(all) => {
            for (name, value, source) in all {
                writeln!(out, "  {name}: {} ({source})", clean(&value))?;
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    let key = env::var_os("LLM_API_KEY").is_some_and(|key| !key.is_empty());
    let key = match key {
        true => "set",
        false => "not set",
    };
    writeln!(out, "  LLM_API_KEY: {key}")?;
    let file = user_file().map_or("none".to_owned(), |path| path.display().to_string());
    writeln!(out, "  your file: {file}")?;
    Ok(())
}

async fn environments(out: &mut impl Write, problems: &mut Vec<String>) -> Result<(), Failure> {
    let provisioner = Provisioner::new();
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
    let mut ready = false;
    for path in provisioner.cached()? {
        ready |= environment(out, problems, &path).await?;
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
    Ok(())
}

/// Shows an environment. Returns whether it has the server's current version.
async fn environment(
    out: &mut impl Write,
    problems: &mut Vec<String>,
    path: &Path,
) -> Result<bool, Failure> {
    let shown = path.display();
    match Environment::at(path).await {
        Ok(environment) => {
            let (server, python) = (environment.server_version(), environment.python_version());
            writeln!(out, "  {shown}: server {server}, Python {python}")?;
            Ok(server == SERVER_VERSION)
        }
        Err(error) => {
            writeln!(out, "  {shown}: {error}")?;
            problems.push(format!("an environment cannot be used: {error}"));
            Ok(false)
        }
    }
}

/// Starts a server, and tries the model.
async fn full(out: &mut impl Write, problems: &mut Vec<String>) -> Result<(), Failure> {
    let begun = Instant::now();
    let server = LocalServer::builder().start().await?;
    writeln!(
        out,
        "server: {} ready after {:.1} s",
        server.info().version,
        begun.elapsed().as_secs_f64()
    )?;
    let command = server.execute("echo works").await?;
    writeln!(out, "command: {}", clean(command.stdout().trim()))?;
    shell(&server, out, problems).await?;
    match run::model_here() {
        Err(error) => writeln!(out, "model: not tried: {error}")?,
        Ok(llm) => {
            let name = llm.model().to_owned();
            let tried = Admin::of(server.client())
                .profiles()
                .validate("doctor", llm)
                .await;
            match tried {
                Ok(Validation::Valid) => writeln!(out, "model: {name} works")?,
                Ok(Validation::Invalid { kind, message }) => {
                    let why = clean(&message);
                    problems.push(format!("the model {name} cannot be used: {kind}: {why}"));
                }
                Ok(_) => problems.push(format!("the server has not tried the model {name}")),
                Err(error) => problems.push(format!("the model {name} cannot be tried: {error}")),
            }
        }
    }
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Measures how long a shell takes to start with the start-up files of this user. Shells of
/// `oh run` have a home without such files.
async fn shell(
    server: &LocalServer,
    out: &mut impl Write,
    problems: &mut Vec<String>,
) -> Result<(), Failure> {
    let Some(home) = env::var("HOME").ok().filter(|home| !home.is_empty()) else {
        return Ok(());
    };
    let begun = Instant::now();
    let shell = server.execute("bash -ic exit </dev/null >/dev/null 2>&1");
    let shell = shell.env("HOME", home).timeout(SHELL_LIMIT).await?;
    let time = begun.elapsed();
    let (more, seconds) = match shell.exit_code() {
        Some(_) => ("", time.as_secs_f64()),
        None => ("more than ", SHELL_LIMIT.as_secs_f64()),
    };
    writeln!(out, "shell: starts in {more}{seconds:.2} s")?;
    if time > SLOW_SHELL {
        problems.push(format!(
            "your shell needs {more}{seconds:.2} s to start, so programs that inherit your home \
             can miss the first command of a terminal: shorten its start-up files"
        ));
    }
    Ok(())
}
