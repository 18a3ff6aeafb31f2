//! Downloads uv into the cache, on a machine without a suitable Python. The download uses any
//! installed pip, or else the package index directly.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, task::spawn_blocking};

use crate::{
    Error, ErrorKind, Progress, Result,
    lock::lock,
    provision::{
        cache::make_directory,
        download::Downloader,
        index::{self, Index},
        install::{Watched, environment},
        interpreter,
    },
};

/// The uv release series that this crate was tested with.
const SERIES: &str = "0.13";
/// Name prefix of unfinished directories.
const UNFINISHED: &str = ".new-";

/// Path of uv in the cache.
pub(crate) const PATH: &str = "uv/uv";

/// The uv in the cache.
pub(crate) struct OwnUv<'a> {
    /// The cache directory.
    pub(crate) root: &'a Path,
    /// Maximum time without data from the index.
    pub(crate) patience: Duration,
    /// Timeout for uv to print its version.
    pub(crate) limit: Duration,
    pub(crate) report: &'a (dyn Fn(Progress) + Send + Sync),
}

impl OwnUv<'_> {
    fn directory(&self) -> PathBuf {
        self.root.join("uv")
    }

    /// Returns the path of uv, whether or not it exists.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(PATH)
    }

    /// Returns variables that make uv store its downloads in the cache and trust the certificates
    /// of the system, unless the user has set them. The home directory, which may not exist, stays
    /// unchanged.
    ///
    /// By default, uv trusts only the authorities that it contains. Behind a proxy with a private
    /// authority, this crate could download uv, but uv could not download anything.
    pub(crate) fn settings(&self) -> Vec<(OsString, OsString)> {
        [
            ("UV_PYTHON_INSTALL_DIR", self.root.join("python").into()),
            ("UV_CACHE_DIR", self.root.join("uv-cache").into()),
            ("UV_SYSTEM_CERTS", OsString::from("true")),
        ]
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .map(|(name, value)| (name.into(), value))
        .collect()
    }

    /// Returns uv, downloading it if it is missing. Uses the pip of one of these interpreters,
    /// which has the user's settings, or else the index. Concurrent downloads in several processes
    /// wait for each other.
    pub(crate) async fn obtain(&self, pips: &[PathBuf]) -> Result<PathBuf> {
        let path = self.path();
        if path.exists() {
            return Ok(path);
        }
        let directory = self.directory();
        let failed =
            |error| Error::directory(format!("cannot use {} for uv", directory.display()), error);
        make_directory(&directory).map_err(failed)?;
        let waiting = || (self.report)(Progress::Waiting);
        let _lock = lock(&self.root.join("uv.lock"), waiting)
            .await
            .map_err(failed)?;
        if path.exists() {
            return Ok(path);
        }
        // Files of a killed process: holding the lock proves that nobody else uses them.
        for entry in fs::read_dir(&directory).map_err(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _left_for_the_next = fs::remove_dir_all(entry.path());
            }
        }
        let place = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&directory)
            .map_err(failed)?;
        let wheel = self.fetch(pips, place.path()).await?;
        let fresh = place.path().join("uv");
        let (from, to) = (wheel, fresh.clone());
        let unpacked = spawn_blocking(move || unpack(&from, &to)).await;
        unpacked
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => Error::new(
                    ErrorKind::Provision,
                    "cannot unpack the downloaded uv wheel",
                )
                .with_source(error),
                _ => failed(error),
            })?;
        self.check(&fresh).await?;
        fs::rename(&fresh, &path).map_err(failed)?;
        Ok(path)
    }

    /// Downloads the wheel into `place`.
    async fn fetch(&self, pips: &[PathBuf], place: &Path) -> Result<PathBuf> {
        let (major, minor) = interpreter::OLDEST;
        let begin = |how: String| {
            (self.report)(Progress::Fetching(format!(
                "no Python {major}.{minor} or newer with venv was found; downloading uv {how}, to \
                 find or download one"
            )));
        };
        let mut refused = None;
        for python in pips {
            begin(format!("with the pip of {}", python.display()));
            match self.with_pip(python, place).await {
                Ok(wheel) => return Ok(wheel),
                Err(error) => refused = Some(error),
            }
        }
        let index = Index::configured(&|name| std::env::var(name).ok())?;
        begin(format!("from {}", index.host()));
        let fetched = self.with_index(&index, place).await;
        fetched.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::IndexUnreachable => "check the network and PIP_INDEX_URL, or i",
                ErrorKind::NoSpace => "free some space, or i",
                _ => "i",
            };
            let context = format!(
                "no Python {major}.{minor} or newer with venv was found, and uv could not be \
                 downloaded to fetch one: {error}; {hint}nstall Python {major}.{minor}+ or uv"
            );
            let tail = refused.map_or_else(Vec::new, |error| error.log_tail().to_vec());
            Error::new(error.kind(), context)
                .with_log_tail(tail)
                .with_source(error)
        })
    }

    async fn with_pip(&self, python: &Path, place: &Path) -> Result<PathBuf> {
        let mut command: Vec<OsString> = vec![python.into()];
        let download = [
            "-I",
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-input",
            "--progress-bar",
            "off",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "--retries",
            "2",
        ];
        command.extend(download.map(OsString::from));
        command.extend([
            "--dest".into(),
            place.into(),
            format!("uv=={SERIES}.*").into(),
        ]);
        let report = |line| (self.report)(Progress::Installing(line));
        let watched = Watched {
            command: &command,
            environment: environment(),
            directory: place,
            report: &report,
        };
        watched.run().await?;
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or_else(|| Error::new(ErrorKind::Provision, "pip did not download a uv wheel"))
    }

    async fn with_index(&self, index: &Index, place: &Path) -> Result<PathBuf> {
        let downloader = Downloader {
            index,
            patience: self.patience,
        };
        let page = downloader.page(index.project("uv")?, index::ACCEPT).await?;
        let (body, json, base) = page;
        let files = index::listing(&body, json, &base).ok_or_else(|| {
            let message = format!(
                "the response of {} is not a package index page",
                index.host()
            );
            Error::new(ErrorKind::Provision, message)
        })?;
        let wheel = index::choose(&files, "uv", SERIES, &index::fits).ok_or_else(|| {
            let message = format!("{} has no uv wheel for this platform", index.host());
            Error::new(ErrorKind::Provision, message)
        })?;
        let path = place.join("uv.whl");
        // Report every 5 %, so that the callback is not flooded.
        let step = std::sync::atomic::AtomicU64::new(0);
        let progress = |received: u64, total: Option<u64>| {
            let size = total.unwrap_or(20 << 20).max(20) / 20;
            let now = received / size + 1;
            if step.swap(now, std::sync::atomic::Ordering::Relaxed) != now {
                (self.report)(Progress::Downloading {
                    what: wheel.name.clone(),
                    received,
                    total,
                });
            }
        };
        downloader.file(wheel, &path, &progress).await?;
        Ok(path)
    }

    /// Checks that uv runs on this machine.
    async fn check(&self, uv: &Path) -> Result<()> {
        let mut command = Command::new(uv);
        command.arg("--version");
        let failed = |why: &str| {
            let message = format!("the downloaded uv {why}");
            Err(Error::new(ErrorKind::Provision, message))
        };
        match interpreter::run(command, self.limit).await {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => failed(&format!("fails with {}", output.status)),
            Err(failure) => failed(failure.reason()),
        }
    }
}

/// Extracts the program from the wheel.
fn unpack(wheel: &Path, to: &Path) -> io::Result<()> {
    let invalid = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    };
    let mut archive = zip::ZipArchive::new(fs::File::open(wheel)?).map_err(invalid)?;
    let name = archive
        .file_names()
        .flatten()
        .find(|name| name.ends_with(".data/scripts/uv"))
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the wheel does not contain the uv program",
            )
        })?;
    let mut program = archive.by_name(&name).map_err(invalid)?;
    let mut file = fs::File::create(to)?;
    io::copy(&mut program, &mut file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
