//! The last resort: finds processes by a mark in their environment and kills them. Used only
//! where the keeper that would have done it was itself killed.

/// Kills every process whose environment holds `name=value`, until none is found; how many.
#[cfg(target_os = "linux")]
pub(crate) fn kill_marked(name: &str, value: &str) -> u32 {
    use std::{collections::HashSet, fs, thread, time::Duration};

    use rustix::process::{Pid, Signal, kill_process};

    let mark = format!("{name}={value}");
    let marked = || {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            // A zombie's environment is empty, so the dead are not counted.
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

/// Elsewhere the environment of other processes is not to be had.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kill_marked(_name: &str, _value: &str) -> u32 {
    0
}
