//! The agent of a run: its model, tools, skills, MCP servers and hooks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use openhands::{
    Agent, HookConfig, Llm, Workspace, hooks,
    protocol::config::{AgentContext, McpFile, Skill, SkillResources, ToolSpec},
};

use crate::{
    config::{self, Config, Settings},
    exit::{Exit, Failure},
};

/// The name of the file of a skill's directory.
const SKILL: &str = "SKILL.md";

/// A custom tool: its name, and the Python module that registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) module: String,
    /// The directory of the module, if it is a file here.
    pub(super) directory: Option<PathBuf>,
}

/// The parts of the agent. Everything is read before a server is started.
pub(super) struct Parts {
    /// The model, unless a profile is used that is stored on the server.
    llm: Option<Llm>,
    pub(super) profile: Option<String>,
    pub(super) hooks: Option<HookConfig>,
    pub(super) tools: Vec<Tool>,
    mcp: Option<McpFile>,
    skills: Vec<Skill>,
}

impl Parts {
    pub(super) fn load(config: &Config) -> Result<Self, Failure> {
        let profile = config.value(&config::PROFILE)?;
        let llm = match profile {
            Some(_) => None,
            None => Some(model(config)?),
        };
        let hooks = match config.value(&config::HOOK)? {
            Some(path) => Some(hooks::load(&path).map_err(|error| not_valid(&error.to_string()))?),
            None => None,
        };
        let mcp = match config.value(&config::MCP)? {
            Some(path) => {
                let file = McpFile::parse(&text(&path)?)
                    .map_err(|error| not_valid(&format!("{}: {error}", path.display())))?;
                Some(file)
            }
            None => None,
        };
        let skills = config.value(&config::SKILL)?.unwrap_or_default();
        let skills = skills
            .iter()
            .map(|path| skill(path))
            .collect::<Result<_, _>>()?;
        let tools = config.value(&config::TOOL)?.unwrap_or_default();
        let tools = tools
            .iter()
            .map(|text| tool(text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            llm,
            profile,
            hooks,
            tools,
            mcp,
            skills,
        })
    }

    /// Returns the MCP keys of editors that have no meaning for an agent.
    pub(super) fn ignored(&self) -> &[String] {
        self.mcp.as_ref().map_or(&[], McpFile::ignored)
    }

    /// Returns the agent, whose model is changed by the function. The model of a profile is read
    /// from the server.
    pub(super) async fn agent(
        &mut self,
        workspace: &Workspace,
        change: impl FnOnce(Llm) -> Llm,
    ) -> Result<Agent, Failure> {
        let llm = match (self.llm.take(), &self.profile) {
            (Some(llm), _) => llm,
            (None, profile) => {
                let name = profile.clone().unwrap_or_default();
                workspace.llm_profile(name).await?
            }
        };
        let mut agent = Agent::default_preset(change(llm)).cli_mode(true);
        for tool in &self.tools {
            agent = agent.tool(ToolSpec::new(&tool.name));
        }
        if let Some(servers) = self.mcp.take() {
            agent = agent.mcp_servers(servers);
        }
        let skills = std::mem::take(&mut self.skills);
        if !skills.is_empty() {
            let context = skills
                .into_iter()
                .fold(AgentContext::new(), AgentContext::skill);
            agent = agent.agent_context(context);
        }
        Ok(agent)
    }
}

/// Returns the model that a run in the current directory would use.
pub(crate) fn model_here() -> Result<Llm, Failure> {
    let directory = std::env::current_dir().ok();
    model(&Config::load(Settings::default(), directory.as_deref())?)
}

/// Returns the configuration of the model.
fn model(config: &Config) -> Result<Llm, Failure> {
    let llm = match config.value(&config::MODEL)? {
        Some(model) => Llm::from_env_with_model("LLM_", model)?,
        None => Llm::from_env("LLM_").map_err(|error| {
            Exit::Configuration.because(format!("{error}, or use --model or --profile"))
        })?,
    };
    let url = config.value(&config::BASE_URL)?;
    Ok(url.into_iter().fold(llm, Llm::base_url))
}

/// Parses `NAME=FILE.py` or `NAME=MODULE`.
fn tool(text: &str) -> Result<Tool, Failure> {
    let invalid = |why: &str| {
        let message = format!("the tool `{text}` {why}: write NAME=FILE.py or NAME=MODULE");
        Exit::Usage.because(message)
    };
    let (name, module) = text
        .split_once('=')
        .ok_or_else(|| invalid("has no module"))?;
    if name.is_empty() || module.is_empty() {
        return Err(invalid("is not complete"));
    }
    let name = name.to_owned();
    if Path::new(module)
        .extension()
        .is_none_or(|extension| extension != "py")
    {
        return Ok(Tool {
            name,
            module: module.to_owned(),
            directory: None,
        });
    }
    let path =
        fs::canonicalize(module).map_err(|error| not_valid(&format!("{module}: {error}")))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.ok_or_else(|| invalid("has a name that is not UTF-8"))?;
    Ok(Tool {
        name,
        module: stem.to_owned(),
        directory: path.parent().map(Path::to_owned),
    })
}

/// Reads a skill: a directory with a `SKILL.md`, or a Markdown file.
fn skill(path: &Path) -> Result<Skill, Failure> {
    let path = fs::canonicalize(path)
        .map_err(|error| not_valid(&format!("skill {}: {error}", path.display())))?;
    let directory = path.is_dir().then(|| path.clone());
    let file = match &directory {
        Some(directory) => directory.join(SKILL),
        None => path.clone(),
    };
    let content = text(&file)?;
    let (head, body) = front_matter(&content);
    let field = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?.trim();
            let value = value.trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        })
    };
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let name = field("name").or(stem).unwrap_or_default();
    let mut skill = Skill::new(name, body).source(file.to_string_lossy());
    if let Some(description) = field("description") {
        skill = skill.description(description);
    }
    if let Some(directory) = &directory {
        let root = directory.to_string_lossy();
        skill = skill
            .is_agentskills_format(true)
            .resources(SkillResources::new(root));
    }
    Ok(skill)
}

/// Splits a text into the lines between its first `---` and the next one, and the rest.
fn front_matter(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches('\u{feff}');
    let Some(rest) = text
        .strip_prefix("---\n")
        .or_else(|| text.strip_prefix("---\r\n"))
    else {
        return ("", text);
    };
    match rest.find("\n---") {
        None => ("", text),
        Some(end) => {
            let (head, after) = rest.split_at(end);
            let after = after.strip_prefix("\n---").unwrap_or(after);
            (head, after.trim_start_matches(['-', '\r', '\n']))
        }
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| not_valid(&format!("{}: {error}", path.display())))
}

fn not_valid(why: &str) -> Failure {
    Exit::Configuration.because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_has_a_name_and_a_module_or_a_file() {
        let plain = tool("clock=my_tools.clock").unwrap();
        assert_eq!(
            (plain.name.as_str(), plain.module.as_str()),
            ("clock", "my_tools.clock")
        );
        assert_eq!(plain.directory, None);
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("clock_tool.py");
        fs::write(&file, "").unwrap();
        let of_file = tool(&format!("clock={}", file.display())).unwrap();
        assert_eq!(of_file.module, "clock_tool");
        assert_eq!(
            of_file.directory,
            Some(fs::canonicalize(home.path()).unwrap())
        );
        for text in ["clock", "=m", "clock=", "clock=/nowhere/tool.py"] {
            tool(text).unwrap_err();
        }
    }

    #[test]
    fn a_skill_is_read_with_its_front_matter() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("review");
        fs::create_dir(&directory).unwrap();
        let text = "---\nname: \"code-review\"\ndescription: Reviews: everything\n---\n\nBody\n";
        fs::write(directory.join(SKILL), text).unwrap();
        let shown = serde_json::to_value(skill(&directory).unwrap()).unwrap();
        assert_eq!(shown["name"], "code-review");
        assert_eq!(shown["description"], "Reviews: everything");
        assert_eq!(shown["content"], "Body\n");
        assert_eq!(shown["is_agentskills_format"], true);
        let plain = home.path().join("plain.md");
        fs::write(&plain, "Only text\n").unwrap();
        let shown = serde_json::to_value(skill(&plain).unwrap()).unwrap();
        assert_eq!(
            (&shown["name"], &shown["content"]),
            (&"plain".into(), &"Only text\n".into())
        );
        skill(&home.path().join("nothing")).unwrap_err();
        skill(home.path()).unwrap_err();
    }
}
