//! A tool that the agent calls and this program executes: questions to a SQLite database.
//!
//! Run it with `cargo run -p openhands-examples --example client_tool`. The database is in this
//! program's memory: the agent, its server and its model only see the results.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    conversation::schemars, prelude::*, protocol::config::ToolAnnotations, testkit::Script,
};
use openhands_examples::{Model, Result};
use rusqlite::Connection;
use serde_json::{Value, json};

/// The arguments. The model reads these comments: they are the descriptions in the JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Query {
    /// A SELECT statement in the dialect of SQLite.
    sql: String,
    /// The largest number of rows to return. Default: 20.
    limit: Option<usize>,
}

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    let sum = "SELECT customer, sum(total) AS total FROM orders GROUP BY customer ORDER BY 2 DESC";
    let script = Script::new()
        .call("query", json!({"sql": "SELECT * FROM customers"}))
        .text("I wait for the result.")
        .call("query", json!({"sql": sum, "limit": 1}))
        .text("I wait for the result.")
        .finish("Ada ordered the most: 120.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    let database = Connection::open_in_memory()?;
    database.execute_batch(
        "CREATE TABLE orders (customer TEXT, total INTEGER);
         INSERT INTO orders VALUES ('Ada', 70), ('Grace', 60), ('Ada', 50);
         PRAGMA query_only = ON;",
    )?;
    let database = Arc::new(Mutex::new(database));

    // The handler runs once for each call, on its own task. The agent gets an error as the result,
    // and usually corrects its query. Arguments that do not fit the type never reach the handler.
    let tool = ClientTool::typed::<Query>(
        "query",
        "Queries the orders in SQLite: table orders(customer, total). \
         The result arrives as a message: wait for it.",
        move |query: Query, _call| {
            let database = Arc::clone(&database);
            async move {
                println!("query: {}", query.sql);
                // SQLite blocks, so it does not run on a thread of the runtime.
                let rows = tokio::task::spawn_blocking(move || select(&database, &query)).await??;
                println!("  {rows}");
                Ok(rows)
            }
        },
    )
    .annotations(ToolAnnotations::new().read_only(true));

    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent)
        .client_tool(tool)
        .start()
        .await?;
    conversation
        .send("Which customer ordered the most?")
        .await?;
    // A result that arrives after the end of a run starts the next one. `run` waits for them all.
    println!("{}", conversation.run().await?.ensure_finished()?);
    println!("{}", conversation.agent().final_response().await?);
    conversation.delete().await?;
    model.verify()
}

/// Returns the rows as JSON.
fn select(database: &Mutex<Connection>, query: &Query) -> rusqlite::Result<Value> {
    // A panic in another call does not damage a read-only connection.
    let database = database
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut statement = database.prepare(&query.sql)?;
    let names: Vec<String> = statement
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && found.len() < query.limit.unwrap_or(20)
    {
        let mut object = serde_json::Map::new();
        for (index, name) in names.iter().enumerate() {
            let value = match row.get(index)? {
                rusqlite::types::Value::Integer(number) => json!(number),
                rusqlite::types::Value::Real(number) => json!(number),
                rusqlite::types::Value::Text(text) => json!(text),
                _ => Value::Null,
            };
            object.insert(name.clone(), value);
        }
        found.push(Value::Object(object));
    }
    Ok(found.into())
}
