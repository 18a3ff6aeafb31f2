//! The settings of a container, and the command line and environment that they result in.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use crate::{Error, ErrorKind, Result, docker::settings::default_image, options::Options};

/// Where the directory with the server's configuration is in the container.
pub(crate) const CONFIG: &str = "/openhands-rs";
/// Where agents work.
pub(crate) const WORKSPACE: &str = "/workspace";

/// Variable of this process with more mounts.
pub(crate) const EXTRA_BINDS: &str = "OPENHANDS_APPTAINER_EXTRA_BINDS";

/// Prefixes of the variables that Apptainer passes on to the container.
const PASSED: [&str; 2] = ["APPTAINERENV_", "SINGULARITYENV_"];

/// The image of a container.
#[derive(Debug, Clone)]
pub(crate) enum Image {
    Registry(String),
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) image: Image,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) executable: PathBuf,
    pub(crate) workspace: Option<PathBuf>,
    pub(crate) binds: Vec<String>,
    pub(crate) fakeroot: bool,
    pub(crate) compat: bool,
    pub(crate) disabled: Vec<String>,
    pub(crate) gpus: bool,
    pub(crate) options: Options,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: Image::Registry(default_image()),
            cache: None,
            executable: "apptainer".into(),
            workspace: None,
            binds: Vec::new(),
            fakeroot: true,
            compat: true,
            disabled: ["hostfs", "bind-paths"].map(str::to_owned).into(),
            gpus: false,
            options: Options::default(),
        }
    }
}

impl Settings {
    /// Rejects invalid values before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if let Image::Registry(name) = &self.image
            && (name.is_empty() || name.starts_with('-') || name.contains(char::is_whitespace))
        {
            return invalid(format!("{name:?} is not the name of an image"));
        }
        for mount in &self.binds {
            if mount.is_empty() || mount.starts_with('-') || mount.contains([',', '\0']) {
                return invalid(format!(
                    "mount {mount:?} is invalid: write source[:target[:ro]]"
                ));
            }
        }
        if let Some(path) = &self.workspace {
            if path.to_string_lossy().contains([',', ':']) {
                let shown = path.display();
                return invalid(format!(
                    "the path {shown} cannot be mounted: must contain no comma and no colon"
                ));
            }
            if !path.is_dir() {
                let message = format!("{} is not a directory; create it first", path.display());
                return Err(Error::new(ErrorKind::NoVolume, message));
            }
        }
        self.options.check()?;
        let names = self.options.variables.iter().map(|(name, _)| name);
        for name in names.chain(&self.options.forwarded) {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.starts_with(char::is_numeric) || !name.chars().all(plain) {
                return invalid(format!("{name:?} is not a valid environment variable name"));
            }
        }
        Ok(())
    }

    /// Returns the command line. `extra` is the value of [`EXTRA_BINDS`], and `config` the
    /// directory with the server's configuration. Contains neither keys nor values of variables.
    pub(crate) fn command(
        &self,
        executable: &Path,
        image: &Path,
        config: &Path,
        extra: &str,
        port: u16,
    ) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![executable.into(), "run".into(), "--cleanenv".into()];
        let flags = [
            (self.fakeroot, "--fakeroot"),
            (self.compat, "--compat"),
            (self.gpus, "--nv"),
        ];
        command.extend(
            flags
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, flag)| flag.into()),
        );
        let mut option = |name: &str, value: OsString| command.extend([name.into(), value]);
        for name in &self.disabled {
            option("--no-mount", name.into());
        }
        let mount = |source: &Path, target: &str| {
            let mut mount = source.as_os_str().to_owned();
            mount.push(":");
            mount.push(target);
            mount
        };
        option("--bind", mount(config, &format!("{CONFIG}:ro")));
        if let Some(workspace) = &self.workspace {
            option("--bind", mount(workspace, WORKSPACE));
        }
        let extra = extra
            .split(',')
            .map(str::trim)
            .filter(|mount| !mount.is_empty());
        for own in self.binds.iter().map(String::as_str).chain(extra) {
            option("--bind", own.into());
        }
        command.push(image.into());
        command.extend(self.options.arguments.iter().map(OsString::from));
        command.extend(["--host", "127.0.0.1", "--port"].map(OsString::from));
        command.push(port.to_string().into());
        command
    }

    /// Returns the environment of the program: that of this process, with the variables that
    /// Apptainer passes on to the container.
    pub(crate) fn environment(
        &self,
        parent: impl Iterator<Item = (OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let passed = |name: &OsStr| {
            let name = name.to_string_lossy();
            PASSED.iter().any(|prefix| name.starts_with(prefix))
        };
        let parent: Vec<_> = parent.collect();
        let ours = self
            .options
            .usual_variables(&format!("{CONFIG}/{FILE}"), WORKSPACE);
        let locale = ["LANG", "LC_ALL"].map(|name| (name, "C.UTF-8".to_owned()));
        let mut given: Vec<(String, OsString)> = ours
            .into_iter()
            .chain(locale)
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        for name in &self.options.forwarded {
            let value = parent.iter().find(|(known, _)| known == name.as_str());
            given.extend(value.map(|(_, value)| (name.clone(), value.clone())));
        }
        let own = self.options.variables.iter();
        given.extend(own.map(|(name, value)| (name.clone(), value.expose_secret().into())));
        let mut environment: Vec<_> = parent
            .into_iter()
            .filter(|(name, _)| !passed(name))
            .collect();
        for (name, value) in given {
            let name = OsString::from(format!("{}{name}", PASSED[0]));
            environment.retain(|(known, _)| *known != name);
            environment.push((name, value));
        }
        environment
    }
}

/// Name of the file with the server's configuration.
pub(crate) const FILE: &str = "server.json";

#[cfg(test)]
mod tests {
    use oh_process::LogLevel;

    use super::*;

    fn line(settings: &Settings, extra: &str) -> String {
        let (program, image, config) = ("/bin/apptainer", "/i.sif", "/private");
        let command = settings.command(program.as_ref(), image.as_ref(), config.as_ref(), extra, 7);
        let words = command.iter().map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_command_line_has_the_settings_and_no_secret() {
        assert_eq!(
            line(&Settings::default(), ""),
            "/bin/apptainer run --cleanenv --fakeroot --compat --no-mount hostfs --no-mount \
             bind-paths --bind /private:/openhands-rs:ro /i.sif --host 127.0.0.1 --port 7"
        );
        let mut settings = Settings {
            fakeroot: false,
            compat: false,
            gpus: true,
            disabled: Vec::new(),
            workspace: Some("/work".into()),
            binds: vec!["/data:/data:ro".to_owned()],
            ..Settings::default()
        };
        settings.options.variables = vec![("TOKEN".to_owned(), "canary".into())];
        settings.options.server.keys = vec!["canary-canary-canary".into()];
        settings.options.arguments = vec!["--import-modules=tools".to_owned()];
        assert_eq!(
            line(&settings, " /a:/b , ,/c"),
            "/bin/apptainer run --cleanenv --nv --bind /private:/openhands-rs:ro --bind \
             /work:/workspace --bind /data:/data:ro --bind /a:/b --bind /c /i.sif \
             --import-modules=tools --host 127.0.0.1 --port 7"
        );
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn the_container_gets_only_chosen_variables() {
        let mut settings = Settings::default();
        settings.options.variables = vec![("A".to_owned(), "own".into())];
        settings.options.forwarded = vec!["B".to_owned(), "MISSING".to_owned()];
        settings.options.server.log_level = LogLevel::Debug;
        let parent = [("PATH", "/bin"), ("B", "theirs"), ("APPTAINERENV_C", "x")];
        let parent = parent.map(|(name, value)| (name.into(), value.into()));
        let built = settings.environment(parent.into_iter());
        let value = |name: &str| {
            let found = built.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.to_string_lossy().into_owned())
        };
        assert_eq!(value("PATH").as_deref(), Some("/bin"));
        assert_eq!(value("APPTAINERENV_A").as_deref(), Some("own"));
        assert_eq!(value("APPTAINERENV_B").as_deref(), Some("theirs"));
        assert_eq!(value("APPTAINERENV_C"), None);
        assert_eq!(value("APPTAINERENV_MISSING"), None);
        let config = value("APPTAINERENV_OPENHANDS_AGENT_SERVER_CONFIG_PATH");
        assert_eq!(config.as_deref(), Some("/openhands-rs/server.json"));
        for (name, expected) in [
            ("APPTAINERENV_LOG_LEVEL", "DEBUG"),
            ("APPTAINERENV_OH_WORKSPACE_PATH", "/workspace"),
            ("APPTAINERENV_LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ] {
            assert_eq!(value(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn invalid_settings_are_rejected() {
        let rejects = |kind, change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        };
        let invalid = |change: &dyn Fn(&mut Settings)| rejects(ErrorKind::InvalidInput, change);
        invalid(&|s| s.image = Image::Registry("-x".into()));
        invalid(&|s| s.binds = vec!["/a,/b".into()]);
        invalid(&|s| s.workspace = Some("/a:b".into()));
        rejects(ErrorKind::NoVolume, &|s| {
            s.workspace = Some("/nowhere".into());
        });
        invalid(&|s| s.options.server.keys = vec!["short".into()]);
        invalid(&|s| s.options.forwarded = vec!["SESSION_API_KEY".into()]);
        invalid(&|s| s.options.forwarded = vec!["A-B".into()]);
        Settings::default().check().unwrap();
    }
}
