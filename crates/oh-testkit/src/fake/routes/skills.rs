//! Skills, loaded from the in-memory disk as the agent server loads them from its own. There are no
//! public skills and no skills of organizations, because they would need network access.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::fake::{
    state::{
        disk::{Disk, HOME, Node},
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, ok},
    },
};

/// The skill directories of a project or user, highest precedence first.
const DIRECTORIES: [&str; 3] = [
    ".agents/skills",
    ".openhands/skills",
    ".openhands/microagents",
];
/// Files in a project's root that many agents use, with the names of their skills.
const FOR_ALL_AGENTS: [(&str, &str); 5] = [
    (".cursorrules", "cursorrules"),
    ("agents.md", "agents"),
    ("agent.md", "agents"),
    ("claude.md", "claude"),
    ("gemini.md", "gemini"),
];

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("POST", []) => load(world, call),
        _ => Err(undone(call).into()),
    }
}

fn load(world: &World, call: &Call) -> Answered {
    let request = call.json()?;
    let wants = |source: &str| request[source] != false;
    let mut user = Vec::new();
    if wants("load_user") {
        from_directories(&world.disk, HOME, &mut user);
    }
    let mut project = Vec::new();
    let directory = request["project_dir"]
        .as_str()
        .filter(|path| !path.is_empty());
    if let Some(directory) = directory.filter(|_| wants("load_project")) {
        from_root(&world.disk, directory, &mut project);
        from_directories(&world.disk, directory, &mut project);
    }
    let sources = json!({
        "sandbox": 0,
        "registered_marketplaces": 0,
        "sdk_base": user.len(),
        "org": 0,
        "project": project.len(),
    });
    // A project's skill replaces the user's skill with the same name.
    let mut skills = user;
    for skill in project {
        match skills
            .iter_mut()
            .find(|known| known["name"] == skill["name"])
        {
            Some(known) => *known = skill,
            None => skills.push(skill),
        }
    }
    Ok(ok(&json!({"skills": skills, "sources": sources})))
}

/// Adds a skill unless there is already one with the same name.
fn add(skills: &mut Vec<Value>, skill: Value) {
    if !skills.iter().any(|known| known["name"] == skill["name"]) {
        skills.push(skill);
    }
}

fn from_root(disk: &Disk, root: &str, skills: &mut Vec<Value>) {
    for (name, node) in disk.list(root) {
        let lower = name.to_lowercase();
        let known = FOR_ALL_AGENTS.iter().find(|(file, _)| *file == lower);
        if let (Some((_, skill)), Node::File { content, .. }) = (known, node) {
            let content = String::from_utf8_lossy(&content);
            let source = format!("{root}/{name}");
            add(
                skills,
                described(skill, &content, &source, &Front::default(), false),
            );
        }
    }
}

fn from_directories(disk: &Disk, root: &str, skills: &mut Vec<Value>) {
    for directory in DIRECTORIES {
        let directory = format!("{root}/{directory}");
        let mut found = Vec::new();
        let mut own = BTreeSet::new();
        let files = disk.walk(&directory);
        let text = |node: &Node| match node {
            Node::File { content, .. } => Some(String::from_utf8_lossy(content).into_owned()),
            Node::Directory => None,
        };
        for (path, node) in &files {
            let Some((name, file)) = path.split_once('/') else {
                continue;
            };
            if let (true, Some(text)) = (file.eq_ignore_ascii_case("skill.md"), text(node)) {
                own.insert(name.to_owned());
                let (front, content) = Front::of(&text);
                // A skill whose name differs from its directory cannot be found.
                if front.text("name").is_none_or(|said| said == name) {
                    let source = format!("{directory}/{path}");
                    found.push(described(name, content, &source, &front, true));
                }
            }
        }
        for (path, node) in &files {
            let inside = path.split('/').next().unwrap_or_default();
            let name = path
                .strip_suffix(".md")
                .filter(|name| !name.ends_with("README"));
            if let (Some(name), Some(text)) = (name, text(node))
                && !own.contains(inside)
            {
                let (front, content) = Front::of(&text);
                let name = front.text("name").unwrap_or(name).to_owned();
                let source = format!("{directory}/{path}");
                found.push(described(&name, content, &source, &front, false));
            }
        }
        let order = |skill: &Value| {
            ["repo", "knowledge", "agentskills"]
                .iter()
                .position(|kind| skill["type"] == *kind)
        };
        found.sort_by_key(order);
        for skill in found {
            add(skills, skill);
        }
    }
}

fn described(name: &str, content: &str, source: &str, front: &Front, own: bool) -> Value {
    let triggers = front.list("triggers");
    let kind = match (own, triggers.is_empty()) {
        (true, _) => "agentskills",
        (false, true) => "repo",
        (false, false) => "knowledge",
    };
    json!({
        "name": name,
        "type": kind,
        "content": content,
        "triggers": triggers,
        "source": source,
        "description": front.text("description"),
        "is_agentskills_format": own,
        "disable_model_invocation": front.text("disable-model-invocation") == Some("true"),
    })
}

/// The front matter of a skill. Supports plain values and lists of YAML.
#[derive(Default)]
struct Front(BTreeMap<String, Vec<String>>);

impl Front {
    /// Splits a file into front matter and text.
    fn of(file: &str) -> (Self, &str) {
        let parted = file
            .strip_prefix("---\n")
            .and_then(|rest| rest.split_once("\n---"));
        let Some((head, content)) = parted else {
            return (Self::default(), file.trim());
        };
        let plain = |value: &str| value.trim().trim_matches(['"', '\'']).to_owned();
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut last = String::new();
        for line in head.lines() {
            if let Some(item) = line.trim_start().strip_prefix("- ") {
                fields.entry(last.clone()).or_default().push(plain(item));
            } else if let Some((name, value)) = line.split_once(':') {
                last = name.trim().to_owned();
                let value = value.trim();
                let list = value
                    .strip_prefix('[')
                    .and_then(|list| list.strip_suffix(']'));
                let values = match list {
                    Some(list) => list.split(',').map(plain).collect(),
                    None if value.is_empty() => Vec::new(),
                    None => vec![plain(value)],
                };
                fields.insert(last.clone(), values);
            }
        }
        (Self(fields), content.trim())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}
