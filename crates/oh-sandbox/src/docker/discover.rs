//! Finds the addresses at which a container engine may listen. Connects to none of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    Error, ErrorKind, Result,
    docker::{context, ssh::Host},
};

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A host and port, without TLS.
    Tcp(String, u16),
    /// A host and port, and the directory with the certificates.
    Tls(String, u16, PathBuf),
    /// A machine to log in to.
    Ssh(Host),
}

impl Address {
    /// Parses an address as `DOCKER_HOST` contains it. `from` names the place that contains it. TLS
    /// is used if there is a directory of certificates.
    pub(crate) fn parse(text: &str, from: &str, certificates: Option<&Path>) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        let unsupported = |why: &str| {
            let text = without_password(text);
            let message = format!("cannot use the engine at {text} (from {from}): {why}");
            Err(Error::new(ErrorKind::Unsupported, message))
        };
        if text.starts_with("ssh://") {
            return match Host::parse(text) {
                Ok(host) => Ok(Self::Ssh(host)),
                Err(why) => unsupported(why),
            };
        }
        let rest = ["tcp://", "http://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return match text.split_once("://") {
                Some(("https", _)) => {
                    unsupported("for TLS, use tcp:// and a directory of certificates")
                }
                _ => unsupported("an address must begin with unix://, tcp:// or ssh://"),
            };
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('@') {
            return unsupported("an address of tcp:// has no user");
        }
        let usual = if certificates.is_some() {
            "2376"
        } else {
            "2375"
        };
        let (host, port) = match rest.rsplit_once(':') {
            // The last part of an IPv6 address is not a port.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (rest, usual),
        };
        match port.parse() {
            Ok(port) if !host.is_empty() => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let host = host.to_owned();
                Ok(match certificates {
                    Some(directory) => Self::Tls(host, port, directory.to_owned()),
                    None => Self::Tcp(host, port),
                })
            }
            _ => unsupported("the port must be a number"),
        }
    }

    /// Returns the address in the form of `DOCKER_HOST`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(host, port) | Self::Tls(host, port, _) => {
                format!("tcp://{}", authority(host, *port))
            }
            Self::Ssh(host) => host.url(),
        }
    }

    /// Returns the host of an engine on another machine.
    pub(crate) fn remote_host(&self) -> Option<&str> {
        match self {
            Self::Unix(_) => None,
            Self::Ssh(host) => Some(host.name()),
            Self::Tcp(host, _) | Self::Tls(host, ..) => {
                let ip = host.parse::<std::net::IpAddr>();
                let local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
                (!local).then_some(host)
            }
        }
    }
}

/// Returns a host and a port as part of a URL.
pub(crate) fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Replaces the user and the password in an address.
fn without_password(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => text.to_owned(),
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
            "DOCKER_TLS",
            "DOCKER_TLS_VERIFY",
            "DOCKER_CERT_PATH",
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

    /// Returns the directory of the `docker` command's configuration.
    fn config(&self) -> Option<PathBuf> {
        match (self.get("DOCKER_CONFIG"), self.get("HOME")) {
            (Some(directory), _) => Some(PathBuf::from(directory)),
            (None, Some(home)) => Some(Path::new(home).join(".docker")),
            (None, None) => None,
        }
    }

    /// Returns the directory of the certificates for `DOCKER_HOST`, if TLS is to be used.
    fn certificates(&self) -> Result<Option<PathBuf>> {
        if self.get("DOCKER_TLS_VERIFY").is_none() {
            return match self.get("DOCKER_TLS") {
                Some(_) => Err(context::unverified(
                    "DOCKER_TLS is set, but not DOCKER_TLS_VERIFY",
                )),
                None => Ok(None),
            };
        }
        let chosen = self.get("DOCKER_CERT_PATH").map(PathBuf::from);
        match chosen.or_else(|| self.config()) {
            Some(directory) => Ok(Some(directory)),
            None => {
                let message = "DOCKER_TLS_VERIFY is set, but there is no directory of \
                               certificates; set DOCKER_CERT_PATH";
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }

    /// Returns the addresses to try: `DOCKER_HOST`, else the current Docker context, else
    /// `CONTAINER_HOST`, else the usual sockets of Docker and Podman.
    pub(crate) fn candidates(&self) -> Result<Candidates> {
        if let Some(host) = self.get("DOCKER_HOST") {
            let certificates = match host.starts_with("tcp://") {
                true => self.certificates()?,
                false => None,
            };
            let address = Address::parse(host, "DOCKER_HOST", certificates.as_deref())?;
            return Ok(Candidates::Chosen(address, "DOCKER_HOST".to_owned()));
        }
        if let Some(name) = self.context_name() {
            let (address, from) = self.context(&name)?;
            return Ok(Candidates::Chosen(address, from));
        }
        if let Some(host) = self.get("CONTAINER_HOST") {
            let address = Address::parse(host, "CONTAINER_HOST", None)?;
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

    /// Returns the name of the current Docker context, unless it is the default.
    fn context_name(&self) -> Option<String> {
        let name = match self.get("DOCKER_CONTEXT") {
            Some(name) => Some(name.to_owned()),
            None => context::current(&self.config()?),
        };
        name.filter(|name| name != "default" && !name.is_empty())
    }

    /// Returns the address of a Docker context, and the place that contains it.
    pub(crate) fn context(&self, name: &str) -> Result<(Address, String)> {
        let from = format!("the Docker context {name}");
        let none = || {
            let message = "there is no configuration of Docker; set HOME or DOCKER_CONFIG";
            Error::new(ErrorKind::NoEngine, message)
        };
        let (host, certificates) = context::read(&self.config().ok_or_else(none)?, name)?;
        let address = Address::parse(&host, &from, certificates.as_deref())?;
        Ok((address, from))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let parse = |text| Address::parse(text, "DOCKER_HOST", None);
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        assert_eq!(parse("unix:///a/b").unwrap(), Address::Unix("/a/b".into()));
        assert_eq!(parse("tcp://h:1").unwrap(), tcp("h", 1));
        assert_eq!(parse("tcp://h").unwrap(), tcp("h", 2375));
        assert_eq!(parse("http://[::1]:5/").unwrap(), tcp("::1", 5));
        assert_eq!(parse("tcp://[::1]").unwrap(), tcp("::1", 2375));
        assert_eq!(parse("ssh://me@h").unwrap().url(), "ssh://me@h");
        let tls = |text| Address::parse(text, "DOCKER_HOST", Some("/c".as_ref()));
        let secured = Address::Tls("h".to_owned(), 2376, "/c".into());
        assert_eq!(tls("tcp://h").unwrap(), secured);
        for (text, part) in [
            ("ssh://me:canary@h", "use a key"),
            ("tcp://me:canary@h", "has no user"),
            ("what://me:canary@h", "unix://"),
            ("https://h", "TLS"),
            ("tcp://h:x", "port"),
            ("/var/run/docker.sock", "unix://"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(part), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        for url in ["unix:///a/b", "tcp://h:1", "tcp://[::1]:5"] {
            assert_eq!(parse(url).unwrap().url(), url);
        }
    }

    #[test]
    fn only_an_engine_of_another_machine_has_a_remote_host() {
        let host = |text| {
            let address = Address::parse(text, "", None).unwrap();
            address.remote_host().map(str::to_owned)
        };
        assert_eq!(host("tcp://10.0.0.9:2375").as_deref(), Some("10.0.0.9"));
        // The ports of `localhost` are not those of this machine: it may be a name for another one.
        assert_eq!(host("ssh://localhost").as_deref(), Some("localhost"));
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
    }

    #[test]
    fn tls_is_used_if_the_environment_asks_for_it_and_never_without_verification() {
        let host = ("DOCKER_HOST", "tcp://h");
        let verify = ("DOCKER_TLS_VERIFY", "1");
        let found = |variables: &[(&str, &str)]| {
            let found = surroundings(variables).candidates();
            found.map(|found| match found {
                Candidates::Chosen(address, _) => address,
                Candidates::Usual(_) => panic!("not chosen"),
            })
        };
        let tls = |directory: &str| Address::Tls("h".to_owned(), 2376, directory.into());
        let at = found(&[host, verify, ("DOCKER_CERT_PATH", "/c")]);
        assert_eq!(at.unwrap(), tls("/c"));
        let at = found(&[host, verify, ("HOME", "/h")]);
        assert_eq!(at.unwrap(), tls("/h/.docker"));
        assert_eq!(
            found(&[host, verify]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        // As the `docker` command: the directory alone asks for nothing.
        let at = found(&[host, ("DOCKER_CERT_PATH", "/c")]);
        assert_eq!(at.unwrap(), Address::Tcp("h".to_owned(), 2375));
        let error = found(&[host, ("DOCKER_TLS", "1")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("DOCKER_TLS_VERIFY"), "{error}");
        let socket = ("DOCKER_HOST", "unix:///x");
        assert_eq!(
            found(&[socket, verify]).unwrap(),
            Address::Unix("/x".into())
        );
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
        let meta = directory.path().join("contexts/meta");
        // The hash of the name `rootless`.
        let meta = meta.join("12b961af5feb3e9d39f93b2cefb9a1a944f18d02cca0cac2f04f5a982240605f");
        fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"rootless","Endpoints":{"docker":{"Host":"unix:///run/r.sock"}}}"#;
        fs::write(meta.join("meta.json"), text).unwrap();
        let found = at.candidates().unwrap();
        let address = Address::Unix("/run/r.sock".into());
        let from = "the Docker context rootless".to_owned();
        assert_eq!(found, Candidates::Chosen(address, from));
        let other = surroundings(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "default")]);
        assert!(matches!(other.candidates(), Ok(Candidates::Usual(_))));
        // `DOCKER_HOST` comes before the context.
        let host = surroundings(&[("DOCKER_CONFIG", config), ("DOCKER_HOST", "unix:///x")]);
        assert!(
            matches!(host.candidates(), Ok(Candidates::Chosen(_, from)) if from == "DOCKER_HOST")
        );
        let text = r#"{"Endpoints":{"docker":{"Host":"tcp://h","SkipTLSVerify":true}}}"#;
        fs::write(meta.join("meta.json"), text).unwrap();
        let error = at.candidates().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
