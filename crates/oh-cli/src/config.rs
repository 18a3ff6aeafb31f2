//! The settings of a run: options, then variables, then the project's file, then the user's file.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::{Deserialize, de::DeserializeOwned};

use crate::exit::{Exit, Failure};

/// The name of a project's file.
const PROJECT: &str = "oh.toml";

/// The actions that wait for approval, from the weakest setting to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Confirm {
    /// The agent acts without asking.
    Never,
    /// The agent asks before actions that its model rates as risky or cannot rate.
    Risky,
    /// The agent asks before every action.
    Always,
}

/// The settings that one source has. Names in files are those of the options.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    pub(crate) model: Option<String>,
    pub(crate) base_url: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) confirm: Option<Confirm>,
    pub(crate) approve: Option<Vec<String>>,
    pub(crate) max_cost: Option<f64>,
    pub(crate) max_iterations: Option<u32>,
    pub(crate) timeout: Option<u64>,
    pub(crate) hook: Option<PathBuf>,
    pub(crate) mcp: Option<PathBuf>,
    pub(crate) skill: Option<Vec<PathBuf>>,
    pub(crate) tool: Option<Vec<String>>,
    pub(crate) server: Option<String>,
}

/// The place that a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Option,
    Variable(&'static str),
    Project(PathBuf),
    User(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("the command line"),
            Self::Variable(name) => f.write_str(name),
            Self::Project(path) | Self::User(path) => path.display().fmt(f),
        }
    }
}

/// The settings of all places.
#[derive(Debug)]
pub(crate) struct Config {
    options: Settings,
    project: Option<(PathBuf, Settings)>,
    user: Option<(PathBuf, Settings)>,
    variables: fn(&str) -> Option<String>,
}

impl Config {
    /// Reads the files for an agent that works in this directory, which is `None` on another
    /// machine.
    pub(crate) fn load(options: Settings, directory: Option<&Path>) -> Result<Self, Failure> {
        let user = match user_file() {
            Some(path) => read(&path)?.map(|settings| (path, settings)),
            None => None,
        };
        let project = match directory.and_then(project_file) {
            Some(path) => read(&path)?.map(|settings| (path, settings)),
            None => None,
        };
        let config = Self {
            options,
            project,
            user,
            variables,
        };
        config.check_project()?;
        Ok(config)
    }

    /// Rejects settings that only the user may make. Others can write a project's file, which must
    /// not send keys elsewhere, run programs before the agent does, or approve actions.
    fn check_project(&self) -> Result<(), Failure> {
        let Some((path, settings)) = &self.project else {
            return Ok(());
        };
        let forbidden = [
            // The model selects the provider, which gets the user's key.
            ("model", settings.model.is_some()),
            ("base-url", settings.base_url.is_some()),
            ("approve", settings.approve.is_some()),
            ("hook", settings.hook.is_some()),
            ("mcp", settings.mcp.is_some()),
            ("skill", settings.skill.is_some()),
            ("tool", settings.tool.is_some()),
            ("server", settings.server.is_some()),
        ];
        let path = path.display();
        if let Some((name, _)) = forbidden.iter().find(|(_, set)| *set) {
            return Err(Exit::Configuration.because(format!(
                "{path}: `{name}` is not allowed in a project's file, because others may have \
                 written it: use --{name}, or your own file"
            )));
        }
        let own = self.user.as_ref().and_then(|(_, user)| user.confirm);
        match (settings.confirm, own) {
            (Some(project), Some(own)) if project < own => Err(Exit::Configuration.because(
                format!("{path}: `confirm` must not be weaker than in your own file"),
            )),
            _ => Ok(()),
        }
    }

    /// Returns a setting and its source.
    pub(crate) fn get<T: Clone + Parse>(
        &self,
        setting: &Setting<T>,
    ) -> Result<Option<(T, Source)>, Failure> {
        if let Some(value) = (setting.of)(&self.options) {
            return Ok(Some((value, Source::Option)));
        }
        if let Some(name) = setting.variable
            && let Some(text) = (self.variables)(name)
        {
            let value = T::parse(&text).map_err(|why| {
                Exit::Configuration.because(format!("the variable {name} is not valid: {why}"))
            })?;
            return Ok(Some((value, Source::Variable(name))));
        }
        let of = |file: &Option<(PathBuf, Settings)>| {
            let (path, settings) = file.as_ref()?;
            Some(((setting.of)(settings)?, path.clone()))
        };
        if let Some((value, path)) = of(&self.project) {
            return Ok(Some((value, Source::Project(path))));
        }
        Ok(of(&self.user).map(|(value, path)| (value, Source::User(path))))
    }

    /// Returns a setting.
    pub(crate) fn value<T: Clone + Parse>(
        &self,
        setting: &Setting<T>,
    ) -> Result<Option<T>, Failure> {
        Ok(self.get(setting)?.map(|(value, _)| value))
    }

    /// Returns the settings that are set: name, value and source.
    pub(crate) fn all(&self) -> Result<Vec<(&'static str, String, Source)>, Failure> {
        let mut all = Vec::new();
        self.list(&MODEL, &mut all)?;
        self.list(&BASE_URL, &mut all)?;
        self.list(&PROFILE, &mut all)?;
        self.list(&CONFIRM, &mut all)?;
        self.list(&APPROVE, &mut all)?;
        self.list(&MAX_COST, &mut all)?;
        self.list(&MAX_ITERATIONS, &mut all)?;
        self.list(&TIMEOUT, &mut all)?;
        self.list(&HOOK, &mut all)?;
        self.list(&MCP, &mut all)?;
        self.list(&SKILL, &mut all)?;
        self.list(&TOOL, &mut all)?;
        self.list(&SERVER, &mut all)?;
        Ok(all)
    }

    fn list<T: Clone + Parse>(
        &self,
        setting: &Setting<T>,
        all: &mut Vec<(&'static str, String, Source)>,
    ) -> Result<(), Failure> {
        if let Some((value, source)) = self.get(setting)? {
            all.push((setting.name, format!("{value:?}"), source));
        }
        Ok(())
    }
}

/// A setting: its name, its variable, and its place in a source.
pub(crate) struct Setting<T> {
    name: &'static str,
    variable: Option<&'static str>,
    of: fn(&Settings) -> Option<T>,
}

macro_rules! settings {
    ($($id:ident: $type:ty = $name:literal, $variable:expr, $field:ident;)*) => {$(
        pub(crate) const $id: Setting<$type> = Setting {
            name: $name,
            variable: $variable,
            of: |settings| settings.$field.clone(),
        };
    )*};
}

settings! {
    MODEL: String = "model", Some("LLM_MODEL"), model;
    BASE_URL: String = "base-url", Some("LLM_BASE_URL"), base_url;
    PROFILE: String = "profile", Some("OH_PROFILE"), profile;
    CONFIRM: Confirm = "confirm", Some("OH_CONFIRM"), confirm;
    APPROVE: Vec<String> = "approve", None, approve;
    MAX_COST: f64 = "max-cost", Some("OH_MAX_COST"), max_cost;
    MAX_ITERATIONS: u32 = "max-iterations", Some("OH_MAX_ITERATIONS"), max_iterations;
    TIMEOUT: u64 = "timeout", Some("OH_TIMEOUT"), timeout;
    HOOK: PathBuf = "hook", Some("OH_HOOK"), hook;
    MCP: PathBuf = "mcp", Some("OH_MCP"), mcp;
    SKILL: Vec<PathBuf> = "skill", None, skill;
    TOOL: Vec<String> = "tool", None, tool;
    SERVER: String = "server", Some("OH_SERVER"), server;
}

/// A value that a variable can have.
pub(crate) trait Parse: Sized + fmt::Debug {
    fn parse(text: &str) -> Result<Self, String>;
}

macro_rules! parse {
    ($($type:ty),*) => {$(
        impl Parse for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }
        }
    )*};
}

parse!(String, f64, u32, u64, PathBuf);

impl<T: DeserializeOwned + fmt::Debug> Parse for Vec<T> {
    fn parse(_: &str) -> Result<Self, String> {
        Err("a list cannot be a variable".to_owned())
    }
}

impl Parse for Confirm {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_str(text, true)
    }
}

fn variables(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a file of settings. `None` if there is no file.
fn read(path: &Path) -> Result<Option<Settings>, Failure> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Exit::Configuration.because(format!("cannot read {shown}: {error}")));
        }
    };
    let mut settings: Settings = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        let why = error.message();
        Exit::Configuration.because(format!("{shown}:{line}:{column}: {why}"))
    })?;
    // Paths in a file are relative to the file.
    let base = path.parent().unwrap_or(Path::new("/")).to_owned();
    let paths = [&mut settings.hook, &mut settings.mcp];
    let paths = paths.into_iter().flatten();
    for path in paths.chain(settings.skill.iter_mut().flatten()) {
        *path = base.join(&path);
    }
    Ok(Some(settings))
}

/// Returns the path of the user's file: `$XDG_CONFIG_HOME/oh/config.toml`, by default
/// `~/.config/oh/config.toml`.
pub(crate) fn user_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(Path::new(&set("HOME")?).join(".config")));
    Some(config?.join("oh/config.toml"))
}

/// Finds the project's file in the directory or above, up to the root of its repository.
fn project_file(directory: &Path) -> Option<PathBuf> {
    for place in directory.ancestors() {
        let file = place.join(PROJECT);
        if file.is_file() {
            return Some(file);
        }
        if place.join(".git").exists() {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("oh.toml");
        fs::write(&path, text).unwrap();
        (home, path)
    }

    fn config(options: Settings, project: &str, user: &str) -> Config {
        let settings = |text| {
            let (_home, path) = file(text);
            let settings = read(&path).unwrap().unwrap();
            Some((path, settings))
        };
        Config {
            options,
            project: settings(project),
            user: settings(user),
            variables: |name| (name == "OH_TIMEOUT").then(|| "7".to_owned()),
        }
    }

    #[test]
    fn options_precede_variables_the_project_and_the_user() {
        let options = Settings {
            max_iterations: Some(1),
            ..Settings::default()
        };
        let all = "max-iterations = 2\ntimeout = 2\nmax-cost = 2.5\n";
        let user = "max-iterations = 3\ntimeout = 3\nmax-cost = 3\nmodel = \"own\"\n";
        let config = config(options, all, user);
        let iterations = config.get(&MAX_ITERATIONS).unwrap();
        assert_eq!(iterations, Some((1, Source::Option)));
        let timeout = config.get(&TIMEOUT).unwrap();
        assert_eq!(timeout, Some((7, Source::Variable("OH_TIMEOUT"))));
        let (cost, source) = config.get(&MAX_COST).unwrap().unwrap();
        assert_eq!(cost.to_string(), "2.5");
        assert!(matches!(source, Source::Project(_)));
        let (model, source) = config.get(&MODEL).unwrap().unwrap();
        assert!(model == "own" && matches!(source, Source::User(_)));
        assert_eq!(config.value(&CONFIRM).unwrap(), None);
    }

    #[test]
    fn a_project_cannot_redirect_keys_run_programs_or_approve() {
        for line in [
            "model = \"elsewhere/m\"",
            "base-url = \"http://elsewhere\"",
            "server = \"http://elsewhere\"",
            "approve = [\"terminal\"]",
            "hook = \"hooks.json\"",
            "mcp = \"mcp.json\"",
            "skill = [\"skills\"]",
            "tool = [\"x=x.py\"]",
        ] {
            let error = config(Settings::default(), line, "").check_project();
            let message = error.unwrap_err().to_string();
            let name = line.split(' ').next().unwrap();
            assert!(message.contains(&format!("`{name}`")), "{message}");
            config(Settings::default(), "", line)
                .check_project()
                .unwrap();
        }
        let weaker = config(
            Settings::default(),
            "confirm = \"risky\"",
            "confirm = \"always\"",
        );
        weaker.check_project().unwrap_err();
        let stricter = config(
            Settings::default(),
            "confirm = \"always\"",
            "confirm = \"risky\"",
        );
        stricter.check_project().unwrap();
    }

    #[test]
    fn an_invalid_file_is_reported_with_line_and_column() {
        for (text, at, why) in [
            ("model = \"m\"\nmodell = \"m\"\n", ":2:1", "modell"),
            ("\n  timeout = \"long\"\n", ":2:13", "invalid type"),
            ("model = \n", ":1:", ""),
            ("confirm = \"sometimes\"\n", ":1:11", "sometimes"),
        ] {
            let (_home, path) = file(text);
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("oh.toml{at}")), "{message}");
            assert!(message.contains(why), "{message}");
        }
        assert!(read(Path::new("/nowhere/oh.toml")).unwrap().is_none());
    }

    #[test]
    fn the_file_of_a_project_is_searched_up_to_its_repository() {
        let (home, path) = file("");
        let inner = home.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(project_file(&inner), Some(path));
        fs::create_dir(home.path().join("a/.git")).unwrap();
        assert_eq!(project_file(&inner), None);
    }

    #[test]
    fn paths_in_a_file_are_relative_to_it() {
        let (home, path) = file("hook = \"h.json\"\nskill = [\"s\", \"/abs\"]\n");
        let settings = read(&path).unwrap().unwrap();
        assert_eq!(settings.hook, Some(home.path().join("h.json")));
        let skills = vec![home.path().join("s"), PathBuf::from("/abs")];
        assert_eq!(settings.skill, Some(skills));
    }
}
