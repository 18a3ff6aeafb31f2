//! Skills: texts that the agent is given when they are of use.

use super::{
    McpServer,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// What brings a skill into a conversation by itself.
    pub struct Trigger;
    by_hand: ["type", "keywords", "triggers", "paths"];
}

impl Trigger {
    /// Any of these words in a message.
    pub fn keywords(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of("keyword", "keywords", words)
    }

    /// Any of these words in a message, for a skill that is a task with inputs.
    pub fn task(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of("task", "triggers", words)
    }

    /// Work on a file whose path in the workspace matches any of these globs.
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
    /// A text that the agent is given when it is of use (`Skill` on the server).
    ///
    /// Without a trigger, its content is always in the prompt; in the Agent Skills format, its
    /// description is, and the agent reads the content when it wants to.
    pub struct Skill;
    by_hand: ["name", "content"];

    /// What brings it into the conversation by itself.
    model trigger: Trigger;
    /// Where it is from: a path, or any name.
    text source;
    /// Adds a server of the Model Context Protocol that it needs.
    entry mcp_tools/mcp_tool: McpServer;
    /// Adds an input that it asks for, if it is a task.
    each inputs/input: SkillInput;
    /// Whether it is in the Agent Skills format: listed by its description, read on demand.
    /// Server's default: no.
    value is_agentskills_format: bool;
    /// Its version. Server's default: `1.0.0`.
    text version;
    /// What it does and when to use it. The server cuts what is above 1024 characters.
    text description;
    /// The licence it is given under.
    text license;
    /// What it needs from where it runs.
    text compatibility;
    /// Adds anything else that is to be known of it.
    entry metadata/metadata: String;
    /// The tools it may use without asking.
    list allowed_tools: String;
    /// Whether only its trigger can bring it up, never the model. Server's default: no; with a
    /// trigger by path, always.
    value disable_model_invocation: bool;
    /// The files that come with it.
    model resources: SkillResources;
}

impl Skill {
    /// A skill by its name, one of its kind in an agent, with this content.
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
    /// An input by its name, and what to enter.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SkillInput")
                .with("name", name.into())
                .with("description", description.into()),
        }
    }
}

model! {
    /// The files that come with a skill, by their paths below its directory.
    pub struct SkillResources;
    by_hand: ["skill_root"];

    /// Those below `scripts/`.
    list scripts: String;
    /// Those below `references/`.
    list references: String;
    /// Those below `assets/`.
    list assets: String;
}

impl SkillResources {
    /// None yet, in this directory of the server, by its absolute path.
    pub fn new(skill_root: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SkillResources").with("skill_root", skill_root.into()),
        }
    }
}
