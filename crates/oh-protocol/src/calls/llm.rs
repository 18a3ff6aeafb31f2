//! The models and providers that the server supports, and its login to a subscription.

mod subscription;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{call, query};
use crate::Request;

pub use subscription::{
    GetSubscription, ListSubscriptionModels, LoginChallenge, Logout, PollLogin, StartLogin,
    SubscriptionStatus,
};

/// `GET /api/llm/providers`: returns the names of the providers that the server supports, such as
/// `anthropic`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListProviders;

call!(ListProviders => Vec<String>, GET "/api/llm/providers", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/llm/providers"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        providers: Vec<String>,
    }
    answer.json::<Wire>("list of providers").map(|wire| wire.providers)
});

/// `GET /api/llm/models`: returns the names of the models that the server supports, as for
/// [`Llm::new`](crate::config::Llm::new). Models of Bedrock are included only if the server has AWS
/// credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct ListModels {
    provider: Option<String>,
}

impl ListModels {
    /// Creates a call for the models of all providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the result to one provider. An unknown provider has no models.
    pub fn provider(mut self, name: impl Into<String>) -> Self {
        self.provider = Some(name.into());
        self
    }
}

call!(ListModels => Vec<String>, GET "/api/llm/models", Idempotent;
|this| {
    let mut target = "/api/llm/models".to_owned();
    if let Some(provider) = &this.provider {
        query(&mut target, "provider", provider);
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        models: Vec<String>,
    }
    answer.json::<Wire>("list of models").map(|wire| wire.models)
});

/// `GET /api/llm/models/verified`: returns the models that were tested with OpenHands, by provider.
/// The names do not include the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListVerifiedModels;

call!(ListVerifiedModels => BTreeMap<String, Vec<String>>, GET "/api/llm/models/verified",
    Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/llm/models/verified"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        models: BTreeMap<String, Vec<String>>,
    }
    answer.json::<Wire>("list of verified models").map(|wire| wire.models)
});
