//! The process of a keeper, as its owner sees it.

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::{mem, path::Path, process::Child, thread};

/// How to wait for a keeper's process.
#[derive(Debug)]
pub(crate) enum Process {
    /// A child of this process.
    Child(Child),
    /// A child of a template process, which reaps it.
    #[cfg(target_os = "linux")]
    Forked(OwnedFd),
    /// Continues by itself.
    Left,
}

impl Process {
    /// Returns whether the process has ended, and reaps it.
    pub(crate) fn ended(&mut self, pid: u32) -> bool {
        match self {
            Self::Child(child) => match child.try_wait() {
                Ok(Some(_)) => true,
                Ok(None) => false,
                // Another part of this program has reaped it.
                Err(_) => {
                    !Path::new(&format!("/proc/{pid}")).exists() || !cfg!(target_os = "linux")
                }
            },
            #[cfg(target_os = "linux")]
            Self::Forked(process) => {
                let now = rustix::event::Timespec::default();
                let mut polled = [rustix::event::PollFd::new(
                    process,
                    rustix::event::PollFlags::IN,
                )];
                // A process that cannot be polled counts as ended.
                rustix::event::poll(&mut polled, Some(&now)) != Ok(0)
            }
            Self::Left => true,
        }
    }

    /// Leaves the process to itself. It is reaped when it ends.
    pub(crate) fn leave(&mut self) {
        if let Self::Child(mut child) = mem::replace(self, Self::Left) {
            thread::spawn(move || child.wait());
        }
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Child(child) => {
                let _gone = child.kill();
                let _gone = child.wait();
            }
            #[cfg(target_os = "linux")]
            Self::Forked(process) => {
                use rustix::process::{Signal, pidfd_send_signal};
                let _gone = pidfd_send_signal(&*process, Signal::KILL);
            }
            Self::Left => {}
        }
    }
}
