//! Finds the addresses at which a container engine may listen. Connects to none of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result};

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A host and port, without TLS.
    Tcp(String, u16),
}

impl Address {
    /// Parses an address as `DOCKER_HOST` contains it. `from` names the place that contains it.
    pub(crate) fn parse(text: &str, from: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        let unsupported = |why: &str| {
            let message = format!("cannot use the engine at {text} (from {from}): {why}");
            Err(Error::new(ErrorKind::Unsupported, message))
        };
        let rest = ["tcp://", "http://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return match text.split_once("://") {
                Some(("ssh", _)) => unsupported(
                    "ssh is not supported; forward the socket with `ssh -L /tmp/engine.sock:\
                     /var/run/docker.sock` and use unix:///tmp/engine.sock",
                ),
                Some(("https", _)) => unsupported("TLS is not supported"),
                _ => unsupported("an address must begin with unix:// or tcp://"),
            };
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "2375"));
        match port.parse() {
            Ok(port) if !host.is_empty() => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Ok(Self::Tcp(host.to_owned(), port))
            }
            _ => unsupported("the port must be a number"),
        }
    }

    /// Returns the address in the form of `DOCKER_HOST`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => format!("tcp://[{host}]:{port}"),
            Self::Tcp(host, port) => format!("tcp://{host}:{port}"),
        }
    }

    /// Returns the host of an engine on another machine.
    pub(crate) fn remote_host(&self) -> Option<&str> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(host, _) => {
                let ip = host.parse::<std::net::IpAddr>();
                let local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
                (!local).then_some(host)
            }
        }
    }
}

/// The addresses to try, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// The address that the user chose, and the place that contains it. No other is tried.
    Chosen(Address, String),
    /// The usual places of sockets.
    Usual(Vec<Address>),
}

/// The variables of a process that name an engine.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) variables: BTreeMap<String, String>,
}

impl Surroundings {
    /// Returns those of this process.
    pub(crate) fn of_this_process() -> Self {
        let names = [
            "DOCKER_HOST",
            "DOCKER_TLS_VERIFY",
            "DOCKER_CONTEXT",
            "DOCKER_CONFIG",
            "CONTAINER_HOST",
            "XDG_RUNTIME_DIR",
            "HOME",
        ];
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let variables = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), set(name)?)));
        Self {
            variables: variables.collect(),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Returns the addresses to try: `DOCKER_HOST`, else the current Docker context, else
    /// `CONTAINER_HOST`, else the usual sockets of Docker and Podman.
    pub(crate) fn candidates(&self) -> Result<Candidates> {
        if let Some(host) = self.get("DOCKER_HOST") {
            let address = Address::parse(host, "DOCKER_HOST")?;
            if self.get("DOCKER_TLS_VERIFY").is_some() && matches!(address, Address::Tcp(..)) {
                let message = "DOCKER_TLS_VERIFY is set, but TLS to an engine is not supported";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            return Ok(Candidates::Chosen(address, "DOCKER_HOST".to_owned()));
        }
        if let Some((name, host)) = self.context()? {
            let from = format!("the Docker context {name}");
            return Ok(Candidates::Chosen(Address::parse(&host, &from)?, from));
        }
        if let Some(host) = self.get("CONTAINER_HOST") {
            let address = Address::parse(host, "CONTAINER_HOST")?;
            return Ok(Candidates::Chosen(address, "CONTAINER_HOST".to_owned()));
        }
        Ok(Candidates::Usual(self.usual()))
    }

    fn usual(&self) -> Vec<Address> {
        let mut paths = vec![PathBuf::from("/var/run/docker.sock")];
        let below = |name: &str, rest: &str| self.get(name).map(|path| Path::new(path).join(rest));
        paths.extend(below("XDG_RUNTIME_DIR", "docker.sock"));
        paths.extend(below("HOME", ".docker/run/docker.sock"));
        paths.extend(below("HOME", ".docker/desktop/docker.sock"));
        paths.extend(below("XDG_RUNTIME_DIR", "podman/podman.sock"));
        paths.push("/run/podman/podman.sock".into());
        paths.into_iter().map(Address::Unix).collect()
    }

    /// Returns the name and the address of the current Docker context, unless it is the default.
    fn context(&self) -> Result<Option<(String, String)>> {
        let directory = match (self.get("DOCKER_CONFIG"), self.get("HOME")) {
            (Some(directory), _) => PathBuf::from(directory),
            (None, Some(home)) => Path::new(home).join(".docker"),
            (None, None) => return Ok(None),
        };
        let read = |path: &Path| -> Option<serde_json::Value> {
            serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
        };
        let name = match self.get("DOCKER_CONTEXT") {
            Some(name) => name.to_owned(),
            None => {
                let config = read(&directory.join("config.json")).unwrap_or_default();
                match config["currentContext"].as_str() {
                    Some(name) => name.to_owned(),
                    None => return Ok(None),
                }
            }
        };
        if name == "default" || name.is_empty() {
            return Ok(None);
        }
        // The directory of a context is named after the hash of its name.
        let hash = Sha256::digest(name.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = directory.join("contexts/meta").join(hash).join("meta.json");
        let found = read(&meta);
        let host = found
            .as_ref()
            .and_then(|meta| meta["Endpoints"]["docker"]["Host"].as_str());
        match host {
            Some(host) => Ok(Some((name, host.to_owned()))),
            None => {
                let message = format!(
                    "the Docker context {name} has no address; choose another with \
                     `docker context use`, or set DOCKER_HOST"
                );
                Err(Error::new(ErrorKind::NoEngine, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter();
        Surroundings {
            variables: variables
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn addresses_are_parsed_and_others_are_refused_with_a_remedy() {
        let parse = |text| Address::parse(text, "DOCKER_HOST");
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        assert_eq!(parse("unix:///a/b").unwrap(), Address::Unix("/a/b".into()));
        assert_eq!(parse("tcp://h:1").unwrap(), tcp("h", 1));
        assert_eq!(parse("tcp://h").unwrap(), tcp("h", 2375));
        assert_eq!(parse("http://[::1]:5/").unwrap(), tcp("::1", 5));
        for (text, part) in [
            ("ssh://me@host", "ssh -L"),
            ("https://h", "TLS"),
            ("tcp://h:x", "port"),
            ("/var/run/docker.sock", "unix://"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(part), "{error}");
        }
        for url in ["unix:///a/b", "tcp://h:1", "tcp://[::1]:5"] {
            assert_eq!(parse(url).unwrap().url(), url);
        }
    }

    #[test]
    fn only_an_engine_of_another_machine_has_a_remote_host() {
        let host = |text| {
            let address = Address::parse(text, "").unwrap();
            address.remote_host().map(str::to_owned)
        };
        assert_eq!(host("tcp://10.0.0.9:2375").as_deref(), Some("10.0.0.9"));
        for local in [
            "unix:///x",
            "tcp://127.0.0.1:1",
            "tcp://localhost",
            "tcp://[::1]:1",
        ] {
            assert_eq!(host(local), None, "{local}");
        }
    }

    #[test]
    fn the_chosen_engine_comes_before_the_usual_sockets() {
        let host = [
            ("DOCKER_HOST", "unix:///x"),
            ("CONTAINER_HOST", "unix:///y"),
        ];
        let found = surroundings(&host).candidates().unwrap();
        let chosen = Candidates::Chosen(Address::Unix("/x".into()), "DOCKER_HOST".to_owned());
        assert_eq!(found, chosen);
        let found = surroundings(&host[1..]).candidates().unwrap();
        assert!(matches!(found, Candidates::Chosen(_, from) if from == "CONTAINER_HOST"));
        let found = surroundings(&[("XDG_RUNTIME_DIR", "/run/user/7")]).candidates();
        let Candidates::Usual(found) = found.unwrap() else {
            panic!("chosen")
        };
        assert_eq!(found[0], Address::Unix("/var/run/docker.sock".into()));
        assert!(found.contains(&Address::Unix("/run/user/7/podman/podman.sock".into())));
        let tls = [("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")];
        let error = surroundings(&tls).candidates().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_docker_context_names_the_engine() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().to_str().unwrap();
        fs::write(
            directory.path().join("config.json"),
            r#"{"currentContext": "rootless"}"#,
        )
        .unwrap();
        let at = surroundings(&[("DOCKER_CONFIG", config)]);
        let error = at.candidates().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEngine);
        assert!(error.to_string().contains("context use"), "{error}");
        // The hash of the name `rootless`.
        let hash = Sha256::digest(b"rootless");
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = directory.path().join("contexts/meta").join(hash);
        fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"rootless","Endpoints":{"docker":{"Host":"unix:///run/r.sock"}}}"#;
        fs::write(meta.join("meta.json"), text).unwrap();
        let found = at.candidates().unwrap();
        let address = Address::Unix("/run/r.sock".into());
        let from = "the Docker context rootless".to_owned();
        assert_eq!(found, Candidates::Chosen(address, from));
        let other = surroundings(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "default")]);
        assert!(matches!(other.candidates(), Ok(Candidates::Usual(_))));
    }
}
