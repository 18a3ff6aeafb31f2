//! `oh profiles`: models that are stored on a server.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use openhands::{
    Llm,
    admin::Admin,
    protocol::{
        calls::{profiles::Validation, settings::Expose},
        redact,
    },
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Outcome},
    records::clean,
    server::{At, note},
    stored::{admin, lines, table, unknown},
};

#[derive(Subcommand)]
pub(crate) enum Profiles {
    /// List the models that are stored on the server. `*` is the active one.
    Ls(List),
    /// Print a profile as JSON, without its keys.
    Show(Named),
    /// Store a model, or replace a profile.
    Set(Box<Set>),
    /// Make a profile the model of agents that the server configures.
    Use(Named),
    /// Remove a profile.
    Rm(Named),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    at: At,
    /// Print each profile as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Named {
    /// The name of the profile.
    name: String,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(crate) struct Set {
    /// The name of the profile.
    name: String,
    /// The model. Default: LLM_MODEL. The key is read from LLM_API_KEY; other LLM_ variables count
    /// as well.
    #[arg(long)]
    model: Option<String>,
    /// The URL of the model's provider. Default: LLM_BASE_URL, or the provider's own.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Use the server's login to a subscription (`oh login`) instead of a key.
    #[arg(long)]
    subscription: bool,
    /// Send a short request to the model first, which may be billed. Nothing is stored if it fails.
    #[arg(long)]
    check: bool,
    /// Make it the active profile.
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    at: At,
}

/// A line of `oh profiles ls --json`.
#[derive(Serialize)]
struct Row {
    name: String,
    model: Option<String>,
    base_url: Option<String>,
    /// Whether a key is stored.
    key: bool,
    active: bool,
}

/// `oh profiles`.
pub(crate) async fn profiles(verb: Profiles) -> Outcome {
    match verb {
        Profiles::Ls(options) => list(&options).await,
        Profiles::Show(options) => show(&options).await,
        Profiles::Set(options) => set(&options).await,
        Profiles::Use(options) => {
            let admin = admin(&options.at).await?;
            known(&admin, &options.name).await?;
            activate(&admin, &options.name).await
        }
        Profiles::Rm(options) => {
            let admin = admin(&options.at).await?;
            known(&admin, &options.name).await?;
            admin.profiles().delete(&options.name).await?;
            Ok(Exit::Finished)
        }
    }
}

async fn list(options: &List) -> Outcome {
    let list = admin(&options.at).await?.profiles().list().await?;
    let rows = list.profiles.into_iter().map(|profile| Row {
        active: list.active_profile.as_ref() == Some(&profile.name),
        key: profile.api_key_set || profile.provider_connection_id.is_some(),
        base_url: profile.base_url.map(|url| redact::url(&url).into_owned()),
        model: profile.model,
        name: profile.name,
    });
    if options.json {
        lines(rows)?;
        return Ok(Exit::Finished);
    }
    let cells = |row: Row| {
        let active = if row.active { "*" } else { " " };
        let key = if row.key { "key" } else { "no key" };
        let model = row.model.unwrap_or_default();
        let url = row.base_url.unwrap_or_default();
        [format!("{active} {}", row.name), model, key.to_owned(), url]
    };
    table(&rows.map(cells).collect::<Vec<_>>())?;
    Ok(Exit::Finished)
}

async fn show(options: &Named) -> Outcome {
    let admin = admin(&options.at).await?;
    known(&admin, &options.name).await?;
    let profile = admin.profiles().get(&options.name, Expose::Masked).await?;
    let mut config = profile.config;
    redact::json(&mut config);
    let json = serde_json::to_string_pretty(&config)
        .map_err(|error| Exit::Internal.because(error.to_string()))?;
    writeln!(io::stdout(), "{json}")?;
    Ok(Exit::Finished)
}

async fn set(options: &Set) -> Outcome {
    let llm = model(options)?;
    let admin = admin(&options.at).await?;
    let profiles = admin.profiles();
    if options.check
        && let Validation::Invalid { kind, message } =
            profiles.validate(&options.name, llm.clone()).await?
    {
        let message = format!("the model cannot be used: {message} ({kind})");
        return Err(Exit::Model.because(clean(&message)));
    }
    profiles.save(&options.name, llm).await?;
    match options.activate {
        true => activate(&admin, &options.name).await,
        false => Ok(Exit::Finished),
    }
}

/// Returns the model that the options and the environment describe.
fn model(options: &Set) -> Result<Llm, Failure> {
    let mut llm = match &options.model {
        Some(model) => Llm::from_env_with_model("LLM_", model)?,
        None => Llm::from_env("LLM_")
            .map_err(|error| Exit::Configuration.because(format!("{error}, or use --model")))?,
    };
    if let Some(url) = &options.base_url {
        llm = llm.base_url(url);
    }
    if options.subscription {
        llm = llm.subscription("openai");
    }
    Ok(llm)
}

async fn activate(admin: &Admin, name: &str) -> Outcome {
    let activated = admin.profiles().activate(name).await?;
    if !activated.llm_applied {
        note("the profile is active, but the server has not applied its model");
    }
    Ok(Exit::Finished)
}

/// Fails if there is no such profile, and names a similar one.
async fn known(admin: &Admin, name: &str) -> Result<(), Failure> {
    let profiles = admin.profiles().list().await?.profiles;
    let names: Vec<_> = profiles.into_iter().map(|profile| profile.name).collect();
    match names.iter().any(|known| known == name) {
        true => Ok(()),
        false => Err(unknown("profile", name, &names)),
    }
}
