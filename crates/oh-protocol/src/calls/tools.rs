//! The tools that are available to agents on the server.

use serde::{Deserialize, Serialize};

use super::call;
use crate::{Answer, Request};

/// `GET /api/tools/`: returns the names of the registered tools.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListTools;

call!(ListTools => Vec<String>, GET "/api/tools/", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/api/tools/"));
    |answer| Answer::json(&answer, "names of tools"));

/// `GET /api/tools/catalog`: returns the tools for configuring an agent. Available on servers from
/// about 1.50 on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct GetCatalog;

call!(GetCatalog => Vec<CatalogEntry>, GET "/api/tools/catalog", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/tools/catalog"));
|answer| {
    #[derive(Deserialize)]
    struct Wire { tools: Vec<CatalogEntry> }
    answer.json::<Wire>("catalog of tools").map(|wire| wire.tools)
});

/// A tool in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct CatalogEntry {
    /// The name, for [`ToolSpec`](crate::config::ToolSpec).
    pub name: String,
    /// The description.
    #[serde(default)]
    pub description: String,
    /// Whether users can select the tool. The server omits `true`.
    #[serde(default = "yes")]
    pub user_selectable: bool,
    /// Whether the server can run the tool where conversations run.
    #[serde(default = "yes")]
    pub usable: bool,
    /// Whether the tool belongs to the server's default agent.
    #[serde(default)]
    pub in_default_set: bool,
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::Call;

    #[test]
    fn a_catalog_is_decoded_with_and_without_defaults() {
        let body = r#"{"tools":[{"name":"terminal","new":1},{"name":"x","usable":false}]}"#;
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), Bytes::from(body));
        let tools = GetCatalog.decode(answer).unwrap();
        assert!(tools[0].usable && tools[0].user_selectable && !tools[1].usable);
    }
}
