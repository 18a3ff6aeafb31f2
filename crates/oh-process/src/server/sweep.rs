//! Finds and kills everything a server started, wherever it hides.
//!
//! Terminals have sessions of their own and tmux detaches itself, so neither the process group
//! nor the parent tells who belongs to a server. What all of them inherit is the environment:
//! every server gets a marker of its own there.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

/// The variable that marks a server's processes.
pub(super) const VARIABLE: &str = "OPENHANDS_RS_SERVER";

/// Kills all processes that carry the marker; says how many it saw.
pub(super) fn sweep(marker: &str) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    // A process may be forking while it is looked for, so one empty look is not enough.
    for _ in 0..50 {
        let found = marked(marker);
        if found.is_empty() {
            break;
        }
        for pid in found {
            seen.insert(pid);
            if let Some(pid) = Pid::from_raw(pid) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    seen.len()
}

/// The living processes of this user that carry the marker.
pub(super) fn marked(marker: &str) -> Vec<i32> {
    let needle = format!("{VARIABLE}={marker}");
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let carries = environ
                .split(|byte| *byte == 0)
                .any(|variable| variable == needle.as_bytes());
            carries.then_some(pid)
        })
        .collect()
}

/// Runs beside a server until its owner is gone, then kills what carries the marker and removes
/// the temporary directory. It learns of the owner's end by the end of its input, which no way
/// of dying can prevent.
pub(super) const WARDEN: &str = r#"
import os, shutil, signal, sys, time
marker, temporary = sys.argv[1].encode(), sys.argv[2]
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if sys.stdin.buffer.read() == b"done":
    sys.exit()
def marked():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open("/proc/" + name + "/environ", "rb") as file:
                    if marker in file.read().split(b"\0"):
                        yield int(name)
            except OSError:
                pass
quiet = 0
while quiet < 3:
    quiet += 1
    for pid in marked():
        quiet = 0
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.05)
if temporary:
    shutil.rmtree(temporary, ignore_errors=True)
"#;
