//! The `oh` command: runs agents, and diagnoses, provisions and runs a local agent server.

mod ask;
mod attach;
mod completions;
mod config;
mod cp;
mod diff;
mod doctor;
mod events;
mod exec;
mod exit;
mod fork;
mod goal;
mod hidden;
mod hooks;
mod login;
mod mcp;
mod near;
mod profiles;
mod provision;
mod records;
mod refresh;
mod rm;
mod run;
mod sandbox;
mod secrets;
mod serve;
#[allow(dead_code, reason = "commands that are being written use the rest")]
mod server;
mod show;
mod signals;
mod site;
mod stored;
mod talk;
#[allow(dead_code, reason = "commands that are being written use the rest")]
mod target;
mod up;

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};

use tokio::runtime::Runtime;

use exit::{Exit, Outcome};

/// Runs coding agents on an OpenHands agent server.
#[derive(Parser)]
#[command(name = "oh", version, after_help = exit::HELP)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Give an agent a task, and show its work until it has finished.
    Run(Box<run::Options>),
    /// Show a run from now on, and talk to its agent.
    Attach(attach::Options),
    /// List the runs on this machine, the newest first.
    Ls(records::List),
    /// Show the events of a run, or its record.
    Show(show::Show),
    /// Write a whole run to stdout: as a page for a browser, as Markdown, or as JSON lines.
    Export(show::Export),
    /// Remove a run: its record, its events and its conversation. The agent's files stay.
    Rm(rm::Remove),
    /// Print the events of a run as JSON lines.
    Events(events::Options),
    /// Print the changes that a run has made to the files of its git repository.
    Diff(diff::Options),
    /// Ask the agent's model about a run. The conversation stays as it is.
    Ask(ask::Options),
    /// Copy a run, and continue the copy with a task.
    Fork(fork::Options),
    /// Let the agent of a run work until an objective is reached.
    Goal(goal::Options),
    /// Run a command on a server, show its output, and return its exit code.
    Exec(exec::Options),
    /// Copy a file to a server or from there.
    Cp(cp::Options),
    /// Start a server in the background, so that runs start at once. It ends when it is idle.
    Up(up::Up),
    /// End the background server. Its conversations are kept.
    Down,
    /// Show whether the background server is running, and what it does.
    Status(up::Status),
    /// Show the settings, the Pythons and the environments; fail with advice if something is wrong.
    Doctor(doctor::Options),
    /// Create the server's environment, or check the existing one.
    Provision(provision::Options),
    /// Run a server until Ctrl-C, or in the background; prints its URL and session key.
    Serve(serve::Serve),
    /// List and change the models that are stored on a server.
    #[command(subcommand)]
    Profiles(profiles::Profiles),
    /// List and change the secrets that are stored on a server.
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// List, change and test the MCP servers that are stored on a server.
    #[command(subcommand)]
    Mcp(mcp::Mcp),
    /// Log a server in to a subscription of ChatGPT, to use it instead of a key.
    Login(login::Login),
    /// Log a server out of its subscription.
    Logout(login::Logout),
    /// List and remove containers with servers.
    #[command(subcommand)]
    Sandbox(sandbox::Sandbox),
    /// Check a file of hooks, or run hooks without a server.
    #[command(subcommand)]
    Hooks(hooks::Hooks),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Print the manual page, or write a page for each command into a directory.
    Man(completions::Pages),
}

/// Time for threads that still read or write a file at the end. A read of stdin may never return.
const THREADS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let exit = match Runtime::new() {
        Ok(runtime) => {
            let outcome = runtime.block_on(outcome(verb));
            runtime.shutdown_timeout(THREADS);
            outcome
        }
        Err(error) => Err(Exit::Internal.because(format!("cannot start threads: {error}"))),
    };
    let exit = exit.unwrap_or_else(|failure| {
        if failure.exit != Exit::ClosedOutput {
            let _ = writeln!(std::io::stderr(), "oh: {}", failure.message);
        }
        failure.exit
    });
    ExitCode::from(exit.code())
}

async fn outcome(verb: Verb) -> Outcome {
    match verb {
        Verb::Run(options) => run::run(*options).await,
        Verb::Attach(options) => attach::attach(options).await,
        Verb::Ls(options) => records::list(&options),
        Verb::Show(options) => show::show(&options),
        Verb::Export(options) => show::export(&options),
        Verb::Rm(options) => rm::remove(&options).await,
        Verb::Events(options) => events::events(options).await,
        Verb::Diff(options) => diff::diff(options).await,
        Verb::Ask(options) => ask::ask(options).await,
        Verb::Fork(options) => fork::fork(options).await,
        Verb::Goal(options) => goal::goal(options).await,
        Verb::Exec(options) => exec::exec(options).await,
        Verb::Cp(options) => cp::cp(options).await,
        Verb::Up(options) => up::up(&options).await,
        Verb::Down => up::down().await,
        Verb::Status(options) => up::status(&options).await,
        Verb::Doctor(options) => doctor::doctor(&options).await,
        Verb::Provision(options) => provision::provision(options).await,
        Verb::Serve(options) => serve::serve(&options).await,
        Verb::Profiles(verb) => profiles::profiles(verb).await,
        Verb::Secrets(verb) => secrets::secrets(verb).await,
        Verb::Mcp(verb) => mcp::mcp(verb).await,
        Verb::Login(options) => login::login(&options).await,
        Verb::Logout(options) => login::logout(&options).await,
        Verb::Sandbox(verb) => sandbox::sandbox(verb).await,
        Verb::Hooks(verb) => hooks::hooks(verb).await,
        Verb::Completions(options) => completions::completions(&options, Arguments::command()),
        Verb::Man(options) => completions::man(&options, Arguments::command()),
    }
}
