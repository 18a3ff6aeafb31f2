//! Runs the examples side by side, and prints a line for each: `cargo xtask examples`. Most of them
//! share one server. All servers are forked from one template.

mod service_check;

use std::{
    env, fs,
    io::Read,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use openhands::{
    Client, LocalServer, Workspace, process::TemplateServer, secrecy::ExposeSecret as _,
};
use openhands_examples::Result;
use tokio::runtime::Runtime;

/// Declares the examples: the part that runs, and a text that the output must contain. `shared`
/// runs `example` on the server that the others use too, in a process. `own` runs `example` in this
/// process, with a builder for its servers, and `forks` with the template.
macro_rules! examples {
    ($($kind:ident $module:ident $path:literal $expected:literal)+) => {
        $(
            #[allow(dead_code, unreachable_pub, reason = "only one of its functions is called")]
            #[path = $path]
            mod $module;
        )+

        const EXAMPLES: &[Example] = &[ $(
            Example {
                name: stringify!($module),
                run: examples!(@$kind $module),
                expected: $expected,
            },
        )+ ];
    };
    (@own $module:ident) => {
        Run::Template(|template| {
            let server = LocalServer::builder().template(template);
            Runtime::new()?.block_on($module::example(server))
        })
    };
    (@forks $module:ident) => {
        Run::Template(|template| Runtime::new()?.block_on($module::example(template)))
    };
    // A program that waits for its users: another module uses it.
    (@service $module:ident) => {
        Run::Shared(|workspace| Runtime::new()?.block_on(service_check::check(workspace)))
    };
    (@shared $module:ident) => {
        Run::Shared(|workspace| Runtime::new()?.block_on($module::example(workspace)))
    };
}

// The slow ones are first.
examples! {
    own attach "../../../attach.rs" "kept after the crash: true"
    own cloud "../../../cloud.rs" "length: 10"
    own kubernetes "../../../kubernetes.rs" "The pod works for ada."
    forks warm_pool "../../../warm_pool.rs" "I work for grace."
    own custom_tool "../../../custom_tool.rs" "2 lines, 6 words"
    shared batch "../../../batch.rs" "the budget was used up"
    shared acp_agent "../../../acp_agent.rs" "answer: You said: Goodbye!"
    shared approvals "../../../approvals.rs" r#"kept.txt: "one\ntwo\n""#
    shared bridge "../../../bridge.rs" "2 posts"
    shared ci_bot "../../../ci_bot.rs" "+    return a + b"
    shared client_tool "../../../client_tool.rs" r#"{"customer":"Ada","total":120}"#
    shared delegation "../../../delegation.rs" "reached: true"
    shared fork "../../../fork.rs" "questions in the early fork: 2"
    shared gateway "../../../gateway.rs" "agent: Hello from the agent."
    shared mcp_and_skills "../../../mcp_and_skills.rs" "The stock has 12 of tulip."
    shared providers "../../../providers.rs" "connected: true"
    shared settings_and_secrets "../../../settings_and_secrets.rs" "the build is right"
    shared steering "../../../steering.rs" "at the end: "
    service service "../../../service.rs" "the page shows the conversation"
    shared stored_profile "../../../stored_profile.rs" "example-reviewer is usable: true"
    shared tokens "../../../tokens.rs" "the same text was shown and stored: true"
}

struct Example {
    name: &'static str,
    run: Run,
    expected: &'static str,
}

enum Run {
    Template(fn(&TemplateServer) -> Result),
    Shared(fn(&Workspace) -> Result),
}

/// The number of examples that run at once. They mostly wait for the server.
const AT_ONCE: usize = 3;
/// Variables for the process of one example: its name, and its workspace on the shared server.
const NAME: &str = "EXAMPLE_NAME";
const URL: &str = "EXAMPLE_URL";
const KEY: &str = "EXAMPLE_KEY";
const DIRECTORY: &str = "EXAMPLE_DIRECTORY";
/// The variable with the file that has the output of this process.
const LOG: &str = "EXAMPLES_LOG";

fn main() -> ExitCode {
    // Examples start this program again: as an agent, as an MCP server, as a second program.
    match env::args().nth(1).as_deref() {
        Some("--parrot") => return exit_code(acp_agent::parrot()),
        Some("--stock") => return exit_code(mcp_and_skills::stock()),
        Some("--second") => return exit_code(attach::main()),
        _ => {}
    }
    exit_code(match env::var(NAME) {
        Ok(name) => run_one(&name),
        Err(_) => run_all(&env::args().skip(1).collect::<Vec<_>>()),
    })
}

fn exit_code(outcome: Result) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs an example in this process.
fn run_one(name: &str) -> Result {
    let example = EXAMPLES.iter().find(|example| example.name == name);
    match &example.ok_or("unknown example")?.run {
        Run::Template(_) => Err("runs in the process of the others".into()),
        Run::Shared(run) => {
            let client = Client::builder(&env::var(URL)?).session_api_key(env::var(KEY)?);
            run(&Workspace::new(&client.build()?, env::var(DIRECTORY)?))
        }
    }
}

/// Runs the examples with these names, or all, each in a process.
fn run_all(names: &[String]) -> Result {
    let known = |name: &String| EXAMPLES.iter().any(|example| example.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let names: Vec<_> = EXAMPLES.iter().map(|example| example.name).collect();
        return Err(format!(
            "there is no example {name}; there are: {}",
            names.join(", ")
        )
        .into());
    }
    let chosen: Vec<_> = EXAMPLES
        .iter()
        .filter(|example| names.is_empty() || names.iter().any(|name| name == example.name))
        .collect();
    let runtime = Runtime::new()?;
    let (template, server) = runtime.block_on(async {
        let template = TemplateServer::builder().start().await?;
        let server = LocalServer::builder().template(&template).start().await?;
        Ok::<_, openhands::Error>((template, server))
    })?;
    let waiting = Mutex::new(chosen.iter());
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(chosen.len()) {
            scope.spawn(|| {
                let next = || {
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.next()
                };
                while let Some(example) = next() {
                    let begun = Instant::now();
                    let outcome = match example.run {
                        Run::Template(run) => example.here(|| run(&template)),
                        Run::Shared(_) => example.spawn(&server),
                    };
                    let seconds = begun.elapsed().as_secs_f64();
                    match outcome {
                        Ok(()) => eprintln!("passed  {} ({seconds:.1} s)", example.name),
                        Err(error) => {
                            failed.store(true, Ordering::Relaxed);
                            eprintln!("FAILED  {} ({seconds:.1} s)\n{error}", example.name);
                        }
                    }
                }
            });
        }
    });
    runtime.block_on(server.shutdown(Duration::from_secs(10)))?;
    match failed.into_inner() {
        true => Err("some examples failed".into()),
        false => Ok(()),
    }
}

impl Example {
    /// Runs the example in this process. The error contains the output of all such examples, which
    /// `cargo xtask examples` writes to a file.
    fn here(&self, run: impl FnOnce() -> Result) -> Result<(), String> {
        let outcome = run().map_err(|error| error.to_string());
        let log = env::var(LOG).map_err(|_| "start this with `cargo xtask examples`")?;
        let output = fs::read(&log).map_err(|error| format!("cannot read {log}: {error}"))?;
        let output = String::from_utf8_lossy(&output);
        outcome.map_err(|error| format!("{error}\n{output}"))?;
        self.check(&output)
    }

    /// Checks that the output contains the expected text.
    fn check(&self, output: &str) -> Result<(), String> {
        match output.contains(self.expected) {
            true => Ok(()),
            false => Err(format!("no `{}` in\n{output}", self.expected)),
        }
    }

    /// Runs the example in a process with a separate working directory. The error contains the
    /// output.
    fn spawn(&self, server: &LocalServer) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot run the example: {error}");
        let directory = server.workspace_dir().join(self.name);
        fs::create_dir_all(&directory).map_err(failed)?;
        let (mut reader, writer) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command
            .env(NAME, self.name)
            .env(URL, server.url().as_str())
            .env(KEY, server.session_api_key().expose_secret())
            .env(DIRECTORY, directory)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer);
        let mut child = command.spawn().map_err(failed)?;
        // Closes this process's ends of the pipe, so that the output ends with the child.
        drop(command);
        let mut output = Vec::new();
        reader.read_to_end(&mut output).map_err(failed)?;
        let status = child.wait().map_err(failed)?;
        let output = String::from_utf8_lossy(&output);
        match status.success() {
            true => self.check(&output),
            false => Err(format!("{status}\n{output}")),
        }
    }
}
