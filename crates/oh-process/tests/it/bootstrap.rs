//! A machine without a suitable Python: uv is downloaded into the cache from a package index on
//! loopback.

use std::{
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use super::common::{again, eventually, processes, python};
use oh_process::Provisioner;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const PLACE: &str = "OH_TEST_BOOTSTRAP";
const WHEEL: &str = "uv-0.13.7-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.manylinux_2_17_aarch64.musllinux_1_1_x86_64.whl";

/// Response of the stand-in index: status line, headers, body.
type Answer = (&'static str, String, Vec<u8>);

/// A package index with scripted responses that records the requests.
struct StandInIndex {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandInIndex {
    async fn start(answers: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (notes, answers) = (asked.clone(), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (notes, answers) = (notes.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    notes.lock().unwrap().push(head);
                    let missing = || ("404 Not Found", String::new(), Vec::new());
                    let (status, headers, body) = answers(&path).unwrap_or_else(missing);
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
                    );
                    stream.write_all(head.as_bytes()).await?;
                    stream.write_all(&body).await
                });
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A simulated machine: a directory that serves as HOME, PATH and cache of a process.
struct Machine {
    place: TempDir,
}

impl Machine {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().to_str().unwrap();
        let real = python().await;
        let script = include_str!("common/python.sh")
            .replace("#!/bin/sh", "#!/bin/sh\nPATH=/usr/bin:/bin")
            .replace("PLACE", path)
            .replace("REAL", real.to_str().unwrap());
        fs::write(place.path().join("python-of-uv"), script).unwrap();
        fs::write(place.path().join("mode"), "fine").unwrap();
        fs::create_dir(place.path().join("bin")).unwrap();
        fs::create_dir(place.path().join("home")).unwrap();
        fs::create_dir(place.path().join("tmp")).unwrap();
        Self { place }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// Returns a wheel with the stand-in for uv, and its checksum.
    fn wheel(&self) -> (Vec<u8>, String) {
        let script = include_str!("common/uv.sh").replace("PLACE", self.path().to_str().unwrap());
        let mut wheel = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        for (name, text) in [
            ("uv/__init__.py", ""),
            ("uv-0.13.7.data/scripts/uv", &script),
        ] {
            wheel.start_file(name, options).unwrap();
            wheel.write_all(text.as_bytes()).unwrap();
        }
        let wheel = wheel.finish().unwrap().into_inner();
        let hash = Sha256::digest(&wheel);
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        (wheel, hash)
    }

    /// Starts an index that serves JSON with the wheel and this checksum.
    async fn index(&self, checksum: Option<String>) -> StandInIndex {
        let (wheel, hash) = self.wheel();
        let hash = checksum.unwrap_or(hash);
        let size = wheel.len();
        let page = serde_json::json!({"meta": {"api-version": "1.1"}, "name": "uv", "files": [{
            "filename": WHEEL, "url": "/files/uv.whl", "hashes": {"sha256": hash}, "size": size,
        }]});
        let page = page.to_string();
        StandInIndex::start(move |path| {
            let json = "Content-Type: application/vnd.pypi.simple.v1+json\r\n";
            match path {
                "/simple/uv/" => Some(("200 OK", json.into(), page.clone().into())),
                "/files/uv.whl" => Some(("200 OK", String::new(), wheel.clone())),
                _ => None,
            }
        })
        .await
    }

    /// Returns a command that provisions in a process restricted to this machine.
    fn command(&self, test: &str, variables: &[(&str, String)]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--nocapture", &again(module_path!(), test)])
            .env_clear()
            .env(PLACE, self.path())
            .env("PATH", self.path().join("bin"))
            .env("HOME", self.path().join("home"))
            .env("TMPDIR", self.path().join("tmp"))
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
    }

    async fn provision(&self, test: &str, variables: &[(&str, String)]) -> String {
        let mut command = self.command(test, variables);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    fn start(&self, test: &str, variables: &[(&str, String)]) -> Child {
        let mut command = self.command(test, variables);
        command.stdout(Stdio::null()).spawn().unwrap()
    }

    /// Returns the entries of the directory for uv.
    fn uv(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache().join("uv")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path().join("uv-calls")).unwrap_or_default()
    }
}

/// Provisions and prints the result, if this is the child process.
async fn role() -> bool {
    let Ok(place) = std::env::var(PLACE) else {
        return false;
    };
    let provisioner = Provisioner::new()
        .cache_dir(Path::new(&place).join("cache"))
        .on_progress(|step| println!("STEP {step}"));
    match provisioner.provision().await {
        Ok(environment) => println!("MADE {}", environment.python().display()),
        Err(error) => println!("KIND {:?} {error} {error:?}", error.kind()),
    }
    true
}

#[tokio::test]
async fn uv_and_a_python_are_fetched_into_the_cache_and_nothing_else_is_written() {
    if role().await {
        return;
    }
    let test = "uv_and_a_python_are_fetched_into_the_cache_and_nothing_else_is_written";
    let machine = Machine::new().await;
    let index = machine.index(None).await;
    let url = format!("http://me:can%61ry@127.0.0.1:{}/simple", index.port);
    let said = machine
        .provision(test, &[("PIP_INDEX_URL", url.clone())])
        .await;
    assert!(said.contains("MADE "), "{said}");
    // The download must be announced before it starts.
    let announced = said.find("downloading uv from 127.0.0.1").expect(&said);
    let progress = said.find("downloading uv-0.13.7").expect(&said);
    assert!(announced < progress, "{said}");
    assert!(
        !said.contains("canary") && !said.contains("can%61ry"),
        "{said}"
    );
    let asked = index.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for head in &asked {
        assert!(
            head.to_lowercase()
                .contains("authorization: basic bwu6y2fuyxj5"),
            "{head}"
        );
    }
    assert_eq!(machine.uv(), ["uv"]);
    assert!(
        machine
            .cache()
            .join("python/cpython-3.13/bin/python3")
            .exists()
    );
    for untouched in ["home", "tmp"] {
        let left = fs::read_dir(machine.path().join(untouched)).unwrap();
        let left: Vec<_> = left.flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    // A second environment needs no second download, and no uv on the PATH.
    fs::remove_file(machine.cache().join("server-1.58.2")).unwrap();
    let said = machine.provision(test, &[("PIP_INDEX_URL", url)]).await;
    assert!(said.contains("MADE "), "{said}");
    assert_eq!(index.asked().len(), 2);
}

#[tokio::test]
async fn an_index_in_html_with_relative_links_and_redirects_gets_no_foreign_credentials() {
    if role().await {
        return;
    }
    let test = "an_index_in_html_with_relative_links_and_redirects_gets_no_foreign_credentials";
    let machine = Machine::new().await;
    let (wheel, hash) = machine.wheel();
    let files = StandInIndex::start(move |path| {
        (path == "/stored").then(|| ("200 OK", String::new(), wheel.clone()))
    })
    .await;
    let elsewhere = format!("Location: http://127.0.0.1:{}/stored\r\n", files.port);
    let page = format!("<!DOCTYPE html><a href=\"../../f/{WHEEL}#sha256={hash}\">uv</a>");
    let index = StandInIndex::start(move |path| match path {
        "/simple/uv/" => Some((
            "200 OK",
            "Content-Type: text/html\r\n".into(),
            page.clone().into(),
        )),
        path if path.starts_with("/f/") => Some(("302 Found", elsewhere.clone(), Vec::new())),
        _ => None,
    })
    .await;
    let url = format!("http://me:canary@127.0.0.1:{}/simple/", index.port);
    let said = machine.provision(test, &[("UV_DEFAULT_INDEX", url)]).await;
    assert!(said.contains("MADE "), "{said}");
    let asked = files.asked().concat().to_lowercase();
    assert!(
        asked.contains("/stored") && !asked.contains("authorization"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_wheel_with_another_checksum_is_not_used() {
    if role().await {
        return;
    }
    let test = "a_wheel_with_another_checksum_is_not_used";
    let machine = Machine::new().await;
    let index = machine.index(Some("ab".repeat(32))).await;
    let url = format!("http://127.0.0.1:{}/simple", index.port);
    let said = machine.provision(test, &[("PIP_INDEX_URL", url)]).await;
    assert!(said.contains("KIND Provision"), "{said}");
    assert!(
        said.contains("checksum") && said.contains("nstall Python 3.12+"),
        "{said}"
    );
    assert_eq!(machine.uv(), Vec::<String>::new());
    assert_eq!(machine.calls(), "");
}

#[tokio::test]
async fn offline_nothing_is_requested() {
    if role().await {
        return;
    }
    let test = "offline_nothing_is_requested";
    let machine = Machine::new().await;
    let index = machine.index(None).await;
    let url = format!("http://127.0.0.1:{}/simple", index.port);
    let offline = [
        ("PIP_INDEX_URL", url),
        ("OPENHANDS_OFFLINE", "1".to_owned()),
    ];
    let said = machine.provision(test, &offline).await;
    assert!(said.contains("KIND NoInterpreter"), "{said}");
    assert!(said.contains("OPENHANDS_OFFLINE forbids"), "{said}");
    assert_eq!(index.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn an_index_that_cannot_be_reached_or_ends_early_is_reported() {
    if role().await {
        return;
    }
    let test = "an_index_that_cannot_be_reached_or_ends_early_is_reported";
    let machine = Machine::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/simple");
    let said = machine.provision(test, &[("PIP_INDEX_URL", url)]).await;
    assert!(said.contains("KIND IndexUnreachable"), "{said}");
    assert!(
        said.contains("PIP_INDEX_URL") && said.contains("uv could not be"),
        "{said}"
    );

    let (_, hash) = machine.wheel();
    let page = serde_json::json!({"files": [{"filename": WHEEL, "url": "/w",
        "hashes": {"sha256": hash}}]});
    let index = StandInIndex::start(move |path| match path {
        "/simple/uv/" => {
            let json = "Content-Type: application/json\r\n".to_owned();
            Some(("200 OK", json, page.to_string().into()))
        }
        // Only the first bytes of a longer file.
        _ => Some(("200 OK", String::new(), b"PK\x03\x04".to_vec())),
    })
    .await;
    let url = format!("http://127.0.0.1:{}/simple", index.port);
    let said = machine.provision(test, &[("PIP_INDEX_URL", url)]).await;
    assert!(
        said.contains("KIND Provision") && said.contains("checksum"),
        "{said}"
    );
    assert_eq!(machine.uv(), Vec::<String>::new());
}

/// The default index is reached over https, which a program that depends on this crate alone needs
/// as well.
#[tokio::test]
async fn an_index_over_https_needs_no_feature_of_another_crate() {
    if role().await {
        return;
    }
    let test = "an_index_over_https_needs_no_feature_of_another_crate";
    let machine = Machine::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/simple", listener.local_addr().unwrap());
    tokio::spawn(async move {
        // Not a TLS server.
        while let Ok((mut stream, _)) = listener.accept().await {
            let answered = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            answered.unwrap();
        }
    });
    let said = machine.provision(test, &[("PIP_INDEX_URL", url)]).await;
    assert!(said.contains("KIND IndexUnreachable"), "{said}");
    assert!(said.contains("TLS") && !said.contains("`tls`"), "{said}");
}

#[tokio::test]
async fn the_pip_of_an_old_python_fetches_uv_with_its_own_settings() {
    if role().await {
        return;
    }
    let test = "the_pip_of_an_old_python_fetches_uv_with_its_own_settings";
    let machine = Machine::new().await;
    let old = machine.path().join("bin/python3");
    let (wheel, _) = machine.wheel();
    let stored = machine.path().join("stored.whl");
    fs::write(&stored, wheel).unwrap();
    let facts = format!(
        r#"{{"version": [3, 8, 10], "executable": "{}", "venv": true, "pip": true, "server": null, "missing": []}}"#,
        old.display()
    );
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\ncase \"$*\" in\n*find_spec*) echo '{facts}' ;;\n\
         *'pip download'*)\nfor word; do [ \"$last\" != --dest ] || dest=$word; last=$word; done\n\
         echo \"$last\" >{}/pip-call\ncp {} \"$dest/{WHEEL}\" ;;\n*) exit 3 ;;\nesac\n",
        machine.path().display(),
        stored.display()
    );
    fs::write(&old, script).unwrap();
    fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).unwrap();
    let said = machine.provision(test, &[]).await;
    assert!(said.contains("MADE "), "{said}");
    assert!(said.contains("downloading uv with the pip of"), "{said}");
    let call = fs::read_to_string(machine.path().join("pip-call")).unwrap();
    assert_eq!(call.trim(), "uv==0.13.*");
    assert_eq!(machine.uv(), ["uv"]);
}

#[tokio::test]
async fn a_provisioner_killed_while_uv_fetches_python_ends_uv() {
    if role().await {
        return;
    }
    let test = "a_provisioner_killed_while_uv_fetches_python_ends_uv";
    let machine = Machine::new().await;
    fs::write(machine.path().join("mode"), "slow-python").unwrap();
    let index = machine.index(None).await;
    let url = format!("http://127.0.0.1:{}/simple", index.port);
    let mut maker = machine.start(test, &[("PIP_INDEX_URL", url)]);
    eventually("uv at work", || machine.calls().contains("python install")).await;
    maker.kill().unwrap();
    maker.wait().unwrap();
    let uv = machine.cache().join("uv/uv");
    let uv = uv.to_str().unwrap().to_owned();
    eventually("uv's end", || processes(&uv).is_empty()).await;
    // The stand-in has a child process; the real uv has none.
    for pid in processes(machine.path().to_str().unwrap()) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Uses the default index. The download of a Python by uv comes from another host, which may not be
/// reachable: then the error says so.
#[tokio::test]
async fn soak_the_default_index_provides_a_uv_that_works() {
    if role().await {
        return;
    }
    let test = "soak_the_default_index_provides_a_uv_that_works";
    let machine = Machine::new().await;
    let said = machine.provision(test, &[]).await;
    assert!(said.contains("downloading uv-0.13."), "{said}");
    let uv = machine.cache().join("uv/uv");
    let version = Command::new(uv).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.starts_with("uv 0.13."), "{version}");
    if !said.contains("MADE ") {
        let refused = said.contains("KIND IndexUnreachable");
        let remedy = said.contains("set UV_PYTHON_INSTALL_MIRROR");
        assert!(refused && remedy, "{said}");
    }
    for untouched in ["home", "tmp"] {
        let left = fs::read_dir(machine.path().join(untouched)).unwrap();
        assert_eq!(left.count(), 0, "{untouched}");
    }
}
