//! The modules that a template imports.

/// Modules of the server. The template imports the modules that these import, but not these
/// themselves: the first reads the configuration and builds the server from it.
pub(crate) const MODULES: &str = "openhands.agent_server.api openhands.agent_server.__main__";

/// Libraries that a server imports when it begins to serve, and that keep no state of the importing
/// process. `browser_use` itself is not included: it creates its own directory in /tmp.
pub(crate) const LIBRARIES: &str = "uvicorn.protocols.http.auto \
    uvicorn.protocols.websockets.wsproto_impl uvicorn.lifespan.on psutil cdp_use bubus posthog \
    lmnr";
