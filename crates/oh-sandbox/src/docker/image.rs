//! Finds or downloads an image, and checks that the engine can run it.

use std::collections::HashMap;

use bollard::{models::ImageInspect, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;

use crate::{
    Engine, Error, ErrorKind, Progress, Pull, Result,
    docker::{refused, settings::Settings},
};

/// Makes sure that the engine has the image. Cancel-safe: the engine stops a download when its
/// request is dropped.
pub(crate) async fn ensure(engine: &Engine, settings: &Settings) -> Result<()> {
    let image = &settings.image;
    if settings.pull == Pull::Always {
        pull(engine, settings).await?;
    }
    let found = match engine.docker.inspect_image(image).await {
        Ok(found) => found,
        Err(error) if refused::is_missing(&error) && settings.pull == Pull::Missing => {
            pull(engine, settings).await?;
            let found = engine.docker.inspect_image(image).await;
            found.map_err(|error| refused::error("cannot inspect the image", error))?
        }
        Err(error) if refused::is_missing(&error) => {
            let message = format!(
                "the engine does not have the image {image}; download or build it, or allow \
                 downloads with `pull`"
            );
            return Err(Error::new(ErrorKind::NoImage, message));
        }
        Err(error) => return Err(refused::error("cannot inspect the image", error)),
    };
    check_platform(engine.platform(), settings, &found)
}

/// Returns the entry point of an image, with this script of Python instead of the server's module.
pub(crate) async fn with_program(
    engine: &Engine,
    image: &str,
    script: &str,
) -> Result<Vec<String>> {
    let found = engine.docker.inspect_image(image).await;
    let found = found.map_err(|error| refused::error("cannot inspect the image", error))?;
    let config = found.config.unwrap_or_default();
    let parts = [config.entrypoint, config.cmd].into_iter().flatten();
    let command: Vec<String> = parts.flatten().collect();
    replaced(&command, script).ok_or_else(|| {
        let message = format!(
            "the image {image} does not start its server with `python -m openhands.agent_server`, \
             so its modules cannot be imported by a template; start servers without a template"
        );
        Error::new(ErrorKind::Unsupported, message)
    })
}

/// Replaces the server's module in a command, and the options of its interpreter.
fn replaced(command: &[String], script: &str) -> Option<Vec<String>> {
    let mut pairs = command.windows(2);
    let at = pairs.position(|pair| pair == ["-m", "openhands.agent_server"])?;
    let python = command.get(..at)?;
    let python = python.iter().rposition(|word| !word.starts_with('-'))?;
    let mut program = command.get(..=python)?.to_vec();
    // As a local template: the directory and the variables add nothing to the imported modules.
    program.extend(["-I", "-u", "-X", "utf8", script].map(str::to_owned));
    Some(program)
}

/// Checks the platform of an image, unless the caller has set one.
fn check_platform(engine: &str, settings: &Settings, image: &ImageInspect) -> Result<()> {
    let (Some(os), Some(arch)) = (&image.os, &image.architecture) else {
        return Ok(());
    };
    let found = format!("{os}/{arch}");
    if settings.platform.is_some() || found == engine || os.is_empty() || arch.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the image {} is for {found}, but the engine runs {engine}; use another image, or set \
         `platform` to {found} if the engine can emulate it",
        settings.image
    );
    Err(Error::new(ErrorKind::WrongPlatform, message))
}

async fn pull(engine: &Engine, settings: &Settings) -> Result<()> {
    let image = &settings.image;
    let mut options = CreateImageOptionsBuilder::new().from_image(image);
    // Without a tag, the engine would download all of them.
    let last = image.rsplit('/').next().unwrap_or(image);
    if !last.contains([':', '@']) {
        options = options.tag("latest");
    }
    if let Some(platform) = &settings.platform {
        options = options.platform(platform);
    }
    let mut steps = engine
        .docker
        .create_image(Some(options.build()), None, None)
        .boxed();
    let mut layers: HashMap<(String, String), (u64, u64)> = HashMap::new();
    while let Some(step) = steps.next().await {
        let step = step.map_err(|error| pull_failed(image, error))?;
        let status = step.status.unwrap_or_default();
        let detail = step.progress_detail.unwrap_or_default();
        let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        if let (Some(layer), Some(current)) = (step.id, bytes(detail.current)) {
            let total = bytes(detail.total).unwrap_or(current);
            layers.insert((status.clone(), layer), (current, total));
        }
        let of_step = layers.iter().filter(|((of, _), _)| *of == status);
        let (received, total) = of_step.fold((0, 0), |sum, (_, (current, total))| {
            (sum.0 + current, sum.1 + total)
        });
        settings.report.notify(Progress::Pulling {
            image: image.clone(),
            status,
            received,
            total,
        });
    }
    Ok(())
}

fn pull_failed(image: &str, error: bollard::errors::Error) -> Error {
    let failed = refused::error(format!("cannot download the image {image}"), error);
    match failed.kind() {
        ErrorKind::NoImage | ErrorKind::NotFound => {
            let message = format!(
                "the registry has no image {image}, or does not permit its download; check the \
                 name and the tag, or log in and download it with the engine's own command"
            );
            Error::new(ErrorKind::NoImage, message).with_source(failed)
        }
        ErrorKind::Engine | ErrorKind::Timeout => {
            let message = format!(
                "cannot download the image {image}; check that the engine reaches the registry, \
                 or build the image"
            );
            Error::new(ErrorKind::PullFailed, message).with_source(failed)
        }
        _ => failed,
    }
}

/// Removes an image that no container uses.
pub(crate) async fn remove(engine: &Engine, image: &str) -> Result<()> {
    match engine
        .docker
        .remove_image(
            image,
            None::<bollard::query_parameters::RemoveImageOptions>,
            None,
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if refused::is_missing(&error) => Ok(()),
        Err(error) => Err(refused::error(
            format!("cannot remove the image {image}"),
            error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_module_is_replaced_in_the_command_of_an_image() {
        let command = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let tini = "tini -- /venv/bin/python -P -m openhands.agent_server";
        assert_eq!(
            replaced(&command(tini), "/b.py").unwrap(),
            command("tini -- /venv/bin/python -I -u -X utf8 /b.py")
        );
        for other in [
            "tini -- /usr/local/bin/openhands-agent-server",
            "-m openhands.agent_server",
        ] {
            assert!(replaced(&command(other), "/b.py").is_none(), "{other}");
        }
    }

    #[test]
    fn an_image_of_another_platform_is_refused_unless_the_caller_chose_it() {
        let image = ImageInspect {
            os: Some("linux".to_owned()),
            architecture: Some("arm64".to_owned()),
            ..ImageInspect::default()
        };
        let mut settings = Settings::default();
        let error = check_platform("linux/amd64", &settings, &image).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongPlatform);
        assert!(error.to_string().contains("linux/arm64"), "{error}");
        check_platform("linux/arm64", &settings, &image).unwrap();
        settings.platform = Some("linux/arm64".to_owned());
        check_platform("linux/amd64", &settings, &image).unwrap();
    }
}
