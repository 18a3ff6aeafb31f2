//! Overhead of the client: short commands against the raw endpoint, the latency of a command's end,
//! and files against curl. All rounds run on the real server, interleaved.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot measure has nothing better to do than to stop"
)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use oh_process::LocalServer;
use oh_protocol::calls::bash::{Execute, ExecuteRequest};
use oh_workspace::{Workspace, WorkspaceExt};
use secrecy::ExposeSecret;

const MIB: u64 = 1024 * 1024;

const LATE: &str = "end of a 250 ms command seen, 90th percentile";

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = LocalServer::builder().start().await.unwrap();
        let workspace = server.workspace(server.workspace_dir());
        let (times, commands, late) = if smoke { (1, 3, 3) } else { (5, 60, 20) };
        for _ in 0..times {
            short_commands(&server, &workspace, commands).await;
            ends(&workspace, late).await;
        }
        row(LATE, "promised", 15.0, "ms");
        let (size, rounds) = if smoke { (8 * MIB, 1) } else { (1024 * MIB, 3) };
        files(&server, &workspace, size, rounds).await;
        server.shutdown(Duration::from_secs(30)).await.unwrap();
    });
}

/// Measures `pwd`, through the client and through the server's synchronous endpoint.
async fn short_commands(server: &LocalServer, workspace: &Workspace, rounds: usize) {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let directory = server.workspace_dir().display().to_string();
    let call = Execute::new(ExecuteRequest::new("pwd").cwd(&directory));
    for round in 0..rounds + 3 {
        let begun = Instant::now();
        let output = workspace.execute("pwd").await.unwrap();
        let one = begun.elapsed();
        assert!(output.success());
        let begun = Instant::now();
        let answer = server.client().call(&call).await.unwrap();
        let other = begun.elapsed();
        assert_eq!(answer.exit_code, Some(0));
        // The first rounds include connecting.
        if round >= 3 {
            ours.push(milliseconds(one));
            raw.push(milliseconds(other));
        }
    }
    for (work, at) in [("pwd, median", 0.5), ("pwd, 90th percentile", 0.9)] {
        row(work, "ours", quantile(&mut ours, at), "ms");
        row(work, "execute_bash_command", quantile(&mut raw, at), "ms");
    }
}

/// Measures the time from the end of a command of 250 ms until the client reports it.
async fn ends(workspace: &Workspace, rounds: usize) {
    let mut late = Vec::new();
    for _ in 0..rounds {
        let output = workspace.execute("sleep 0.25; date +%s.%N").await.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ended: f64 = output.stdout().trim().parse().unwrap();
        late.push((now.as_secs_f64() - ended) * 1000.0);
    }
    row(LATE, "ours", quantile(&mut late, 0.9), "ms");
}

async fn files(server: &LocalServer, workspace: &Workspace, size: u64, rounds: usize) {
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    write_file(&source, size);
    let curl = Curl::new(server, local.path());
    // The server's first upload loads modules that later ones reuse.
    workspace.write("warm", vec![0; 4096]).await.unwrap();
    let target = local.path().join("target");
    for round in 0..rounds {
        // The first one in a round finds the disk busy with earlier writes.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let (begun, memory) = (Instant::now(), Memory::now());
                workspace.upload("ours").from_path(&source).await.unwrap();
                row("upload memory growth", "ours", memory.growth(), "MiB");
                speed("upload", "ours", size, begun);
            } else if let Some(curl) = &curl {
                let begun = Instant::now();
                curl.upload(&source, "curl");
                speed("upload", "curl", size, begun);
            }
        }
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let (begun, memory) = (Instant::now(), Memory::now());
                workspace.download("ours").to_path(&target).await.unwrap();
                row("download memory growth", "ours", memory.growth(), "MiB");
                speed("download", "ours", size, begun);
            } else if let Some(curl) = &curl {
                let begun = Instant::now();
                curl.download("ours", &target);
                speed("download", "curl", size, begun);
            } else {
                continue;
            }
            assert_eq!(fs::metadata(&target).unwrap().len(), size);
            fs::remove_file(&target).unwrap();
        }
    }
    for work in ["upload memory growth", "download memory growth"] {
        row(work, "promised", 16.0, "MiB");
    }
}

fn write_file(path: &Path, size: u64) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let block: Vec<u8> = (0..MIB).map(|byte| (byte % 251) as u8).collect();
    for _ in 0..size / MIB {
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
}

struct Curl {
    config: PathBuf,
    base: String,
    directory: String,
}

impl Curl {
    /// Returns `None` if curl is not installed.
    fn new(server: &LocalServer, local: &Path) -> Option<Self> {
        Command::new("curl").arg("--version").output().ok()?;
        let config = local.join("curl");
        let key = server.session_api_key().expose_secret();
        fs::write(&config, format!("header = \"X-Session-API-Key: {key}\"\n")).unwrap();
        Some(Self {
            config,
            base: server
                .client()
                .base_url()
                .as_str()
                .trim_end_matches('/')
                .to_owned(),
            directory: server.workspace_dir().display().to_string(),
        })
    }

    fn run(&self, arguments: &[&str], route: &str, name: &str) {
        let url = format!(
            "{}/api/file/{route}?path={}/{name}",
            self.base, self.directory
        );
        let status = Command::new("curl")
            .args(["--silent", "--fail", "--output"])
            .args(arguments)
            .arg("--config")
            .args([self.config.as_os_str(), url.as_ref()])
            .status()
            .unwrap();
        assert!(status.success(), "curl {route}: {status}");
    }

    fn upload(&self, source: &Path, name: &str) {
        let form = format!("file=@{}", source.display());
        self.run(&["/dev/null", "--form", &form], "upload", name);
    }

    fn download(&self, name: &str, target: &Path) {
        self.run(&[&target.display().to_string()], "download", name);
    }
}

/// The memory of this process when a transfer started, in MiB.
struct Memory(f64);

impl Memory {
    fn now() -> Self {
        // Resets the high-water mark.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        Self(status("VmRSS:"))
    }

    fn growth(&self) -> f64 {
        (status("VmHWM:") - self.0).max(0.01)
    }
}

fn status(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at).round() as usize]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn speed(work: &str, subject: &str, size: u64, begun: Instant) {
    let value = (size / MIB) as f64 / begun.elapsed().as_secs_f64();
    row(work, subject, value, "MiB/s");
}

fn row(work: &str, subject: &str, value: f64, unit: &str) {
    let row = serde_json::json!({ "work": work, "subject": subject, "value": value, "unit": unit });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{row}").unwrap();
}
