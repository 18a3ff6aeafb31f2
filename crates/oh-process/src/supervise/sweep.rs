//! Finds processes by a mark in their environment and kills them. A last resort, used only if the
//! keeper that normally does this was itself killed, or does not answer.

/// Kills every process whose environment contains `name=value`, except `spared`, until none is
/// left. Returns how many were killed.
#[cfg(target_os = "linux")]
pub(crate) fn kill_marked(name: &str, value: &str, spared: Option<u32>) -> u32 {
    use std::{collections::HashSet, fs, thread, time::Duration};

    use rustix::process::{Pid, Signal, kill_process};

    let mark = format!("{name}={value}");
    let marked = || {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let pids = pids.filter(|pid| spared != Some(pid.unsigned_abs()));
        pids.filter(|pid| {
            // The environment of a zombie is empty, so zombies are not counted.
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
                bytes
                    .split(|byte| *byte == 0)
                    .any(|var| var == mark.as_bytes())
            })
        })
        .collect::<Vec<_>>()
    };
    let mut killed = HashSet::new();
    for _ in 0..500 {
        let found = marked();
        if found.is_empty() {
            break;
        }
        for pid in found {
            if Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok()) {
                killed.insert(pid);
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    u32::try_from(killed.len()).unwrap_or(u32::MAX)
}

/// Does nothing: on other systems the environment of other processes is not accessible.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kill_marked(_name: &str, _value: &str, _spared: Option<u32>) -> u32 {
    0
}
