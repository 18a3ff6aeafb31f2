//! What the examples share and a reader of an example need not see: which model to use, a bar
//! while the server is provisioned, and logs on stderr.

use std::{env, error::Error, fmt};

use indicatif::{ProgressBar, ProgressStyle};
use openhands::{prelude::*, process::Progress, testkit::{Script, ScriptedModel}};

mod script;

/// The model of the environment, or a scripted one.
pub enum Model {
    /// `LLM_API_KEY` is set: a real model.
    Real(Llm),
    /// No key: a script on loopback plays the model.
    Scripted(ScriptedModel),
}

impl Model {
    /// Reads `LLM_API_KEY`, `LLM_MODEL` and `LLM_BASE_URL`; without a key starts the script.
    pub async fn from_env() -> Result<Self, Box<dyn Error>> {
        let Some(key) = env::var("LLM_API_KEY").ok().filter(|key| !key.is_empty()) else {
            return Ok(Self::Scripted(script::main_job().start().await?));
        };
        let name = env::var("LLM_MODEL")
            .unwrap_or_else(|_| "anthropic/claude-sonnet-4-5-20250929".to_owned());
        let mut llm = Llm::new(name).api_key(key);
        if let Ok(url) = env::var("LLM_BASE_URL") {
            llm = llm.base_url(url);
        }
        Ok(Self::Real(llm))
    }
}
