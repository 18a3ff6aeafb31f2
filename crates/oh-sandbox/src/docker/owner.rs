//! Identifies the process that owns a container, so that a later process can see whether the owner
//! still runs.

use std::fs;

/// Where a process runs, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The machine, and the namespace of its process ids.
    place: String,
    /// The start of the machine.
    boot: String,
    pid: u32,
    /// When the process was started, because process ids are used again.
    started: String,
}

impl Owner {
    /// Returns this process. Returns `None` on a system without `/proc`.
    pub(crate) fn this_process() -> Option<Self> {
        let read = |path: &str| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        let machine = read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname"))?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        let pid = std::process::id();
        Some(Self {
            place: format!("{machine}/{}", namespace.display()),
            boot: read("/proc/sys/kernel/random/boot_id")?,
            pid,
            started: started(pid)?,
        })
    }

    /// Returns the owner in the form of a label.
    pub(crate) fn label(&self) -> String {
        let Self {
            place,
            boot,
            pid,
            started,
        } = self;
        format!("{place} {boot} {pid} {started}")
    }

    pub(crate) fn parse(label: &str) -> Option<Self> {
        let mut words = label.rsplit(' ').map(str::to_owned);
        let (started, pid, boot) = (words.next()?, words.next()?, words.next()?);
        let rest: Vec<String> = words.collect();
        let place = rest.into_iter().rev().collect::<Vec<_>>().join(" ");
        Some(Self {
            place,
            boot,
            pid: pid.parse().ok()?,
            started,
        })
    }

    /// Returns whether the owner runs. `here` is this process. Returns `None` if the owner is on
    /// another machine or in another container, and so cannot be seen.
    pub(crate) fn runs(&self, here: &Self) -> Option<bool> {
        if self.place != here.place {
            return None;
        }
        if self.boot != here.boot {
            return Some(false);
        }
        Some(started(self.pid).as_ref() == Some(&self.started))
    }
}

/// Returns when a process was started, in ticks since the start of the machine.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain parentheses and blanks.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_and_a_machine_that_was_restarted_are_recognized() {
        let here = Owner::this_process().unwrap();
        let parsed = Owner::parse(&here.label()).unwrap();
        assert_eq!(parsed, here);
        assert_eq!(parsed.runs(&here), Some(true));
        let other = |change: fn(&mut Owner)| {
            let mut other = here.clone();
            change(&mut other);
            other.runs(&here)
        };
        assert_eq!(other(|o| o.started = "1".to_owned()), Some(false));
        assert_eq!(other(|o| o.pid = u32::MAX), Some(false));
        assert_eq!(other(|o| o.boot = "earlier".to_owned()), Some(false));
        assert_eq!(other(|o| o.place = "elsewhere".to_owned()), None);
        assert_eq!(Owner::parse("x"), None);
    }
}
