//! `cargo xtask image`: builds an image with the pinned server for the local engine.
//!
//! Needs no registry: the system is made of Debian packages, and the server is copied from the
//! environment that `oh provision` creates. The modules are compiled to bytecode there, and stay
//! valid because the copy keeps the times of all files.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{Result, cargo};

/// Debian's version with the Python that the environments of the server have.
const SUITE: &str = "trixie";
const PYTHON: &str = "python3.13";
/// The packages that an agent needs in addition to a minimal system.
const PACKAGES: &str = "python3,tmux,git,ca-certificates,tini,procps,less";
/// The user of the server, as in the image that the server's authors publish.
const USER: u32 = 10001;
/// Where the server is.
const HOME: &str = "opt/agent-server";
/// The label with the hash of everything that the image is built from.
const LABEL: &str = "rs.openhands.recipe";
/// Directories that no program of the image needs.
const USELESS: &[&str] = &[
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
];
/// Instructions for the metadata of the image.
const CHANGES: &[&str] = &[
    "ENTRYPOINT [\"tini\",\"--\",\"/opt/agent-server/bin/python\",\"-P\",\"-m\",\
     \"openhands.agent_server\"]",
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
     LC_ALL=C.UTF-8 LOG_JSON=true HOME=/home/openhands",
    "USER openhands",
    "WORKDIR /",
    "EXPOSE 8000",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the image even if the engine has it.
    #[arg(long)]
    force: bool,
    /// The engine's command: `docker` or `podman`.
    #[arg(long, default_value = "docker")]
    engine: String,
}

/// Returns the name of the image.
pub(crate) fn tag() -> Result<String> {
    Ok(format!("openhands-agent-server:{}-dev", version()?))
}

pub(crate) fn run(options: &Options) -> Result {
    let mut engine = || Command::new(&options.engine);
    ensure(&mut engine, options.force)
}

/// Builds the image unless the engine has it. `engine` returns the command of the engine.
pub(crate) fn ensure(engine: &mut dyn FnMut() -> Command, force: bool) -> Result {
    let begun = Instant::now();
    let tag = tag()?;
    if !force && is_current(&mut engine())? {
        cargo::say(&format!("image: {tag} is up to date"));
        return Ok(());
    }
    let place = cargo::root().join("target").join("xtask-image");
    let built = build(&place, &mut engine(), &tag, &recipe()?);
    // About 1 GB. If removal fails now, it is repeated before the next use.
    let _ = fs::remove_dir_all(&place);
    built?;
    let seconds = begun.elapsed().as_secs();
    cargo::say(&format!("image: built {tag} in {seconds} s"));
    Ok(())
}

/// Returns whether the engine has the image, built from the present recipe.
pub(crate) fn is_current(engine: &mut Command) -> Result<bool> {
    let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
    engine.args(["image", "inspect", "--format", &format, &tag()?]);
    let known = engine.output().map_err(|error| {
        format!("cannot run the engine's command: {error}; install docker.io or podman")
    })?;
    Ok(String::from_utf8_lossy(&known.stdout).trim() == recipe()?)
}

fn build(place: &Path, import: &mut Command, tag: &str, recipe: &str) -> Result {
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place).map_err(|error| failed("create", place, &error))?;
    let environment = environment()?;
    let packages = environment.join("lib").join(PYTHON).join("site-packages");
    if !packages.is_dir() {
        return Err(format!(
            "the server's environment {} does not have {PYTHON}, which Debian {SUITE} has; install \
             it, and create the environment again with `oh provision`",
            environment.display()
        ));
    }
    let root = place.join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]);
    // Uses the mirror that debootstrap is configured with.
    debootstrap.arg(&root).stdout(Stdio::null());
    cargo::run(debootstrap).map_err(|error| {
        format!("{error}; needs root and the package debootstrap (`apt-get install debootstrap`)")
    })?;
    for useless in USELESS {
        let _may_be_absent = fs::remove_dir_all(root.join(useless));
    }
    install(&root, &packages)?;
    let mut pack = Command::new("tar");
    pack.args(["--numeric-owner", "-c", "."]).current_dir(&root);
    let mut packing = pack
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    import.arg("import");
    let label = format!("LABEL {LABEL}={recipe}");
    for change in CHANGES.iter().copied().chain([label.as_str()]) {
        import.args(["--change", change]);
    }
    import.args(["-", tag]);
    import.stdin(packing.stdout.take().map_or_else(Stdio::null, Stdio::from));
    let status = import.stdout(Stdio::null()).status();
    let packed = packing.wait();
    match (status, packed) {
        (Ok(imported), Ok(packed)) if imported.success() && packed.success() => Ok(()),
        (imported, packed) => Err(format!(
            "cannot import the image: {imported:?}, tar: {packed:?}"
        )),
    }
}

/// Copies the server into the system, and adds its user.
fn install(root: &Path, packages: &Path) -> Result {
    let home = root.join(HOME);
    let library = home.join("lib").join(PYTHON);
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| failed("write", path, &error))
    };
    for directory in [&home.join("bin"), &library] {
        fs::create_dir_all(directory).map_err(|error| failed("create", directory, &error))?;
    }
    let config = "home = /usr/bin\ninclude-system-site-packages = false\n";
    write(&home.join("pyvenv.cfg"), config)?;
    let python = home.join("bin/python");
    symlink(format!("/usr/bin/{PYTHON}"), &python)
        .map_err(|error| failed("create", &python, &error))?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(packages).arg(&library);
    cargo::run(copy)?;
    let append = |name: &str, line: &str| {
        let path = root.join("etc").join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        write(&path, &format!("{text}{line}\n"))
    };
    let ids = format!("{USER}:{USER}");
    append(
        "passwd",
        &format!("openhands:x:{ids}::/home/openhands:/bin/bash"),
    )?;
    append("group", &format!("openhands:x:{USER}:"))?;
    for directory in ["home/openhands", "workspace"] {
        let path = root.join(directory);
        fs::create_dir_all(&path)
            .and_then(|()| chown(&path, Some(USER), Some(USER)))
            .map_err(|error| failed("create", &path, &error))?;
    }
    Ok(())
}

/// Returns the environment with the pinned server, which is created if it is missing.
fn environment() -> Result<PathBuf> {
    let mut command = cargo::cargo(&["run", "--quiet", "-p", "oh-cli", "--", "provision"]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run `oh provision`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`oh provision` failed: {}", output.status));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let root = Path::new(stdout.trim()).parent().and_then(Path::parent);
    let root = root.filter(|root| root.join("pyvenv.cfg").exists());
    root.map(Path::to_owned)
        .ok_or_else(|| format!("`oh provision` printed no environment: {stdout}"))
}

/// Returns the version of the pinned server.
fn version() -> Result<String> {
    let source = cargo::root().join("crates/oh-process/src/provision/requirements.rs");
    let text = fs::read_to_string(&source).map_err(|error| failed("read", &source, &error))?;
    let (_, rest) = text
        .split_once("pub const SERVER_VERSION: &str = \"")
        .ok_or("SERVER_VERSION is missing")?;
    rest.split('"')
        .next()
        .map(str::to_owned)
        .ok_or_else(|| "SERVER_VERSION is empty".to_owned())
}

/// Returns a hash of everything that the image is built from.
fn recipe() -> Result<String> {
    let version = version()?;
    let constraints = cargo::root()
        .join("crates/oh-process/constraints")
        .join(format!("{version}.txt"));
    let constraints =
        fs::read_to_string(&constraints).map_err(|error| failed("read", &constraints, &error))?;
    let mut hasher = DefaultHasher::new();
    // This file is the recipe.
    (include_str!("image.rs"), version, constraints).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {doing} {}: {error}", path.display())
}
