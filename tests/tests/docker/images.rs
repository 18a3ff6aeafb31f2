//! Images that the tests make. `cargo xtask containers` removes them.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use openhands::sandbox::DockerServerBuilder;
use openhands_tests::containers::{self, image, output, run};

use super::owners::role;

/// Returns the name of an image of this run.
pub(crate) fn named(name: &str) -> String {
    format!("oh-test-{name}:{}", run())
}

/// Returns a builder for a container with a stand-in for the server, which starts at once.
pub(crate) fn stand_in(tag: &str) -> DockerServerBuilder {
    containers::builder(tag).image(stand_in_image())
}

/// Returns the image with the stand-in, which the first caller imports. Owners find it imported.
pub(crate) fn stand_in_image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| match role() {
        Some(_) => named("stand-in"),
        None => import_stand_in(&|| Command::new("docker")),
    })
}

/// Imports the image with the stand-in. `docker` returns the engine's command.
pub(crate) fn import_stand_in(docker: &dyn Fn() -> Command) -> String {
    let program = env!("CARGO_BIN_EXE_container_stand_in");
    let entry = r#"ENTRYPOINT ["/server"]"#;
    import(docker, "stand-in", program, &["--change", entry])
}

/// Imports an image that contains this program as `/server`, its libraries, and `/etc`.
pub(crate) fn import(
    docker: &dyn Fn() -> Command,
    name: &str,
    program: &str,
    options: &[&str],
) -> String {
    let made = named(name);
    let place = tempfile::tempdir().unwrap();
    let mut packed = root(place.path(), program);
    let mut import = docker();
    import.arg("import").args(options).args(["-", &made]);
    let mut import = import
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = import.stdin.take().unwrap();
    input.write_all(&packed.output().unwrap().stdout).unwrap();
    drop(input);
    assert!(import.wait().unwrap().success());
    made
}

/// Creates the files of an image, and returns a command that prints them as an archive.
pub(crate) fn root(place: &Path, program: &str) -> Command {
    fs::create_dir(place.join("etc")).unwrap();
    fs::create_dir(place.join("tmp")).unwrap();
    fs::copy(program, place.join("server")).unwrap();
    let libraries = output(Command::new("ldd").arg(program));
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in libraries.map(PathBuf::from) {
        let copy = place.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
    let mut pack = Command::new("tar");
    pack.args(["--create", "--owner=0", "--group=0", "."])
        .current_dir(place);
    pack
}

/// Makes an image from the one under test: the same files, with these instructions. Returns its
/// name. Built without the client's own builder, which not every engine has.
pub(crate) fn derived(name: &str, instructions: &[&str]) -> String {
    let made = named(name);
    let mut build = Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0");
    build.args(["build", "--quiet", "--tag", &made, "-"]);
    let mut build = build
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = build.stdin.take().unwrap();
    writeln!(input, "FROM {}\n{}", image(), instructions.join("\n")).unwrap();
    drop(input);
    assert!(build.wait().unwrap().success(), "cannot build {made}");
    made
}
