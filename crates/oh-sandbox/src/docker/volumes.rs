//! Checks that everything to mount exists.

use std::{fs, path::Path};

use crate::{
    Engine, Error, ErrorKind, Result,
    docker::{
        discover::Address,
        refused,
        settings::{Settings, Volume},
    },
};

/// Checks the volumes of a container. Engines create what is missing, and nobody would remove it:
/// Docker a named volume, Podman also a directory.
pub(crate) async fn check(engine: &Engine, settings: &Settings) -> Result<()> {
    let (named, bound): (Vec<&Volume>, _) =
        settings.volumes.iter().partition(|volume| volume.named);
    for Volume { source: name, .. } in named {
        match engine.docker.inspect_volume(name).await {
            Ok(_) => {}
            Err(error) if refused::is_missing(&error) => {
                let message = format!(
                    "the engine has no volume {name}; create it first, for example with `docker \
                     volume create {name}`"
                );
                return Err(Error::new(ErrorKind::NoVolume, message));
            }
            Err(error) => return Err(refused::error("cannot inspect a volume", error)),
        }
    }
    let missing = |volume: &&&Volume| matches!(Path::new(&volume.source).try_exists(), Ok(false));
    match bound.iter().find(missing) {
        Some(Volume { source, .. }) if engine.is_podman() && sees_our_files(engine).await => {
            let message = format!(
                "the directory or file {source} to mount does not exist; create \
                                   it first"
            );
            Err(Error::new(ErrorKind::NoVolume, message))
        }
        _ => Ok(()),
    }
}

/// Returns whether the engine certainly has the same files as this process: neither the engine is
/// on another machine, behind a forwarded socket, nor this process in a container.
async fn sees_our_files(engine: &Engine) -> bool {
    let (true, Ok(here)) = (
        listens_here(&engine.address).await,
        fs::read_to_string("/proc/sys/kernel/hostname"),
    ) else {
        return false;
    };
    let info = engine.docker.info().await;
    info.is_ok_and(|info| info.name.as_deref() == Some(here.trim()))
}

/// Returns whether a process that this one can see listens on the engine's socket.
#[cfg(unix)]
async fn listens_here(address: &Address) -> bool {
    let Address::Unix(path) = address else {
        return false;
    };
    let connected = tokio::net::UnixStream::connect(path).await;
    let peer = connected.and_then(|stream| stream.peer_cred());
    // The process id is zero if the process is outside the container of this one.
    peer.is_ok_and(|peer| peer.pid().is_some_and(|pid| pid != 0))
}

#[cfg(not(unix))]
async fn listens_here(_: &Address) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    /// Answers the requests of a client as an engine of this kind, on a machine with this name.
    async fn answer(listener: UnixListener, kind: &'static str, machine: String) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let machine = machine.clone();
            tokio::spawn(async move {
                let (mut request, mut part) = (String::new(), [0; 4096]);
                while let Ok(size @ 1..) = stream.read(&mut part).await {
                    request += &String::from_utf8_lossy(&part[..size]);
                    if !request.ends_with("\r\n\r\n") {
                        continue;
                    }
                    let version = r#""Version": "4.3.1", "ApiVersion": "1.41", "Os": "linux""#;
                    let body = match request.contains("/info") {
                        true => format!(r#"{{"Name": "{machine}"}}"#),
                        false => format!(
                            r#"{{"Components": [{{"Name": "{kind}", "Version": "1"}}], {version}}}"#
                        ),
                    };
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
                    let size = body.len();
                    let answer = format!("{head}Content-Length: {size}\r\n\r\n{body}");
                    let _closed = stream.write_all(answer.as_bytes()).await;
                    request.clear();
                }
            });
        }
    }

    #[tokio::test]
    async fn a_missing_directory_is_rejected_only_if_podman_would_create_it_here() {
        let here = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let here = here.trim();
        for (kind, machine, rejected) in [
            ("Podman Engine", here, true),
            ("Podman Engine", "another-machine", false),
            // Docker itself refuses a directory that is missing.
            ("Engine", here, false),
        ] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("engine.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let engine = tokio::spawn(answer(listener, kind, machine.to_owned()));
            let client = Engine::at(&format!("unix://{}", path.display())).await;
            let client = client.unwrap();
            let mounts = |source: &Path| Settings {
                volumes: vec![Volume::bind(source.to_str().unwrap(), "/x")],
                ..Settings::default()
            };
            check(&client, &mounts(place.path())).await.unwrap();
            let missing = place.path().join("missing");
            match check(&client, &mounts(&missing)).await {
                Ok(()) => assert!(!rejected, "{kind} {machine}"),
                Err(error) => {
                    assert!(rejected, "{kind} {machine}: {error}");
                    assert_eq!(error.kind(), ErrorKind::NoVolume);
                    assert!(error.to_string().contains("missing"), "{error}");
                }
            }
            engine.abort();
        }
    }
}
