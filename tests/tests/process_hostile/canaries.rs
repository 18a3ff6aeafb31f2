//! Secret test values, and the places in which they must not appear.

use std::{
    error::Error,
    fmt::{Debug, Display, Write as _},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Generates values that are unique to this test.
#[derive(Clone)]
pub(crate) struct Canaries(String);

impl Canaries {
    pub(crate) fn new() -> Self {
        let tag = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("canary-{}", &tag[..12]))
    }

    /// Returns the secret of this slot.
    pub(crate) fn of(&self, slot: &str) -> String {
        format!("{}-{slot}-0123456789", self.0)
    }

    /// Returns the secrets that these bytes contain, also in base64.
    pub(crate) fn within(&self, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let found = text.match_indices(&self.0);
        let around = |at: usize| text[at..].chars().take(60).collect::<String>();
        found.map(|(at, _)| around(at)).collect()
    }
}

/// Returns the environment and command line of every process that this user can read.
pub(crate) fn process_table() -> Vec<(PathBuf, Vec<u8>)> {
    let mut reported = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let number = process.file_name();
        if !number.to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        for name in ["environ", "cmdline"] {
            let path = process.path().join(name);
            // The process may have just ended.
            if let Ok(bytes) = fs::read(&path) {
                reported.push((path, bytes));
            }
        }
    }
    reported
}

/// Returns the parent of a process, or `None` if the process has ended.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself contain parentheses and spaces.
    let rest = stat.rsplit(')').next()?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Returns all files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut todo) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    found.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
                }
                _ => {}
            }
        }
    }
    found
}

/// Everything that is logged or may be displayed.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<u8>>>);

impl io::Write for Seen {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.add(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seen {
    fn add(&self, text: &[u8]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend_from_slice(text);
    }

    pub(crate) fn shown(&self, what: &(impl Display + ?Sized)) {
        self.add(format!("{what}\n{what:#}\n").as_bytes());
    }

    pub(crate) fn debug(&self, what: &impl Debug) {
        self.add(format!("{what:?}\n{what:#?}\n").as_bytes());
    }

    /// Records an error with all its sources.
    pub(crate) fn failed(&self, error: &(dyn Error + 'static)) {
        let mut text = String::new();
        let mut next = Some(error);
        while let Some(error) = next {
            writeln!(text, "{error}\n{error:?}\n{error:#?}").unwrap();
            next = error.source();
        }
        self.add(text.as_bytes());
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
