//! Futures of operations own all that they need, so that tasks can run them. Checked at compile
//! time: nothing here runs.

use oh_admin::{Admin, Login};

fn spawns<F: Future<Output: Send> + Send + 'static>(_: F) {}

const _: fn(&Admin, &Login, &str) = |admin, login, name| {
    spawns(admin.models().list());
    spawns(admin.profiles().activate(name));
    spawns(admin.connections().list());
    spawns(admin.settings().get());
    spawns(admin.secrets().set(name, name));
    spawns(admin.mcp().list());
    spawns(admin.mcp().authorized(name).into_future());
    spawns(admin.agent_profiles().list());
    spawns(admin.plugins().installed());
    spawns(admin.skills().get(name));
    spawns(admin.meta_profiles().get(name));
    spawns(admin.workspaces().remove(name));
    spawns(admin.workspace_pages().open());
    spawns(admin.gateway());
    spawns(admin.subscription().login());
    spawns(login.poll());
    spawns(login.wait().into_future());
};
