//! Downloads from a registry on loopback: Debian's `docker-registry`, behind a proxy that can hold
//! the contents of an image.

use std::{
    fs,
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use openhands::sandbox::{DockerServer, DockerServerBuilder, Engine, ErrorKind, Progress, Pull};
use openhands_tests::containers::{eventually, output};
use tempfile::TempDir;

use super::{
    engines::Private,
    images::{import, named},
};

const PROGRAM: &str = "/usr/bin/docker-registry";
/// Bytes of a held answer that pass.
const PASSES: usize = 2 << 20;
/// Bytes of the image that do not become less by compression.
const NOISE: usize = 6 << 20;

/// A registry. It ends with this value.
struct Registry {
    daemon: Child,
    address: SocketAddr,
    _place: TempDir,
}

impl Registry {
    /// Starts a registry. With `closed`, it has no user that may download.
    fn start(closed: bool) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "there is no {PROGRAM}; install it (`apt-get install docker-registry`)"
        );
        let place = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let path = |name: &str| place.path().join(name).display().to_string();
        let mut settings = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n",
            path("data")
        );
        if closed {
            let users = path("users");
            settings.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {users}\n"
            ));
        }
        fs::write(path("config.yml"), settings).unwrap();
        // Ends with this process, also after `kill -9`.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", PROGRAM, "serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut registry = Self {
            daemon,
            address,
            _place: place,
        };
        eventually("a registry", || {
            let ended = registry.daemon.try_wait().unwrap();
            assert!(ended.is_none(), "the registry has ended: {ended:?}");
            TcpStream::connect(address).is_ok()
        });
        registry
    }

    /// Uploads an image, so that only the registry has it. Returns its digest.
    fn push(&self, engine: &Private, image: &str) -> String {
        let target = format!("{}/tests/server:1", self.address);
        output(engine.docker().args(["tag", image, &target]));
        output(engine.docker().args(["push", "--quiet", &target]));
        let format = "{{index .RepoDigests 0}}";
        let digest = output(
            engine
                .docker()
                .args(["inspect", "--format", format, &target]),
        );
        output(engine.docker().args(["rmi", "--force", &target, image]));
        let (_, digest) = digest.rsplit_once('@').unwrap();
        digest.to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended = (self.daemon.kill(), self.daemon.wait());
    }
}

/// A proxy that passes only the beginning of each answer with the contents of a layer, until it is
/// opened.
struct Held {
    address: SocketAddr,
    open: Arc<Mutex<bool>>,
    /// Receives a value when the beginning of a layer was passed.
    begun: mpsc::Receiver<()>,
    /// Receives a value when the engine has closed such a connection.
    closed: mpsc::Receiver<()>,
}

impl Held {
    fn start(registry: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(false));
        let (begins, begun) = mpsc::channel();
        let (closes, closed) = mpsc::channel();
        let state = open.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(registry).unwrap();
                let (open, begins, closes) = (state.clone(), begins.clone(), closes.clone());
                thread::spawn(move || pass(near, far, &open, &begins, &closes));
            }
        });
        Self {
            address,
            open,
            begun,
            closed,
        }
    }

    fn image(&self) -> String {
        format!("{}/tests/server:1", self.address)
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
    }

    /// Waits until the engine downloads the layer.
    fn begun(&self) {
        let limit = Duration::from_secs(60);
        self.begun.recv_timeout(limit).expect("no download began");
    }
}

/// Passes one request after the other, and the answers.
fn pass(
    mut near: TcpStream,
    far: TcpStream,
    open: &Mutex<bool>,
    begins: &mpsc::Sender<()>,
    closes: &mpsc::Sender<()>,
) {
    let asked_for_layer = Arc::new(Mutex::new(false));
    let (asks, mut requests) = (asked_for_layer.clone(), near.try_clone().unwrap());
    let mut onward = far.try_clone().unwrap();
    let upward = thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(length @ 1..) = requests.read(&mut buffer) {
            let request = String::from_utf8_lossy(&buffer[..length]);
            // The configuration of an image is a blob too, but a small one.
            *asks.lock().unwrap() = request.starts_with("GET") && request.contains("/blobs/");
            if onward.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ended = onward.shutdown(Shutdown::Both);
    });
    let (mut passed, mut holds, mut answers) = (0, false, far);
    let mut buffer = [0; 1 << 16];
    while let Ok(length @ 1..) = answers.read(&mut buffer) {
        passed += length;
        if near.write_all(&buffer[..length]).is_err() {
            break;
        }
        if passed > PASSES && *asked_for_layer.lock().unwrap() && !*open.lock().unwrap() {
            if !holds {
                begins.send(()).unwrap();
            }
            holds = true;
            while !*open.lock().unwrap() && !upward.is_finished() {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if upward.is_finished() {
            break;
        }
    }
    drop((near, answers));
    upward.join().unwrap();
    if holds {
        let _nobody_waits = closes.send(());
    }
}

/// Makes an image with the stand-in for the server, and with contents that are long to download.
fn image(engine: &Private) -> String {
    let stand_in = env!("CARGO_BIN_EXE_container_stand_in");
    let place = tempfile::tempdir().unwrap();
    let server = place.path().join("server");
    fs::copy(stand_in, &server).unwrap();
    let mut noise = vec![0; NOISE];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut noise).unwrap();
    // What follows a program is not read when it is started.
    let mut file = fs::File::options().append(true).open(&server).unwrap();
    file.write_all(&noise).unwrap();
    drop(file);
    let entry = ["--change", r#"ENTRYPOINT ["/server"]"#];
    let docker = || engine.docker();
    import(&docker, "download", server.to_str().unwrap(), &entry)
}

async fn builder(engine: &Private, image: &str) -> DockerServerBuilder {
    DockerServer::builder()
        .engine(Engine::at(&engine.address()).await.unwrap())
        .image(image)
        .network("host")
}

/// Returns the images, and what the engine has stored of unfinished downloads.
fn stored(engine: &Private) -> Vec<String> {
    let images = output(engine.docker().args(["images", "--all", "--quiet"]));
    let mut stored: Vec<String> = images.lines().map(str::to_owned).collect();
    for place in ["tmp", "image/overlay2/layerdb/tmp", "overlay2"] {
        let found = fs::read_dir(engine.path().join("data").join(place));
        let found = found.into_iter().flatten().flatten();
        let names = found.map(|entry| entry.file_name().to_string_lossy().into_owned());
        stored.extend(names.filter(|name| !matches!(&**name, "l" | "backingFsBlockDev")));
    }
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_with_its_progress() {
    let engine = Private::start(&[]);
    let registry = Registry::start(false);
    let digest = registry.push(&engine, &image(&engine));
    let held = Held::start(registry.address);
    let (sender, steps) = mpsc::channel();
    let builder = builder(&engine, &held.image()).await;
    let start = builder
        .on_progress(move |step| _ = sender.send(step))
        .start();
    let starting = tokio::spawn(start);
    held.begun();
    // While the rest is held, the part that has come is reported.
    let mut seen = Vec::new();
    eventually("a part is reported", || {
        seen.extend(steps.try_iter());
        seen.iter().any(|step| {
            matches!(step, Progress::Pulling { received, total, .. }
                if *received > 0 && received < total)
        })
    });
    held.open();
    let server = starting.await.unwrap().unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
    seen.extend(steps.try_iter());

    let shown = format!("{seen:#?}");
    let pulling = |step: &Progress| matches!(step, Progress::Pulling { .. });
    assert!(matches!(seen[0], Progress::Engine(_)), "{shown}");
    let pulled = seen.iter().skip(1).take_while(|step| pulling(step)).count();
    let rest = &seen[1 + pulled..];
    assert!(matches!(rest[0], Progress::Creating(_)), "{shown}");
    assert!(
        matches!(rest.last(), Some(Progress::Starting(_))),
        "{shown}"
    );
    assert!(!rest.iter().any(pulling), "{shown}");
    let mut statuses = Vec::new();
    let mut before = 0;
    for step in &seen[1..=pulled] {
        let Progress::Pulling {
            image,
            status,
            received,
            total,
        } = step
        else {
            unreachable!()
        };
        assert_eq!(*image, held.image());
        assert!(received <= total, "{shown}");
        if status == "Downloading" {
            assert!(before <= *received, "{shown}");
            before = *received;
        }
        statuses.push(status.as_str());
    }
    let at = |part: &str| {
        let found = statuses.iter().position(|status| status.starts_with(part));
        found.unwrap_or_else(|| panic!("{part} is not in {shown}"))
    };
    let order = [
        "Pulling from",
        "Downloading",
        "Download complete",
        "Extracting",
        "Pull complete",
    ];
    let order = order.map(at);
    assert!(order.is_sorted(), "{order:?} {shown}");
    let last = statuses.last().unwrap();
    assert!(
        last.starts_with("Status: Downloaded newer image"),
        "{shown}"
    );

    // The same image by its digest.
    output(engine.docker().args(["rmi", "--force", &held.image()]));
    assert_eq!(stored(&engine), [""; 0]);
    let by_digest = format!("{}/tests/server@{digest}", registry.address);
    let server = self::builder(&engine, &by_digest)
        .await
        .start()
        .await
        .unwrap();
    let format = ["inspect", "--format", "{{.Config.Image}}", server.id()];
    assert_eq!(output(engine.docker().args(format)), by_digest);
    server.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_dropped_during_its_download() {
    let engine = Private::start(&[]);
    let registry = Registry::start(false);
    registry.push(&engine, &image(&engine));
    let before = (engine.contents(), stored(&engine));
    assert_eq!(before.1, [""; 0]);
    let held = Held::start(registry.address);
    let starting = tokio::spawn(builder(&engine, &held.image()).await.start());
    held.begun();
    assert_ne!(
        stored(&engine),
        before.1,
        "nothing of the download is stored"
    );
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    // The layer is still held: the engine stops because the request has ended.
    let log = engine.path().join("log");
    eventually("the engine stops the download", || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("context canceled")
    });
    eventually("nothing is left of the download", || {
        (engine.contents(), stored(&engine)) == before
    });
    // Docker 20.10 closes its connection with the registry when it gets the next bytes.
    held.open();
    let limit = Duration::from_secs(30);
    held.closed.recv_timeout(limit).expect("the engine goes on");
    assert_eq!((engine.contents(), stored(&engine)), before);
    let server = builder(&engine, &held.image()).await.start().await.unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_a_registry_does_not_give() {
    let engine = Private::start(&[]);
    let (registry, closed) = (Registry::start(false), Registry::start(true));
    registry.push(&engine, &image(&engine));
    let before = (engine.contents(), stored(&engine));
    let unknown = format!("sha256:{}", "0".repeat(64));
    let (none, failed) = (ErrorKind::NoImage, ErrorKind::PullFailed);
    let at = registry.address;
    for (image, kind, part) in [
        (
            format!("{at}/tests/server:2"),
            none,
            "check the name and the tag",
        ),
        // The default tag.
        (
            format!("{at}/tests/server"),
            none,
            "check the name and the tag",
        ),
        (
            format!("{at}/tests/nothing:1"),
            none,
            "check the name and the tag",
        ),
        (
            format!("{at}/tests/server@{unknown}"),
            none,
            "check the name and the tag",
        ),
        (format!("{}/tests/server:1", closed.address), none, "log in"),
        // Nothing listens there.
        (
            "127.0.0.1:1/tests/server:1".to_owned(),
            failed,
            "reaches the registry",
        ),
        (named("Wrong Name"), ErrorKind::InvalidInput, "Wrong Name"),
    ] {
        for pull in [Pull::Missing, Pull::Always] {
            let start = builder(&engine, &image).await.pull(pull).start();
            let error = start.await.expect_err(&image);
            assert_eq!(error.kind(), kind, "{image}: {error}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.to_string().contains(&image), "{error}");
        }
    }
    assert_eq!((engine.contents(), stored(&engine)), before);
}
