//! The options of `oh run`.

use std::{io::Read as _, path::PathBuf};

use clap::{Args, Parser};
use openhands::ConversationId;

use crate::{
    config::{Confirm, Settings},
    exit::{Exit, Failure},
    records::Container,
};

#[derive(Args)]
pub(crate) struct Options {
    /// The task of the agent. `-` reads it from stdin.
    #[arg(required_unless_present = "resume")]
    pub(super) task: Option<String>,
    /// Continue an earlier run, given by its id or the beginning of its id. A task is sent as the
    /// next message.
    #[arg(long, value_name = "ID")]
    pub(super) resume: Option<String>,
    /// The agent's directory. Default: the current one.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(super) dir: Option<PathBuf>,
    /// Use the server at this URL, with the session key in OH_SESSION_API_KEYS_0 or
    /// SESSION_API_KEY, and a directory of that server. Default: the background server (`oh up`);
    /// without one, a private server is started.
    #[arg(long, value_name = "URL", conflicts_with = "resume", requires = "dir")]
    pub(super) server: Option<String>,
    /// Start a private server even if the background server is running.
    #[arg(long, conflicts_with_all = ["resume", "server"])]
    pub(super) private: bool,
    /// Where the agent runs. `local`: a private server on this machine. `docker`: a private server,
    /// with a container of Docker for the agent. `kubernetes`: a server in a sandbox of the current
    /// cluster. A URL is the same as --server.
    #[arg(long, value_name = "local|docker|kubernetes|URL", value_parser = Sandbox::parse,
          conflicts_with_all = ["resume", "server", "private"])]
    pub(super) sandbox: Option<Sandbox>,
    /// The warm pool of the sandbox, in the cluster. The key that activates its servers is read
    /// from OH_INIT_KEY.
    #[arg(long, value_name = "NAME", requires = "sandbox")]
    pub(super) pool: Option<String>,
    /// The image of the container. Default: the one that the server's authors publish.
    #[arg(long, requires = "sandbox")]
    pub(super) image: Option<String>,
    /// The model. Default: LLM_MODEL. The key is read from LLM_API_KEY; other LLM_ variables count
    /// as well.
    #[arg(long, conflicts_with = "resume")]
    pub(super) model: Option<String>,
    /// The URL of the model's provider. Default: LLM_BASE_URL, or the provider's own.
    #[arg(long, value_name = "URL", conflicts_with = "resume")]
    pub(super) base_url: Option<String>,
    /// Use a model that is stored on the server under this name (`oh profiles`).
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "model", "base_url"])]
    pub(super) profile: Option<String>,
    /// A file of hooks, such as .openhands/hooks.json.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(super) hook: Option<PathBuf>,
    /// A file of MCP servers, such as .mcp.json.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(super) mcp: Option<PathBuf>,
    /// A skill: a directory with a SKILL.md, or a Markdown file. Can be repeated.
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    pub(super) skill: Vec<PathBuf>,
    /// A custom tool, NAME=FILE.py or NAME=MODULE: the Python module registers the tool. A file
    /// needs a private server. Can be repeated.
    #[arg(long, value_name = "NAME=MODULE", conflicts_with = "resume")]
    pub(super) tool: Vec<String>,
    /// The actions that wait for approval. Default: never.
    #[arg(long, value_enum, conflicts_with = "resume")]
    pub(super) confirm: Option<Confirm>,
    /// Approve actions without a question: TOOL, TOOL:COMMAND or TOOL:BEGINNING*, such as
    /// `terminal:cargo test`. Can be repeated.
    #[arg(long, value_name = "RULE")]
    pub(super) approve: Vec<String>,
    /// Interrupt the agent when the conversation has cost this much, in US dollars.
    #[arg(long, value_name = "DOLLARS")]
    pub(super) max_cost: Option<f64>,
    /// Stop after this number of steps.
    #[arg(long, value_name = "STEPS", conflicts_with = "resume")]
    pub(super) max_iterations: Option<u32>,
    /// Interrupt the agent after this time.
    #[arg(long, value_name = "SECONDS")]
    pub(super) timeout: Option<u64>,
    /// The title of the conversation.
    #[arg(long, conflicts_with = "resume")]
    pub(super) title: Option<String>,
    /// Print one JSON object a line. Approvals are then requested on stdout and answered on stdin.
    #[arg(long)]
    pub(super) json: bool,
    /// Write the record, the events, the answer and the patch here. Default: a directory for each
    /// run in $OH_STATE_DIR, which `oh ls` lists.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(super) output_dir: Option<PathBuf>,
}

/// The place where an agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sandbox {
    Local,
    Docker,
    Kubernetes,
    Url(String),
}

impl Sandbox {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            "docker" => Ok(Self::Docker),
            "kubernetes" => Ok(Self::Kubernetes),
            url if url.contains("://") => Ok(Self::Url(url.to_owned())),
            _ => Err("must be `local`, `docker`, `kubernetes` or a URL".to_owned()),
        }
    }
}

impl Options {
    /// Returns the options with the sandbox of a URL as the server.
    pub(super) fn normalized(mut self) -> Self {
        if let Some(Sandbox::Url(url)) = &self.sandbox {
            self.server = Some(url.clone());
        }
        self
    }

    /// Returns whether the run has a private server.
    pub(super) fn is_private(&self) -> bool {
        let sandbox = matches!(self.sandbox, Some(Sandbox::Local | Sandbox::Docker));
        self.private || sandbox
    }

    /// Returns the warm pool of a sandbox in a cluster.
    pub(super) fn pool(&self) -> Result<Option<&str>, Failure> {
        match (&self.sandbox, &self.pool) {
            (Some(Sandbox::Kubernetes), Some(pool)) => Ok(Some(pool)),
            (Some(Sandbox::Kubernetes), None) => {
                Err(Exit::Usage.because("--sandbox kubernetes needs the warm pool: --pool NAME"))
            }
            (_, Some(_)) => Err(Exit::Usage.because("--pool needs --sandbox kubernetes")),
            _ => Ok(None),
        }
    }

    /// Returns the container of the agent.
    pub(super) fn container(&self) -> Result<Option<Container>, Failure> {
        match (&self.sandbox, &self.image) {
            (Some(Sandbox::Docker), image) => Ok(Some(Container {
                image: image.clone(),
            })),
            (_, Some(_)) => Err(Exit::Usage.because("--image needs --sandbox docker")),
            _ => Ok(None),
        }
    }

    /// Returns the options that continue a run with a message.
    pub(crate) fn resuming(id: ConversationId, task: &str, json: bool) -> Result<Self, Failure> {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let id = id.to_string();
        let words = ["oh", "--resume", &*id].into_iter();
        let words = words.chain(json.then_some("--json")).chain(["--", task]);
        let line = Line::try_parse_from(words);
        let line = line.map_err(|error| Exit::Usage.because(error.to_string()))?;
        Ok(line.options)
    }

    /// Returns the settings on the command line.
    pub(super) fn settings(&self) -> Settings {
        let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
        Settings {
            model: self.model.clone(),
            base_url: self.base_url.clone(),
            profile: self.profile.clone(),
            confirm: self.confirm,
            approve: list(&self.approve),
            max_cost: self.max_cost,
            max_iterations: self.max_iterations,
            timeout: self.timeout,
            hook: self.hook.clone(),
            mcp: self.mcp.clone(),
            skill: (!self.skill.is_empty()).then(|| self.skill.clone()),
            tool: list(&self.tool),
            server: self.server.clone(),
        }
    }

    /// Returns the text of the task.
    pub(super) fn message(&self) -> Result<Option<String>, Failure> {
        let Some(task) = &self.task else {
            return Ok(None);
        };
        let mut text = task.clone();
        if task == "-" {
            if self.json {
                let what = "with --json, stdin is for answers: give the task as an argument";
                return Err(Exit::Usage.because(what));
            }
            text.clear();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| {
                    Exit::Usage.because(format!("cannot read the task from stdin: {error}"))
                })?;
        }
        match text.trim().is_empty() {
            true => Err(Exit::Usage.because("the task is empty")),
            false => Ok(Some(text)),
        }
    }
}
