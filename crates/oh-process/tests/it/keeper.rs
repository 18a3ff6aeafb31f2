//! Scripts that a keeper runs for its owner.

use std::fs;

use oh_process::internal::Keeper;
use serde_json::json;

use crate::common::{eventually, python, runs};

/// The owner stops waiting, but the keeper completes its script: it may be removing what must not
/// be left behind.
#[tokio::test]
async fn a_script_that_takes_longer_than_its_owner_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (go, done) = (directory.path().join("go"), directory.path().join("done"));
    let script = format!(
        "import os, time\nsaid = str(os.getpid())\ndef end(orphaned):\n    while not \
         os.path.exists({}): time.sleep(0.01)\n    open({}, 'w').close()\n",
        json!(go),
        json!(done),
    );
    let keeper = Keeper::start(&python().await).await.unwrap();
    let pid = keeper.at_end(&script).await.unwrap().parse().unwrap();
    let closing = tokio::task::spawn_blocking(move || {
        keeper.close_blocking();
        keeper
    });
    let keeper = closing.await.unwrap();
    assert!(!keeper.is_alive());
    drop(keeper);
    assert!(runs(pid));
    fs::write(go, "").unwrap();
    eventually("the end of the keeper", || !runs(pid)).await;
    assert!(done.exists());
}
