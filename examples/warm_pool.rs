//! Servers in milliseconds: a template that servers are forked from, and a pool of spare servers.
//!
//! Run it with `cargo run -p openhands-examples --example warm_pool`. Each server has its own
//! process, key and directories, so one pool can serve many users.

use std::time::{Duration, Instant};

use openhands::{
    prelude::*,
    process::{TemplateServer, WarmPool},
};
use openhands_examples::Result;

#[tokio::main]
async fn main() -> Result {
    // 1. A template imports the server's Python modules once. It serves nothing.
    let begun = Instant::now();
    let template = TemplateServer::builder().start().await?;
    println!("template: {:.1?}", begun.elapsed());
    example(&template).await
}

/// Runs the example, with any template.
pub async fn example(template: &TemplateServer) -> Result {
    // 2. A server forked from it needs about a tenth of the time of an ordinary start. Where
    //    forking is not possible, the server starts as usual, and `startup` returns the reason.
    let begun = Instant::now();
    let server = LocalServer::builder().template(template).start().await?;
    println!("forked: {:.1?} ({:?})", begun.elapsed(), server.startup());
    server.shutdown(Duration::from_secs(10)).await?;

    // 3. A pool keeps spares that are already running, and replaces each one that is taken. Without
    //    `template`, the pool starts a template for itself.
    let pool = WarmPool::start(2, LocalServer::builder().template(template));
    // Usually, there is time between two users. This program waits for the spares.
    while pool.ready() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut servers = Vec::new();
    for user in ["ada", "grace"] {
        // What differs between the users is set now: variables, keys, directories.
        let begun = Instant::now();
        let server = pool.acquire().env("TEAM", user).await?;
        println!("{user}: {:.1?}", begun.elapsed());
        servers.push((user, server));
    }
    for (user, server) in servers {
        let output = server.execute("echo \"I work for $TEAM.\"").await?;
        println!("{}", output.stdout().trim());
        if !output.stdout().contains(user) {
            return Err("the server has the variable of another user".into());
        }
        server.shutdown(Duration::from_secs(10)).await?;
    }
    // Stops the spares. The servers that were taken belong to their owners.
    pool.shutdown().await;
    Ok(())
}
