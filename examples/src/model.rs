//! The model that an example uses: one with the key in `LLM_API_KEY`, or a scripted one on
//! loopback.

use std::{env, fmt};

use openhands::{
    Llm,
    testkit::{Script, ScriptedModel, Step},
};
use serde_json::json;

use crate::Result;

/// The model configurations for the agent and for titles.
pub struct Model {
    agent: Llm,
    title: Llm,
    script: Option<ScriptedModel>,
}

impl Model {
    /// Creates the configurations of the main example. Without a key, a script writes
    /// `test_broken.py`, and fixes it when it is informed that the file does not compile.
    ///
    /// # Errors
    ///
    /// Returns an error if the scripted model finds no free port.
    pub async fn from_env() -> Result<Self> {
        Self::or_script(main_job()).await
    }

    /// Creates the configurations from `LLM_API_KEY`, `LLM_MODEL` and `LLM_BASE_URL`.
    /// `LLM_TITLE_MODEL` sets another model for titles. Without a key, this script is the model.
    ///
    /// # Errors
    ///
    /// Returns an error if the scripted model finds no free port.
    pub async fn or_script(script: Script) -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let (name, title, key, url, script) = match set("LLM_API_KEY") {
            Some(key) => {
                let default = "anthropic/claude-sonnet-4-5-20250929";
                let name = set("LLM_MODEL").unwrap_or_else(|| default.to_owned());
                let title = set("LLM_TITLE_MODEL").unwrap_or_else(|| name.clone());
                (name, title, key, set("LLM_BASE_URL"), None)
            }
            None => {
                let titles = Step::text("Write and mend a Python file").usage(90, 8);
                let titles = Script::new().forever(|script| script.step(titles));
                let script = ScriptedModel::builder()
                    .script(script)
                    .model("scripted-title", titles)
                    .start()
                    .await?;
                let url = script.base_url();
                let [name, title] = ["openai/scripted", "openai/scripted-title"].map(str::to_owned);
                (name, title, "none".to_owned(), Some(url), Some(script))
            }
        };
        let configure = |name| {
            let llm = Llm::new(name).api_key(key.clone()).num_retries(1);
            url.iter().fold(llm, |llm, url| llm.base_url(url))
        };
        let agent = configure(name).usage_id("agent");
        let title = configure(title).usage_id("title").set("timeout", 60);
        Ok(Self {
            agent,
            title,
            script,
        })
    }

    /// Returns the agent's configuration.
    pub fn agent(&self) -> Llm {
        self.agent.clone()
    }

    /// Returns the configuration for titles.
    pub fn title(&self) -> Llm {
        self.title.clone()
    }

    /// Returns the base URL of the model, if it is not the provider's default.
    pub fn base_url(&self) -> Option<String> {
        let set = env::var("LLM_BASE_URL").ok();
        let script = self.script.as_ref().map(ScriptedModel::base_url);
        script.or(set.filter(|url| !url.is_empty()))
    }

    /// Checks that the script, if any, was played completely.
    ///
    /// # Errors
    ///
    /// Returns an error if there were unexpected requests, or if expected requests are missing.
    pub fn verify(&self) -> Result {
        Ok(self.script.as_ref().map_or(Ok(()), ScriptedModel::verify)?)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.script {
            None => f.write_str(self.agent.model()),
            Some(_) => f.write_str(
                "SCRIPTED, no LLM_API_KEY is set: a script on loopback plays the model, \
                 the server is real",
            ),
        }
    }
}

fn main_job() -> Script {
    let broken = "def greet(name:\n    return 'Hello ' + name\n";
    Script::new()
        .step(
            Step::call(
                "terminal",
                json!({"command":
                format!("cat > test_broken.py <<'EOF'\n{broken}EOF")}),
            )
            .say("I write the file with its syntax error.")
            .usage(1200, 60)
            .cost(0.0012),
        )
        .step(
            Step::finish("The file is written.")
                .usage(1300, 20)
                .cost(0.0013),
        )
        .step(
            Step::call(
                "terminal",
                json!({"command":
                "sed -i 's/greet(name:/greet(name):/' test_broken.py"}),
            )
            .say("It does not compile; I close the bracket.")
            .expect("test_broken.py")
            .usage(1400, 40)
            .cost(0.0014),
        )
        .step(
            Step::finish("The file compiles now.")
                .usage(1500, 20)
                .cost(0.0015),
        )
}
