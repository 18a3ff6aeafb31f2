//! Sockets of engines at their usual places.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixStream},
};

use openhands::sandbox::Engine;

use super::{
    engines::Private,
    owners::{Owner, role},
};

#[test]
fn an_engine_at_a_usual_place_is_found() {
    let test = "sockets::an_engine_at_a_usual_place_is_found";
    if let Some(expected) = role() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let engine = runtime.block_on(Engine::connect().into_future()).unwrap();
        return assert_eq!(engine.address(), expected);
    }
    let engine = Private::start(&[]);
    let socket = engine.path().join("engine.sock");
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    fs::create_dir_all(path(".docker/run")).unwrap();
    fs::create_dir_all(path("run/podman")).unwrap();
    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("XDG_RUNTIME_DIR", &path("run").display().to_string()),
        ("CONTAINER_HOST", ""),
        ("DOCKER_CONTEXT", ""),
    ];
    // A place that comes later is used only while there is no engine at those before it.
    for place in [
        "run/podman/podman.sock",
        ".docker/run/docker.sock",
        "run/docker.sock",
    ] {
        symlink(&socket, path(place)).unwrap();
        let expected = match UnixStream::connect("/var/run/docker.sock").is_ok() {
            true => "/var/run/docker.sock".into(),
            false => path(place),
        };
        let expected = format!("unix://{}", expected.display());
        assert!(
            Owner::start_with(&variables, test, &expected).wait(),
            "{place}"
        );
    }
}
