//! Tools: which an agent can be given on this server.

use serde::Deserialize;

use super::call;
use crate::{Answer, Request};

/// `GET /api/tools/`: the names of the registered tools.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ListTools;

call!(ListTools => Vec<String>, GET "/api/tools/", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/api/tools/"));
    |answer| Answer::json(&answer, "names of tools"));

/// `GET /api/tools/catalog`: the tools for whoever configures an agent. Servers from about 1.50.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct GetCatalog;

call!(GetCatalog => Vec<CatalogEntry>, GET "/api/tools/catalog", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/tools/catalog"));
|answer| {
    #[derive(Deserialize)]
    struct Wire { tools: Vec<CatalogEntry> }
    answer.json::<Wire>("catalog of tools").map(|wire| wire.tools)
});

/// A tool of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CatalogEntry {
    /// Its name, as [`ToolSpec`](crate::config::ToolSpec) takes it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Whether users are to be offered it. The server leaves out `true`.
    #[serde(default = "yes")]
    pub user_selectable: bool,
    /// Whether the server can run it where conversations run.
    #[serde(default = "yes")]
    pub usable: bool,
    /// Whether the server's default agent has it.
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
    fn a_catalog_reads_with_and_without_its_defaults() {
        let body = r#"{"tools":[{"name":"terminal","new":1},{"name":"x","usable":false}]}"#;
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), Bytes::from(body));
        let tools = GetCatalog.decode(answer).unwrap();
        assert!(tools[0].usable && tools[0].user_selectable && !tools[1].usable);
    }
}
