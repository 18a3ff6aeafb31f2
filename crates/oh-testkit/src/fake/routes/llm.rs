//! The models and providers that the server supports. The fake server has a few of the real ones.

use std::collections::BTreeMap;

use serde_json::json;

use crate::fake::{
    routes::{connections, subscription},
    state::world::World,
    wire::{
        known::undone,
        reply::{Answered, Call, ok},
    },
};

/// Models by provider. Their names do not include the provider.
const MODELS: [(&str, &[&str]); 2] = [("anthropic", &["claude-opus-5"]), ("openai", &["gpt-5.6"])];

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        (_, ["provider-connections", rest @ ..]) => connections::route(world, call, method, rest),
        (_, ["subscription", "openai", rest @ ..]) => {
            subscription::route(world, call, method, rest)
        }
        ("GET", ["providers"]) => {
            let names: Vec<_> = MODELS.iter().map(|(provider, _)| *provider).collect();
            Ok(ok(&json!({ "providers": names })))
        }
        ("GET", ["models"]) => {
            let wanted = call.query("provider");
            let fits = |provider: &str| wanted.as_deref().is_none_or(|wanted| wanted == provider);
            let models = MODELS.iter().filter(|(provider, _)| fits(provider));
            let models: Vec<_> = models.flat_map(|(_, models)| *models).collect();
            Ok(ok(&json!({ "models": models })))
        }
        ("GET", ["models", "verified"]) => {
            let models = MODELS.iter();
            let models: BTreeMap<_, _> = models.copied().collect();
            Ok(ok(&json!({ "models": models })))
        }
        _ => Err(undone(call).into()),
    }
}
