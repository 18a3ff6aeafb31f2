//! `oh secrets`: secrets that are stored on a server, for the commands of agents.

use clap::{Args, Subcommand};
use openhands::protocol::calls::settings::SetSecret;
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Outcome},
    hidden,
    server::At,
    stored::{admin, lines, table, unknown},
};

#[derive(Subcommand)]
pub(crate) enum Secrets {
    /// List the names of the secrets that are stored on the server.
    Ls(List),
    /// Store a secret, or replace it. The value is read from stdin, or from a hidden prompt.
    Set(Set),
    /// Remove a secret.
    Rm(Remove),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    at: At,
    /// Print each secret as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Set {
    /// The name, which is an environment variable in the commands of agents.
    name: String,
    /// The description, which agents can read.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// The name of the secret.
    name: String,
    #[command(flatten)]
    at: At,
}

/// A line of `oh secrets ls --json`.
#[derive(Serialize)]
struct Row {
    name: String,
    description: Option<String>,
}

/// `oh secrets`.
pub(crate) async fn secrets(verb: Secrets) -> Outcome {
    match verb {
        Secrets::Ls(options) => list(&options).await?,
        Secrets::Set(options) => {
            // First, so that nobody types a value in vain.
            let admin = admin(&options.at).await?;
            let value = hidden::read(&format!("value of {}", options.name)).await?;
            let mut secret = SetSecret::new(&options.name, value);
            if let Some(description) = options.description {
                secret = secret.description(description);
            }
            admin.secrets().put(secret).await?;
        }
        Secrets::Rm(options) => {
            let secrets = admin(&options.at).await?.secrets();
            let known = secrets.list().await?.into_iter().map(|secret| secret.name);
            let known: Vec<_> = known.collect();
            if !known.contains(&options.name) {
                return Err(unknown("secret", &options.name, &known));
            }
            secrets.delete(&options.name).await?;
        }
    }
    Ok(Exit::Finished)
}

async fn list(options: &List) -> Result<(), Failure> {
    let secrets = admin(&options.at).await?.secrets().list().await?;
    let rows = secrets.into_iter().map(|secret| Row {
        name: secret.name,
        description: secret.description,
    });
    if options.json {
        return lines(rows);
    }
    let cells = |row: Row| [row.name, row.description.unwrap_or_default()];
    table(&rows.map(cells).collect::<Vec<_>>())
}
