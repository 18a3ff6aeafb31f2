//! Futures of operations own all that they need, so that tasks can run them. Checked at compile
//! time: nothing here runs.

use oh_hooks::{DryRun, HookConfig, HookInput, SessionHooks};

fn spawns<F: Future<Output: Send> + Send + 'static>(_: F) {}

const _: fn(&DryRun, &HookConfig, &HookInput, SessionHooks) = |dry_run, hooks, input, session| {
    spawns(dry_run.run(hooks, input));
    spawns(session.end());
};
