//! Makes an environment where it will stay, and marks it when it is whole.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::sleep,
};

use super::{Environment, Progress, Provisioner, exists, interpreter, on_path};
use crate::{Error, ErrorKind, Result};

/// Written last: an environment without it is half-made.
const MARKER: &str = "openhands-rs.complete";
/// The installer's last lines that an error shows.
const SHOWN: usize = 12;

pub(super) async fn provision(wanted: &Provisioner, cache: &Path) -> Result<Environment> {
    fs::create_dir_all(cache).map_err(|error| Error::io("make", cache, error))?;
    let directory = cache.join(name(wanted));
    // A finished environment is never changed, so it can be used without the lock.
    if let Some(environment) = check(wanted, &directory).await {
        wanted.report(Progress::Reused(directory));
        return Ok(environment);
    }
    let _lock = lock(wanted, &directory.with_extension("lock")).await?;
    if let Some(environment) = check(wanted, &directory).await {
        wanted.report(Progress::Reused(directory));
        return Ok(environment);
    }
    let half_made = Unfinished(&directory);
    remove(&directory)?;
    make(wanted, &directory).await?;
    let environment = check_packages(wanted, &directory).await.ok_or_else(|| {
        Error::new(
            ErrorKind::Provision,
            format!(
                "the packages were installed in {} but do not answer",
                directory.display()
            ),
        )
    })?;
    fs::write(directory.join(MARKER), wanted.packages().join("\n"))
        .map_err(|error| Error::io("write the marker in", &directory, error))?;
    half_made.keep();
    wanted.report(Progress::Created(directory));
    Ok(environment)
}

/// Removes what was half-made, unless it was finished.
struct Unfinished<'a>(&'a Path);

impl Unfinished<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What cannot be removed has no marker and is made anew next time.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// One environment for each version and each interpreter that was asked for by name.
fn name(wanted: &Provisioner) -> String {
    let mut name = format!("server-{}", wanted.version);
    if let Some(python) = &wanted.python {
        let text = python.to_string_lossy();
        let tag = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        name.push_str(&format!("-{tag:016x}"));
    }
    name
}

async fn lock(wanted: &Provisioner, path: &Path) -> Result<File> {
    let failed = |error| Error::io("lock", path, error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let file = file.map_err(failed)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if !std::mem::replace(&mut told, true) {
            wanted.report(Progress::Waiting);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn python_of(directory: &Path) -> PathBuf {
    directory.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    })
}

/// The environment, if it is whole and answers.
async fn check(wanted: &Provisioner, directory: &Path) -> Option<Environment> {
    let marked = fs::read_to_string(directory.join(MARKER)).ok()?;
    if marked != wanted.packages().join("\n") {
        return None;
    }
    check_packages(wanted, directory).await
}

/// Asks the environment for its packages, without importing them: that takes seconds.
async fn check_packages(wanted: &Provisioner, directory: &Path) -> Option<Environment> {
    let python = python_of(directory);
    let question = "import importlib.metadata as m, importlib.util as u, sys\n\
        assert u.find_spec('openhands.agent_server.__main__'.rsplit('.', 1)[0])\n\
        assert u.find_spec('uvicorn') and u.find_spec('litellm')\n\
        print(*(m.version(p) for p in sys.argv[1:]))";
    let output = Command::new(&python)
        .args(["-I", "-c", question])
        .args(["openhands-agent-server", "openhands-sdk", "openhands-tools"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let versions = String::from_utf8_lossy(&output.stdout);
    let right = versions
        .split_whitespace()
        .filter(|found| *found == wanted.version)
        .count()
        == 3;
    (output.status.success() && right).then_some(Environment { python })
}

fn remove(directory: &Path) -> Result<()> {
    if !exists(directory) {
        return Ok(());
    }
    fs::remove_dir_all(directory)
        .map_err(|error| Error::io("remove the half-made", directory, error))
}

async fn make(wanted: &Provisioner, directory: &Path) -> Result<()> {
    wanted.report(Progress::Searching);
    let candidates = wanted.candidates().await;
    let chosen = interpreter::choose(&candidates, wanted.python.is_some());
    let packages = wanted.packages();
    wanted.report(Progress::Creating(directory.to_owned()));
    if let Some(uv) = on_path("uv") {
        // uv can bring a Python of its own where none fits.
        let python = match (chosen, wanted.python.is_some()) {
            (Ok(python), _) => python,
            (Err(error), true) => return Err(error),
            (Err(_), false) => PathBuf::from("3.13"),
        };
        let mut venv = Command::new(&uv);
        venv.arg("venv").arg("--python").arg(python).arg(directory);
        run(wanted, venv).await?;
        let mut install = Command::new(&uv);
        install.args(["pip", "install", "--compile-bytecode", "--python"]);
        install.arg(python_of(directory)).args(packages);
        return run(wanted, install).await;
    }
    let mut venv = Command::new(chosen?);
    venv.args(["-I", "-m", "venv"]).arg(directory);
    run(wanted, venv).await?;
    let mut install = Command::new(python_of(directory));
    // Compiles to bytecode by itself.
    install
        .args([
            "-m",
            "pip",
            "install",
            "--no-input",
            "--progress-bar",
            "off",
        ])
        .args(packages);
    run(wanted, install).await
}

/// Runs a step of the installation with the user's own environment: it names the index.
async fn run(wanted: &Provisioner, mut command: Command) -> Result<()> {
    let shown = {
        let program = Path::new(command.as_std().get_program());
        program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let failed = |message: &str| Error::new(ErrorKind::Provision, format!("{shown}: {message}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Whoever sets this saves nothing here: without bytecode every start takes seconds more.
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("cannot be run").because(error))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("has no output"));
    };
    let mut tail = Vec::new();
    let mut out = BufReader::new(stdout).lines();
    let mut err = BufReader::new(stderr).lines();
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let line = tokio::select! {
            line = out.next_line(), if out_open => line.unwrap_or_default().or_else(|| {
                out_open = false;
                None
            }),
            line = err.next_line(), if err_open => line.unwrap_or_default().or_else(|| {
                err_open = false;
                None
            }),
        };
        if let Some(line) = line.filter(|line| !line.trim().is_empty()) {
            wanted.report(Progress::Installing(line.trim().to_owned()));
            if tail.len() == SHOWN {
                tail.remove(0);
            }
            tail.push(line);
        }
    }
    let status = child
        .wait()
        .await
        .map_err(|error| failed("cannot be waited for").because(error))?;
    if status.success() {
        return Ok(());
    }
    let text = tail.join("\n").to_lowercase();
    let offline = [
        "connection",
        "resolve",
        "timed out",
        "retries exceeded",
        "unreachable",
        "dns",
    ];
    let why = if text.contains("no matching distribution") || text.contains("no solution found") {
        "a package or version is not in the index, or the index cannot be reached"
    } else if offline.iter().any(|word| text.contains(word)) {
        "the package index cannot be reached"
    } else if text.contains("no space left") {
        "no space left on the disk"
    } else {
        "the packages cannot be installed"
    };
    Err(failed(why).with_exit(status.to_string()).with_log(tail))
}
