//! The account: settings, secrets, organizations and repositories.

use std::fmt;

use http::Method;
use oh_protocol::Repeat;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{
    Request, Result,
    hosted::{
        cloud::api::{Cloud, query, segment},
        plane::Ask,
    },
};

/// The settings of an account. `Debug` does not show them, because they can contain keys.
#[derive(Clone, PartialEq)]
pub struct CloudSettings(Value);

impl CloudSettings {
    /// Returns the name of the model, if one is chosen.
    pub fn llm_model(&self) -> Option<&str> {
        self.0["llm_model"].as_str()
    }

    /// Returns the base URL of the model, if one is set.
    pub fn llm_base_url(&self) -> Option<&str> {
        self.0["llm_base_url"].as_str()
    }

    /// Returns whether a key for the model is stored.
    pub fn has_llm_api_key(&self) -> bool {
        self.0["llm_api_key_set"].as_bool() == Some(true)
    }

    /// Returns all settings, as the service has sent them.
    pub fn raw(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudSettings")
            .field("llm_model", &self.llm_model())
            .finish_non_exhaustive()
    }
}

/// The name of a stored secret. The service does not return its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudSecret {
    /// The name.
    pub name: String,
    /// The description. Empty if there is none.
    pub description: String,
}

/// An organization that the user belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudOrganization {
    /// The id, for [`CloudBuilder::organization`](crate::CloudBuilder::organization).
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether it consists of the user only.
    pub is_personal: bool,
    /// Whether requests are for it by default.
    pub is_current: bool,
}

/// A repository of a provider that the account is connected with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudRepository {
    /// The owner and the name, such as `ada/engine`.
    pub full_name: String,
    /// The provider, such as `github`.
    pub provider: String,
    /// Whether everyone can read it.
    pub is_public: bool,
    /// The main branch. Empty if it is not reported.
    pub main_branch: String,
}

/// A branch of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudBranch {
    /// The name.
    pub name: String,
    /// The id of the newest commit.
    pub commit: String,
    /// Whether the provider protects the branch.
    pub is_protected: bool,
}

/// A page of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudPage<T> {
    /// The items.
    pub items: Vec<T>,
    /// The id of the next page, for [`GitSearch::page`]. `None` on the last page.
    pub next_page: Option<String>,
}

/// A search for repositories or branches.
#[derive(Debug, Clone)]
#[must_use]
pub struct GitSearch {
    provider: String,
    query: String,
    limit: u8,
    page: Option<String>,
}

impl GitSearch {
    /// Searches at a provider, such as `github`.
    pub fn new(provider: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            query: String::new(),
            limit: 30,
            page: None,
        }
    }

    /// Sets a part of the name. Default: all names.
    pub fn query(mut self, part: impl Into<String>) -> Self {
        self.query = part.into();
        self
    }

    /// Sets the number of items on a page, at most 100. Default 30.
    pub fn limit(mut self, items: u8) -> Self {
        self.limit = items.clamp(1, 100);
        self
    }

    /// Continues with this page. Default: the first one.
    pub fn page(mut self, id: impl Into<String>) -> Self {
        self.page = Some(id.into());
        self
    }

    fn encoded(&self, repository: Option<&str>) -> String {
        let limit = self.limit.to_string();
        let mut pairs = vec![("provider", self.provider.as_str()), ("limit", &limit)];
        pairs.extend(repository.map(|name| ("repository", name)));
        if !self.query.is_empty() || repository.is_some() {
            pairs.push(("query", &self.query));
        }
        pairs.extend(self.page.as_deref().map(|page| ("page_id", page)));
        query(pairs)
    }
}

impl Cloud {
    /// Returns the settings of the account.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn settings(&self) -> Request<CloudSettings> {
        let cloud = self.clone();
        Request::new(async move {
            let ask = Ask::get("/api/v1/settings", "/api/v1/settings");
            let answer = cloud.ask("cannot get the settings", ask).await?;
            Ok(CloudSettings(answer))
        })
    }

    /// Changes settings. An example is `{"agent_settings_diff": {"llm": {"model": "…"}}}`. Settings
    /// that are not named stay unchanged.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn save_settings(&self, changes: Value) -> Request<()> {
        let cloud = self.clone();
        Request::new(async move {
            let route = "/api/v1/settings";
            let ask = Ask::change(Method::POST, route, route).body(changes);
            cloud.ask("cannot save the settings", ask).await.map(drop)
        })
    }

    /// Returns the names of all stored secrets.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn secrets(&self) -> Request<Vec<CloudSecret>> {
        let cloud = self.clone();
        Request::new(async move {
            let doing = "cannot list the secrets";
            let items = cloud.all_pages(doing, "/api/v1/secrets/search").await?;
            let secrets = items.iter().map(|item| {
                Ok(CloudSecret {
                    name: cloud.needed(doing, item, "name")?,
                    description: text(item, "description"),
                })
            });
            secrets.collect()
        })
    }

    /// Stores a secret. It is an error if the name is in use.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn create_secret(
        &self,
        name: impl Into<String>,
        value: impl Into<SecretString>,
        description: impl Into<String>,
    ) -> Request<()> {
        let (cloud, name, value) = (self.clone(), name.into(), value.into());
        let description = description.into();
        Request::new(async move {
            let route = "/api/v1/secrets";
            let body = json!({"name": name, "value": value.expose_secret(),
                "description": description});
            let ask = Ask::create(route, route).body(body).hide(&value);
            cloud.ask("cannot store the secret", ask).await.map(drop)
        })
    }

    /// Changes the name and the description of a secret. Its value stays.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn rename_secret(
        &self,
        name: impl Into<String>,
        new_name: impl Into<String>,
        description: impl Into<String>,
    ) -> Request<()> {
        let (cloud, name, new_name) = (self.clone(), name.into(), new_name.into());
        let description = description.into();
        Request::new(async move {
            let (route, target) = secret_route(&name)?;
            let body = json!({"name": new_name, "description": description});
            // A repeated request would not find the old name.
            let ask = Ask::new(Method::PUT, route, target, Repeat::Never).body(body);
            cloud.ask("cannot change the secret", ask).await.map(drop)
        })
    }

    /// Deletes a secret.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call); [`NotFound`](crate::ErrorKind::NotFound) if it does not exist.
    pub fn delete_secret(&self, name: impl Into<String>) -> Request<()> {
        let (cloud, name) = (self.clone(), name.into());
        Request::new(async move {
            let (route, target) = secret_route(&name)?;
            let ask = Ask::change(Method::DELETE, route, target);
            cloud.ask("cannot delete the secret", ask).await.map(drop)
        })
    }

    /// Returns the organizations of the user.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn organizations(&self) -> Request<Vec<CloudOrganization>> {
        let cloud = self.clone();
        Request::new(async move {
            let doing = "cannot list the organizations";
            let ask = Ask::get("/api/organizations", "/api/organizations");
            let answer = cloud.ask(doing, ask).await?;
            let Some(items) = answer["items"].as_array() else {
                return Err(cloud.plane().malformed(doing, "items"));
            };
            let current = answer["current_org_id"].as_str();
            let organizations = items.iter().map(|item| {
                let id = cloud.needed(doing, item, "id")?;
                Ok(CloudOrganization {
                    is_current: current == Some(&id),
                    id,
                    name: text(item, "name"),
                    is_personal: item["is_personal"] == true,
                })
            });
            organizations.collect()
        })
    }

    /// Searches the repositories that the account can use.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn repositories(&self, search: GitSearch) -> Request<CloudPage<CloudRepository>> {
        let cloud = self.clone();
        Request::new(async move {
            let doing = "cannot search the repositories";
            let route = "/api/v1/git/repositories/search";
            let target = format!("{route}?{}", search.encoded(None));
            cloud
                .page(doing, Ask::get(route, target), |item| {
                    Ok(CloudRepository {
                        full_name: cloud.needed(doing, item, "full_name")?,
                        provider: text(item, "git_provider"),
                        is_public: item["is_public"] == true,
                        main_branch: text(item, "main_branch"),
                    })
                })
                .await
        })
    }

    /// Searches the branches of a repository, such as `ada/engine`.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn branches(
        &self,
        repository: impl Into<String>,
        search: GitSearch,
    ) -> Request<CloudPage<CloudBranch>> {
        let (cloud, repository) = (self.clone(), repository.into());
        Request::new(async move {
            let doing = "cannot search the branches";
            let route = "/api/v1/git/branches/search";
            let target = format!("{route}?{}", search.encoded(Some(&repository)));
            cloud
                .page(doing, Ask::get(route, target), |item| {
                    Ok(CloudBranch {
                        name: cloud.needed(doing, item, "name")?,
                        commit: text(item, "commit_sha"),
                        is_protected: item["protected"] == true,
                    })
                })
                .await
        })
    }

    async fn page<T>(
        &self,
        doing: &str,
        ask: Ask,
        decode: impl Fn(&Value) -> Result<T>,
    ) -> Result<CloudPage<T>> {
        let answer = self.ask(doing, ask).await?;
        let Some(items) = answer["items"].as_array() else {
            return Err(self.plane().malformed(doing, "items"));
        };
        Ok(CloudPage {
            items: items.iter().map(decode).collect::<Result<_>>()?,
            next_page: answer["next_page_id"].as_str().map(str::to_owned),
        })
    }

    fn needed(&self, doing: &str, item: &Value, name: &str) -> Result<String> {
        let found = item[name].as_str().filter(|found| !found.is_empty());
        let found = found.ok_or_else(|| self.plane().malformed(doing, name))?;
        Ok(found.to_owned())
    }
}

fn text(item: &Value, name: &str) -> String {
    item[name].as_str().unwrap_or_default().to_owned()
}

fn secret_route(name: &str) -> Result<(&'static str, String)> {
    let target = format!("/api/v1/secrets/{}", segment(name)?);
    Ok(("/api/v1/secrets/{secret_id}", target))
}
