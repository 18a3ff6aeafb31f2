//! Commands, files and git.

use openhands::workspace::LiveChunk;

use super::{
    error::{SceneError, ensure},
    stage::Stage,
};

pub(super) async fn commands(stage: &Stage) -> Result<(), SceneError> {
    let workspace = stage.workspace("commands").await?;
    let line = "echo one; echo two >&2; pwd; exit 3";
    let output = workspace.execute(line).env("NAME", "value").await?;
    let directory = stage.server().workspace_dir().join("commands");
    let expected = format!("one\n{}\n", directory.display());
    ensure(
        output.exit_code() == Some(3) && output.stdout() == expected,
        || format!("{output:?}"),
    )?;
    let secret = workspace.execute("test \"$TOKEN\" = canary");
    let output = secret.secret_env("TOKEN", "canary").await?;
    ensure(output.success(), || format!("{output:?}"))
}

pub(super) async fn live(stage: &Stage) -> Result<(), SceneError> {
    let workspace = stage.workspace("live").await?;
    let line = "printf 'a\\377'; until [ -e go ]; do sleep 0.05; done; printf b";
    let mut output = workspace.execute(line).live().await?;
    let mut seen = Vec::new();
    while let Some(chunk) = output.next().await {
        if let LiveChunk::Stdout(bytes) = chunk? {
            seen.extend_from_slice(&bytes);
            // The command ends only after its first output was seen.
            workspace.write("go", "").await?;
        }
    }
    ensure(seen == b"a\xffb", || format!("{seen:?}"))
}

pub(super) async fn files(stage: &Stage) -> Result<(), SceneError> {
    let workspace = stage.workspace("files").await?;
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    workspace.upload("a b").from_bytes(content.clone()).await?;
    let read = workspace.download("a b").bytes().await?;
    ensure(read == content, || "other bytes were returned".to_owned())
}

pub(super) async fn git(stage: &Stage) -> Result<(), SceneError> {
    let workspace = stage.workspace("git").await?;
    let line = "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a \
                && printf 'new\\n' >'a b'";
    let made = workspace.execute(line).await?;
    ensure(made.success(), || format!("{made:?}"))?;
    let changes = workspace.git().changes().await?;
    let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
    ensure(paths == ["a b"], || format!("{changes:?}"))?;
    let patch = workspace.git().patch().bytes().await?;
    let patch = String::from_utf8_lossy(&patch);
    ensure(patch.contains("+new"), || patch.clone().into_owned())
}
