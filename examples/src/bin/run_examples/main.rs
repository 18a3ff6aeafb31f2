//! Runs the examples side by side, each in its own process, and prints a line for each:
//! `cargo xtask examples`. Most of them share one server.

mod service_check;

use std::{
    env,
    io::Read,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use openhands::{Client, LocalServer, Workspace, secrecy::ExposeSecret as _};
use openhands_examples::Result;
use tokio::runtime::Runtime;

/// Declares the examples: the part that runs, and a text that the output must contain. `program`
/// runs `main`, which starts its own server. `shared` runs `example` on the server that the others
/// use too.
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
    (@program $module:ident) => { Run::Program($module::main) };
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
    program attach "../../../attach.rs" "kept after the crash: true"
    program kubernetes "../../../kubernetes.rs" "The pod works for ada."
    program warm_pool "../../../warm_pool.rs" "I work for grace."
    program custom_tool "../../../custom_tool.rs" "2 lines, 6 words"
    shared acp_agent "../../../acp_agent.rs" "answer: You said: Goodbye!"
    shared approvals "../../../approvals.rs" r#"kept.txt: "one\ntwo\n""#
    shared batch "../../../batch.rs" "the budget was used up"
    shared bridge "../../../bridge.rs" "2 posts"
    shared ci_bot "../../../ci_bot.rs" "+    return a + b"
    shared client_tool "../../../client_tool.rs" r#"{"customer":"Ada","total":120}"#
    shared delegation "../../../delegation.rs" "reached: true"
    shared fork "../../../fork.rs" "questions in the early fork: 2"
    shared gateway "../../../gateway.rs" "agent: Hello from the agent."
    shared settings_and_secrets "../../../settings_and_secrets.rs" "the build is right"
    shared steering "../../../steering.rs" "at the end: finished"
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
    Program(fn() -> Result),
    Shared(fn(&Workspace) -> Result),
}

/// The number of examples that run at once. They mostly wait for the server.
const AT_ONCE: usize = 3;
/// Variables for the process of one example: its name, and its workspace on the shared server.
const NAME: &str = "EXAMPLE_NAME";
const URL: &str = "EXAMPLE_URL";
const KEY: &str = "EXAMPLE_KEY";
const DIRECTORY: &str = "EXAMPLE_DIRECTORY";

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("--parrot") {
        return exit_code(acp_agent::parrot());
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
        Run::Program(run) => run(),
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
    let server = runtime.block_on(async { LocalServer::builder().start().await })?;
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
                    let outcome = example.spawn(&server);
                    let seconds = begun.elapsed().as_secs_f64();
                    match outcome {
                        Ok(()) => println!("passed  {} ({seconds:.1} s)", example.name),
                        Err(error) => {
                            failed.store(true, Ordering::Relaxed);
                            println!("FAILED  {} ({seconds:.1} s)\n{error}", example.name);
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
    /// Runs the example in a process with a separate working directory. The error contains the
    /// output.
    fn spawn(&self, server: &LocalServer) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot run the example: {error}");
        let directory = server.workspace_dir().join(self.name);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let (mut reader, writer) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command
            .env_remove("LLM_API_KEY")
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
        match (status.success(), output.contains(self.expected)) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("no `{}` in\n{output}", self.expected)),
            (false, _) => Err(format!("{status}\n{output}")),
        }
    }
}
