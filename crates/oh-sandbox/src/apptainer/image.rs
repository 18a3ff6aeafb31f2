//! The file of an image: given, or converted from one of a registry.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use oh_process::internal::{Keeper, LogHub};

use crate::{
    Error, ErrorKind, Result,
    apptainer::command::{Image, Settings},
};

/// Returns the file of the image, and downloads the image if necessary.
pub(crate) async fn ensure(
    settings: &Settings,
    executable: &Path,
    keeper: &Keeper,
    logs: &LogHub,
) -> Result<PathBuf> {
    let name = match &settings.image {
        Image::File(path) if path.exists() => return absolute(path),
        Image::File(path) => {
            let message = format!("image file {} does not exist", path.display());
            return Err(Error::new(ErrorKind::NoImage, message));
        }
        Image::Registry(name) => name,
    };
    let directory = match &settings.cache {
        Some(cache) => absolute(cache)?,
        None => cache()?,
    };
    let stem: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || ".-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let file = directory.join(format!("{stem}.sif"));
    if file.exists() {
        return Ok(file);
    }
    let failed = |error: io::Error| {
        let message = format!("cannot use {} for images", directory.display());
        Error::new(ErrorKind::PullFailed, message).with_source(error)
    };
    fs::create_dir_all(&directory).map_err(failed)?;
    // A separate name, so that a file with the final name is complete.
    let id = uuid::Uuid::new_v4().simple();
    let partial = directory.join(format!("{stem}.{id}.part"));
    keeper.remove_at_end(&partial).map_err(failed)?;
    let command: [OsString; 4] = [
        executable.into(),
        "pull".into(),
        partial.clone().into(),
        format!("docker://{name}").into(),
    ];
    // With this user's variables, because these configure the registry's login and proxies.
    let environment: Vec<_> = env::vars_os().collect();
    let pulling = keeper.run(&command, &environment, &directory).await;
    let pulling = pulling.map_err(|error| Error::shared("cannot run apptainer pull", error))?;
    let report = pulling.finish(logs).await;
    if !report.success() || !partial.exists() {
        let message = format!(
            "cannot download image {name}: `apptainer pull` failed ({report}); check the name, the \
             network and the login to the registry"
        );
        let error = Error::new(ErrorKind::PullFailed, message).with_exit(report);
        return Err(error.with_log_tail(logs.tail()));
    }
    fs::rename(&partial, &file).map_err(failed)?;
    Ok(file)
}

/// Returns the default directory for images.
fn cache() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let own = set("OPENHANDS_CACHE_DIR");
    let user = || set("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
    let base = own.or_else(|| Some(user()?.join("openhands-rs")));
    let base = base.ok_or_else(|| {
        let message = "there is no home directory for images: set `cache_dir`";
        Error::new(ErrorKind::InvalidInput, message)
    })?;
    absolute(&base.join("apptainer"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("path {} is invalid", path.display());
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}
