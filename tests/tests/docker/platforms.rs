//! Images for other processors, and engines that do not answer.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use openhands::sandbox::{DockerServerBuilder, Engine, ErrorKind};
use openhands_tests::containers::{output, run};
use serde_json::json;

use super::{
    engines::Private,
    images::{import_stand_in, named},
    owners::{ROLE, role},
};

/// The beginning of a program for Linux on 64-bit ARM.
fn foreign_program() -> Vec<u8> {
    let mut program = vec![0; 120];
    program[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    // An executable file, for this machine, of this version.
    program[16..24].copy_from_slice(&[2, 0, 0xb7, 0, 1, 0, 0, 0]);
    program
}

/// Loads an image with a program for ARM, whose configuration names this architecture.
fn load(engine: &Private, architecture: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let pack = |archive: &str, files: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--owner=0", "--group=0", "--file", archive]);
        output(tar.args(files).current_dir(place.path()));
    };
    let program = path("server");
    fs::write(&program, foreign_program()).unwrap();
    output(Command::new("chmod").arg("755").arg(&program));
    fs::create_dir(path("etc")).unwrap();
    fs::create_dir(path("tmp")).unwrap();
    pack("layer.tar", &["server", "etc", "tmp"]);
    let sum = output(Command::new("sha256sum").arg(path("layer.tar")));
    let sum = sum.split_whitespace().next().unwrap().to_owned();
    let name = named(&format!("foreign-{architecture}"));
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/server"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [&name], "Layers": ["layer.tar"]}
    ]);
    fs::write(path("config.json"), config.to_string()).unwrap();
    fs::write(path("manifest.json"), manifest.to_string()).unwrap();
    pack("image.tar", &["config.json", "manifest.json", "layer.tar"]);
    let image = path("image.tar");
    output(engine.docker().arg("load").arg("--input").arg(&image));
    name
}

#[tokio::test]
async fn images_for_another_processor() {
    let engine = Private::start(&[]);
    let own = Engine::at(&engine.address()).await.unwrap();
    let own = own.platform().strip_prefix("linux/").unwrap().to_owned();
    assert_ne!(own, "arm64", "the foreign program is one for ARM");
    let native = import_stand_in(&|| engine.docker());
    let (arm, mislabelled) = (load(&engine, "arm64"), load(&engine, &own));
    let before = engine.contents();
    let plain = |b: DockerServerBuilder| b;
    let for_arm = |b: DockerServerBuilder| b.platform("linux/arm64");
    for (case, image, change, part) in [
        // Found before a container is created.
        (
            "labelled",
            &arm,
            plain as fn(_) -> _,
            "set `platform` to linux/arm64",
        ),
        // The engine has the image for its own processor only.
        ("asked for", &native, for_arm, "does not match"),
        // The engine cannot run it: nothing emulates the processor.
        ("chosen", &arm, for_arm, "emulator"),
        ("mislabelled", &mislabelled, plain, "emulator"),
    ] {
        let start = change(engine.builder(image).await).start();
        let error = start.await.expect_err(case);
        assert_eq!(error.kind(), ErrorKind::WrongPlatform, "{case}: {error}");
        let shown = error.to_string();
        assert!(shown.contains(part), "{case}: {shown}");
        assert!(
            shown.contains("use an") || shown.contains("another image"),
            "{case}: {shown}"
        );
        assert_eq!(engine.contents(), before, "{case}");
    }
}

/// An address whose packets are lost, in a separate network.
#[test]
fn an_engine_whose_packets_are_lost() {
    let test = "platforms::an_engine_whose_packets_are_lost";
    if role().is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(lost());
    }
    let network = "ip link add void type bridge && ip addr add 192.0.2.1/24 dev void && \
                   ip link set void up && \
                   ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev void && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", network, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(ROLE, "lost")
        .env("OPENHANDS_TEST_RUN", run())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn lost() {
    let limit = Duration::from_secs(1);
    let address = "tcp://192.0.2.9:2375";
    let error = Engine::at(address).within(limit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEngine, "{error}");
    assert!(error.to_string().contains("within 1 s"), "{error}");
    // With TLS, the certificates are read first.
    let tls = Engine::at(address).certificates(Path::new("/nowhere"));
    let error = tls.within(limit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let ssh = Engine::at("ssh://192.0.2.9").within(limit);
    // Without the limit, the system waits for more than two minutes.
    let ended = tokio::time::timeout(Duration::from_secs(60), ssh).await;
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEngine, "{error}");
}
