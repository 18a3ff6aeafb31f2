//! Skills: texts that the agent gets when they are relevant.

use super::{
    McpServer,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// The condition under which a skill is loaded automatically.
    pub struct Trigger;
    by_hand: ["type", "keywords", "triggers", "paths"];
}

impl Trigger {
    /// Creates a trigger that fires if a message contains any of these words.
    pub fn keywords(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of("keyword", "keywords", words)
    }

    /// Creates a trigger that fires if a message contains any of these words, for a skill that is a
    /// task with inputs.
    pub fn task(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of("task", "triggers", words)
    }

    /// Creates a trigger that fires if the agent works on a file whose path in the workspace
    /// matches any of these globs.
    pub fn paths(globs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of("path", "paths", globs)
    }

    fn of(
        kind: &'static str,
        field: &'static str,
        texts: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let texts: Field = texts.into_iter().map(Into::<String>::into).collect();
        Self {
            fields: Fields::of("Trigger")
                .with("type", Field::plain(kind))
                .with(field, texts),
        }
    }
}

model! {
    /// A text that the agent gets when it is relevant (`Skill` on the server).
    ///
    /// The content of a skill without a trigger is always in the prompt. In the Agent Skills
    /// format, only the description is in the prompt, and the agent loads the content on demand.
    pub struct Skill;
    by_hand: ["name", "content"];

    /// Sets the condition under which the skill is loaded automatically.
    model trigger: Trigger;
    /// Sets the source of the skill: a path or any name.
    text source;
    /// Adds an MCP server (Model Context Protocol) that the skill needs.
    entry mcp_tools/mcp_tool: McpServer;
    /// Adds an input that the skill asks for, if the skill is a task.
    each inputs/input: SkillInput;
    /// Sets whether the skill has the Agent Skills format: listed by its description and loaded on
    /// demand. Server default: false.
    value is_agentskills_format: bool;
    /// Sets the version. Server default: `1.0.0`.
    text version;
    /// Sets the description: what the skill does and when to use it. The server truncates it to
    /// 1024 characters.
    text description;
    /// Sets the licence of the skill.
    text license;
    /// Sets the requirements on the environment.
    text compatibility;
    /// Adds any other metadata.
    entry metadata/metadata: String;
    /// Sets the tools that the skill may use without approval.
    list allowed_tools: String;
    /// Sets whether only the trigger can load the skill, not the model. Server default: false, but
    /// always true with a path trigger.
    value disable_model_invocation: bool;
    /// Sets the files that belong to the skill.
    model resources: SkillResources;
}

impl Skill {
    /// Creates a skill with a name, which must be unique in an agent, and its content.
    pub fn new(name: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Skill")
                .with("name", name.into())
                .with("content", content.into()),
        }
    }
}

model! {
    /// An input that a task asks for.
    pub struct SkillInput;
    by_hand: ["name", "description"];
}

impl SkillInput {
    /// Creates an input with a name and a description of the expected value.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SkillInput")
                .with("name", name.into())
                .with("description", description.into()),
        }
    }
}

model! {
    /// The files that belong to a skill, as paths relative to its directory.
    pub struct SkillResources;
    by_hand: ["skill_root"];

    /// Sets the files in `scripts/`.
    list scripts: String;
    /// Sets the files in `references/`.
    list references: String;
    /// Sets the files in `assets/`.
    list assets: String;
}

impl SkillResources {
    /// Creates an empty list of files for a skill directory, given by its absolute path on the
    /// server.
    pub fn new(skill_root: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SkillResources").with("skill_root", skill_root.into()),
        }
    }
}
