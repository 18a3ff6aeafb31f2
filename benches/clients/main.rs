//! Compares whole clients on the same work: ours, the Python SDK, the TypeScript client, and the
//! floor.
//!
//! `clients NAME [--smoke]` measures one benchmark in interleaved rounds and prints one JSON object
//! per line. Every subject is a separate process that is measured from outside. Ours and the floor
//! are this program again.

#![allow(missing_docs, reason = "a program, not an interface")]

mod attach;
mod docker;
mod growth;
mod layers;
mod live;
mod main_job;
mod many;
mod returns;
mod subjects;
mod tail;

use openhands_benches::Outcome;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let smoke = arguments.iter().any(|argument| argument == "--smoke");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let words: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !matches!(*argument, "--bench" | "--json" | "--smoke"))
        .collect();
    runtime.block_on(async {
        match words.as_slice() {
            ["--subject", role, arguments @ ..] => subjects::play(role, arguments).await,
            ["live"] => live::bench(smoke).await,
            ["many"] => many::bench(smoke).await,
            ["attach"] => attach::bench(smoke).await,
            ["tail"] => tail::bench(smoke).await,
            ["returns"] => returns::bench(smoke).await,
            ["main-job"] => main_job::bench(smoke).await,
            ["docker"] => docker::bench(smoke).await,
            ["layers"] => layers::bench(smoke).await,
            ["growth"] => growth::bench(smoke).await,
            other => Err(format!("no benchmark `{}`", other.join(" ")).into()),
        }
    })
}
