//! Builds an image from a directory with a `Dockerfile`.

use std::{collections::VecDeque, path::Path};

use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::StreamExt;
use tracing::debug;

use crate::{Engine, Error, ErrorKind, Request, Result, docker::refused};

/// Number of lines of the output that an error contains.
const LINES: usize = 200;

impl Engine {
    /// Builds an image with this name from a directory that contains a `Dockerfile`. Use it to add
    /// programs or tools to the image of the server: `FROM` that image, `COPY`, `RUN`. Pass the
    /// name to [`image`](crate::DockerServerBuilder::image).
    ///
    /// The whole directory is sent to the engine, and held in memory until then. The engine
    /// downloads the image after `FROM` if it does not have it, and reuses unchanged steps. The
    /// lines of the output are logged by `tracing`. The image stays, unless
    /// [`remove_image`](crate::DockerServerBuilder::remove_image) is set.
    ///
    /// ```no_run
    /// # async fn run() -> oh_sandbox::Result<()> {
    /// use oh_sandbox::{DockerServer, Engine};
    ///
    /// let engine = Engine::connect().await?;
    /// engine.build("sandbox", "my-agent-server:1").await?;
    /// let server = DockerServer::builder().image("my-agent-server:1").start().await?;
    /// # drop(server); Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`] if the directory cannot be read or has no `Dockerfile`.
    /// - [`ErrorKind::NoImage`] if the image after `FROM` does not exist.
    /// - [`ErrorKind::Engine`] if a step fails. [`Error::log_tail`] has the output.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the build.
    pub fn build(&self, directory: impl AsRef<Path>, name: impl Into<String>) -> Request<()> {
        let (engine, name) = (self.clone(), name.into());
        let directory = directory.as_ref().to_owned();
        Request::new(async move {
            let shown = directory.display().to_string();
            let packed = tokio::task::spawn_blocking(move || pack(&directory)).await;
            let packed = packed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let context = packed.map_err(|error| {
                let message = format!("cannot build an image from the directory {shown}: {error}");
                Error::new(ErrorKind::InvalidInput, message).with_source(error)
            })?;
            engine.build_from(context, &name).await
        })
    }

    async fn build_from(&self, context: Vec<u8>, name: &str) -> Result<()> {
        let options = BuildImageOptionsBuilder::new()
            .t(name)
            .rm(true)
            .forcerm(true);
        let body = bollard::body_full(context.into());
        let mut steps = self
            .docker
            .build_image(options.build(), None, Some(body))
            .boxed();
        let mut tail = VecDeque::new();
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| {
                let error = refused::error(format!("cannot build the image {name}"), error);
                error.with_log_tail(tail.iter().cloned().collect())
            })?;
            let output = step.stream.unwrap_or_default();
            for line in output.lines().filter(|line| !line.trim().is_empty()) {
                debug!(target: "openhands::server", "{line}");
                if tail.len() == LINES {
                    tail.pop_front();
                }
                tail.push_back(line.to_owned());
            }
        }
        Ok(())
    }
}

/// Returns an archive of the directory.
fn pack(directory: &Path) -> std::io::Result<Vec<u8>> {
    if !directory.join("Dockerfile").is_file() {
        return Err(std::io::Error::other("it contains no file `Dockerfile`"));
    }
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", directory)?;
    archive.into_inner()
}
