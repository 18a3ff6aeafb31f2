//! Engines that are reached by ssh, through a real `sshd` on loopback.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use openhands::{
    protocol::calls::server::GetServerInfo,
    sandbox::{DockerServer, DockerServerBuilder, Engine, ErrorKind, Pull},
};
use openhands_tests::containers::{eventually, output};
use tempfile::TempDir;

use super::{
    engines::Private,
    images::import_stand_in,
    owners::{Owner, act, role},
};

const SSHD: &str = "/usr/sbin/sshd";

/// A server of ssh, and a configuration of its users. Both end with this value.
struct Sshd {
    daemon: Child,
    place: TempDir,
}

impl Sshd {
    /// Starts a server that logs in to this machine. `docker` uses the engine there.
    fn start(engine: &Private) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "there is no {SSHD}; install it (`apt-get install openssh-server`)"
        );
        // Where sshd confines a part of itself.
        fs::create_dir_all("/run/sshd").unwrap();
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).display().to_string();
        for name in ["host", "user", "stranger", "without-docker"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(name)]);
            output(&mut keygen);
        }
        let public = |name: &str| fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
        let bare = r#"command="PATH=/nowhere; $SSH_ORIGINAL_COMMAND" "#;
        let keys = format!("{}{bare}{}", public("user"), public("without-docker"));
        fs::write(path("keys"), keys).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin yes\nSetEnv DOCKER_HOST={} HOME={}\n",
            path("host"),
            path("keys"),
            engine.address(),
            // What a login runs at this machine is not part of the test.
            path(""),
        );
        fs::write(path("sshd_config"), settings).unwrap();
        fs::write(
            path("known"),
            format!("[127.0.0.1]:{port} {}", public("host")),
        )
        .unwrap();
        let user = output(Command::new("id").args(["--user", "--name"]));
        let host = |name: &str, key: &str, known: &str, port: u16| {
            format!(
                "Host {name}\nHostName 127.0.0.1\nPort {port}\nUser {user}\nIdentityFile {}\n\
                 UserKnownHostsFile {known}\n",
                path(key)
            )
        };
        let hosts = [
            host("machine", "user", &path("known"), port),
            host("stranger", "stranger", &path("known"), port),
            host("unknown", "user", "/dev/null", port),
            host("bare", "without-docker", &path("known"), port),
            host("off", "user", &path("known"), 1),
        ];
        let common = "Host *\nIdentitiesOnly yes\nIdentityAgent none\nStrictHostKeyChecking yes\n\
                      GlobalKnownHostsFile /dev/null\n";
        fs::write(path("config"), hosts.concat() + common).unwrap();
        // The command that a user has, with a configuration that is not the user's.
        fs::create_dir(path("bin")).unwrap();
        let program = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
            path("config")
        );
        fs::write(path("bin/ssh"), program).unwrap();
        fs::set_permissions(path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();

        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", SSHD, "-D", "-f"]);
        command.args([&path("sshd_config"), "-E", &path("log")]);
        let daemon = command.stdin(Stdio::null()).spawn().unwrap();
        let mut sshd = Self { daemon, place };
        eventually("sshd", || {
            let ended = sshd.daemon.try_wait().unwrap();
            let log = fs::read_to_string(sshd.place.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{log}");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        sshd
    }

    /// Returns the variable that makes `ssh` use this server.
    fn path(&self) -> String {
        let own = self.place.path().join("bin");
        format!("{}:{}", own.display(), std::env::var("PATH").unwrap())
    }

    /// Returns the number of processes of `ssh` and `sshd` of users.
    fn connections(&self) -> usize {
        let place = self.place.path().display().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains(&place) && line.contains("/config\0")).then_some(())
        });
        processes.count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ended = (self.daemon.kill(), self.daemon.wait());
    }
}

fn builder(image: &str) -> DockerServerBuilder {
    DockerServer::builder().image(image).pull(Pull::Never)
}

#[test]
fn a_server_on_an_engine_behind_ssh() {
    let test = "ssh::a_server_on_an_engine_behind_ssh";
    if let Some(image) = role() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(works(&image));
    }
    let engine = Private::start(&[]);
    let sshd = Sshd::start(&engine);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let path = sshd.path();
    let variables = [("DOCKER_HOST", "ssh://machine"), ("PATH", path.as_str())];
    assert!(Owner::start_with(&variables, test, &image).wait());
    assert_eq!(engine.contents(), before);
    eventually("no ssh", || sshd.connections() == 0);
}

async fn works(image: &str) {
    let server = builder(image).publish(9000).start().await.unwrap();
    // Other servers may use the engine for longer than this one.
    let engine = server.engine().clone();
    assert_eq!(engine.address(), "ssh://machine");
    // The port of the engine's machine is forwarded to this one.
    assert_eq!(server.url().host_str(), Some("127.0.0.1"));
    let published = server.published(8000).unwrap();
    assert_eq!(server.url().port(), Some(published.port()));
    let info = GetServerInfo::default();
    server.client().call(&info).await.unwrap();
    server.pause().await.unwrap();
    server.resume().await.unwrap();
    let many = (0..20).map(|_| server.client().call(&info));
    for answer in futures(many).await {
        answer.unwrap();
    }
    // One login for all connections: an sshd rejects some of many logins at once.
    let forwards = || children("-L");
    assert_eq!(forwards().len(), 2, "one for each port");
    // The port stays when ssh is started again.
    output(Command::new("kill").args(forwards()));
    eventually("the end of ssh", || forwards().is_empty());
    server.client().call(&info).await.unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
    eventually("the end of ssh", || forwards().is_empty());
    eventually("nothing listens", || TcpStream::connect(published).is_err());

    let error = builder(image).network("host").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("another machine"), "{error}");
}

/// Returns the processes of `ssh` of this process with this argument.
fn children(argument: &str) -> Vec<String> {
    let parent = std::process::id().to_string();
    let mut list = Command::new("pgrep");
    list.args([
        "--parent",
        &parent,
        "--full",
        "--",
        &format!(" {argument} "),
    ]);
    // Fails if there is none.
    let listed = String::from_utf8(list.output().unwrap().stdout).unwrap();
    listed.lines().map(str::to_owned).collect()
}

/// Waits for all of these futures at once.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in all.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        match all.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}

#[test]
fn an_owner_on_an_engine_behind_ssh_that_is_killed() {
    let test = "ssh::an_owner_on_an_engine_behind_ssh_that_is_killed";
    if let Some(image) = role() {
        return act(builder(&image), "kill");
    }
    let engine = Private::start(&[]);
    let sshd = Sshd::start(&engine);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let path = sshd.path();
    let variables = [("DOCKER_HOST", "ssh://machine"), ("PATH", path.as_str())];
    let owner = Owner::start_with(&variables, test, &image).prints("OWNS");
    assert_eq!(engine.contents().len(), before.len() + 1);
    owner.kill();
    assert_eq!(engine.contents(), before);
    eventually("no ssh", || sshd.connections() == 0);
}

#[test]
fn machines_that_ssh_does_not_reach() {
    let test = "ssh::machines_that_ssh_does_not_reach";
    if let Some(socket) = role() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(fails(&socket));
    }
    let engine = Private::start(&[]);
    let sshd = Sshd::start(&engine);
    let path = sshd.path();
    let owner = Owner::start_with(&[("PATH", &path)], test, &engine.address());
    assert!(owner.wait());
    eventually("no ssh", || sshd.connections() == 0);
}

async fn fails(socket: &str) {
    let socket = socket.strip_prefix("unix://").unwrap();
    let (none, denied) = (ErrorKind::NoEngine, ErrorKind::EngineDenied);
    for (host, kind, part) in [
        ("stranger", denied, "a key that needs no password"),
        ("unknown", denied, "compare the key"),
        ("bare", none, "install the command `docker`"),
        ("off", none, "refused"),
        ("machine/nowhere.sock", none, "docker"),
    ] {
        let error = Engine::at(&format!("ssh://{host}")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{host}: {error}");
        assert!(error.to_string().contains(part), "{host}: {error}");
    }
    let address = format!("ssh://machine{socket}");
    let engine = Engine::at(&address).await.unwrap();
    assert_eq!(engine.address(), address);
    let late = Engine::at("ssh://machine").within(Duration::from_millis(1));
    assert_eq!(late.await.unwrap_err().kind(), none);
}
