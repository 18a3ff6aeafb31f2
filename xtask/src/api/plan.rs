//! The plan: names, documentation and decisions that an OpenAPI document does not contain. The
//! shapes of the data come from the document.

mod acp;
mod meta_profiles;
mod plugins;
mod sub_agents;
mod workspaces;

use super::terms::Module;

/// All generated modules.
pub(super) const MODULES: [&Module; 5] = [
    &acp::MODULE,
    &meta_profiles::MODULE,
    &plugins::MODULE,
    &sub_agents::MODULE,
    &workspaces::MODULE,
];
