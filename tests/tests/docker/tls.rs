//! Engines that are reached by TLS, and contexts of the `docker` command.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use openhands::sandbox::{DockerServer, Engine, Error, ErrorKind, Pull};
use openhands_tests::containers::output;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use super::{
    engines::Private,
    images::import_stand_in,
    owners::{Owner, act, role},
};

/// A CA, which signs certificates.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Signs a certificate for an engine at 127.0.0.1, or for one of its users. Returns it and its
    /// key.
    fn sign(&self, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }
}

/// Writes the files of a directory for `DOCKER_CERT_PATH`.
fn directory(place: &Path, name: &str, ca: &str, identity: Option<&(String, String)>) -> PathBuf {
    let directory = place.join(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("ca.pem"), ca).unwrap();
    if let Some((certificate, key)) = identity {
        fs::write(directory.join("cert.pem"), certificate).unwrap();
        fs::write(directory.join("key.pem"), key).unwrap();
    }
    directory
}

/// An engine that is reached by TLS.
struct Secured {
    engine: Private,
    place: tempfile::TempDir,
    ca: Ca,
    port: u16,
}

impl Secured {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        let identity = ca.sign(ExtendedKeyUsagePurpose::ServerAuth);
        let own = directory(place.path(), "engine", &ca.pem, Some(&identity));
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let file = |name: &str| own.join(name).display().to_string();
        let engine = Private::start(&[
            "--host",
            &format!("tcp://127.0.0.1:{port}"),
            "--tlsverify",
            "--tlscacert",
            &file("ca.pem"),
            "--tlscert",
            &file("cert.pem"),
            "--tlskey",
            &file("key.pem"),
        ]);
        Self {
            engine,
            place,
            ca,
            port,
        }
    }

    fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Returns a directory with the certificates of a user that the engine accepts.
    fn user(&self) -> PathBuf {
        let identity = self.ca.sign(ExtendedKeyUsagePurpose::ClientAuth);
        directory(self.place.path(), "user", &self.ca.pem, Some(&identity))
    }
}

#[tokio::test]
async fn only_verified_engines_and_users_connect_by_tls() {
    let secured = Secured::start();
    let at = |address: &str, directory: &Path| {
        Engine::at(address)
            .certificates(directory)
            .within(Duration::from_secs(20))
    };
    let user = secured.user();
    let address = secured.address();
    let engine = at(&address, &user).await.unwrap();
    assert_eq!(engine.address(), address);
    assert!(engine.platform().starts_with("linux/"), "{engine}");

    let other = Ca::new();
    let stranger = other.sign(ExtendedKeyUsagePurpose::ClientAuth);
    let place = secured.place.path();
    let of = |name: &str, ca: &Ca, identity: Option<&(String, String)>| {
        directory(place, name, &ca.pem, identity)
    };
    let known = secured.ca.sign(ExtendedKeyUsagePurpose::ClientAuth);
    let broken = of("broken", &secured.ca, Some(&known));
    let text = known.1.replace("PRIVATE KEY", "PUBLIC KEY");
    fs::write(broken.join("key.pem"), text).unwrap();
    let empty = place.join("empty");
    fs::create_dir(&empty).unwrap();
    let by_name = format!("tcp://localhost:{}", secured.port);
    let (denied, tls) = (ErrorKind::EngineDenied, ErrorKind::Tls);
    for (address, directory, kind, part) in [
        (
            &address,
            of("stranger", &secured.ca, Some(&stranger)),
            denied,
            "cert.pem",
        ),
        (
            &address,
            of("nobody", &secured.ca, None),
            denied,
            "cert.pem",
        ),
        (&address, of("other", &other, Some(&known)), tls, "ca.pem"),
        // The certificate is for 127.0.0.1 only.
        (&by_name, user.clone(), tls, "host name"),
        (&address, broken, ErrorKind::InvalidInput, "key.pem"),
        (&address, empty, ErrorKind::InvalidInput, "ca.pem"),
    ] {
        let error = at(address, &directory).await.unwrap_err();
        let shown = format!("{error} {error:?} {error:#?}");
        assert_eq!(error.kind(), kind, "{shown}");
        assert!(shown.contains(part), "{shown}");
        let body = known.1.lines().nth(1).unwrap();
        assert!(!shown.contains(body), "a private key in {shown}");
    }

    let error = Engine::at(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("DOCKER_TLS_VERIFY"), "{error}");
}

#[tokio::test]
async fn tls_with_an_engine_that_does_not_use_it() {
    let place = tempfile::tempdir().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", plain.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let mut received = [0; 4096];
        // Closing a connection before its bytes were read can discard the answer.
        assert_ne!(stream.read(&mut received).unwrap(), 0);
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        while let Ok(1..) = stream.read(&mut received) {}
    });
    let certificates = directory(place.path(), "user", &Ca::new().pem, None);
    let error: Error = Engine::at(&address)
        .certificates(certificates)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("does not use TLS"), "{error}");
    answering.join().unwrap();
}

/// Owners on an engine that is named by the environment or by a context. Their keepers reach it too.
#[test]
fn owners_on_an_engine_of_a_context_that_are_killed() {
    let test = "tls::owners_on_an_engine_of_a_context_that_are_killed";
    if let Some(image) = role() {
        let builder = DockerServer::builder().image(image).pull(Pull::Never);
        return act(builder.network("host"), "kill");
    }
    let secured = Secured::start();
    let (address, user) = (secured.address(), secured.user());
    let image = import_stand_in(&|| secured.engine.docker());
    let before = secured.engine.contents();
    let config = secured.place.path().join("config");
    let file = |name: &str| user.join(name).display().to_string();
    let context = |arguments: &[&str]| {
        let mut docker = secured.engine.docker();
        docker
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", &config);
        output(docker.arg("context").args(arguments));
    };
    let endpoint = format!(
        "host={address},ca={},cert={},key={}",
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    context(&["create", "secured", "--docker", &endpoint]);
    let (config, user) = (config.to_str().unwrap(), user.to_str().unwrap());
    let owns = |variables: &[(&str, &str)]| {
        let owner = Owner::start_with(variables, test, &image).prints("OWNS");
        let found = secured.engine.contents().len();
        assert_eq!(found, before.len() + 1, "{variables:?}");
        owner.kill();
        assert_eq!(secured.engine.contents(), before, "{variables:?}");
    };
    owns(&[
        ("DOCKER_HOST", &address),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", user),
    ]);
    owns(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "secured")]);
    context(&["use", "secured"]);
    owns(&[("DOCKER_CONFIG", config)]);
}
