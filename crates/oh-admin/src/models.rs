//! The models and providers that the server supports.

use std::collections::BTreeMap;

use oh_protocol::calls::llm::{ListModels, ListProviders, ListVerifiedModels};

use crate::{Admin, Request};

/// The models and providers that a server supports: see [`Admin::models`].
#[derive(Debug, Clone)]
pub struct Models {
    admin: Admin,
}

impl Admin {
    /// Returns the models and providers that the server supports.
    pub fn models(&self) -> Models {
        Models {
            admin: self.clone(),
        }
    }
}

impl Models {
    /// Returns the names of the supported providers, sorted (`GET /api/llm/providers`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn providers(&self) -> Request<Vec<String>> {
        let call = ListProviders::default();
        self.admin.send("list the providers", call)
    }

    /// Returns the names of all supported models, sorted (`GET /api/llm/models`). There are
    /// thousands. Models of Bedrock are included only if the server has AWS credentials.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<Vec<String>> {
        self.admin.send("list the models", ListModels::new())
    }

    /// Returns the names of a provider's models, sorted. An unknown provider has none.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn of_provider(&self, provider: impl Into<String>) -> Request<Vec<String>> {
        let call = ListModels::new().provider(provider);
        self.admin.send("list the models of a provider", call)
    }

    /// Returns the models that were tested with OpenHands, by provider
    /// (`GET /api/llm/models/verified`). The names do not include the provider.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn verified(&self) -> Request<BTreeMap<String, Vec<String>>> {
        let call = ListVerifiedModels::default();
        self.admin.send("list the verified models", call)
    }
}
