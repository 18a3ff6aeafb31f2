//! Operations of the server without a typed call, and why. `calls::Any` reaches them.

/// Operations without a typed call, by the reason why they have none.
pub(super) const BY_ANY: [(&str, &[&str]); 2] = [
    (
        "only the server's own web interface uses it",
        &[
            "POST /api/canvas-extensions/install",
            "GET /api/canvas-extensions/installed",
            "DELETE /api/canvas-extensions/installed/{extension_name}",
            "GET /api/canvas-extensions/installed/{extension_name}",
            "PATCH /api/canvas-extensions/installed/{extension_name}",
            "GET /api/canvas-extensions/installed/{extension_name}/backend",
            "DELETE /api/canvas-extensions/installed/{extension_name}/backend/data",
            "GET /api/canvas-extensions/installed/{extension_name}/backend/logs",
            "POST /api/canvas-extensions/installed/{extension_name}/backend/prepare",
            "POST /api/canvas-extensions/installed/{extension_name}/backend/start",
            "POST /api/canvas-extensions/installed/{extension_name}/backend/stop",
            "GET /api/canvas-extensions/installed/{extension_name}/bundle",
            "GET /api/canvas-extensions/installed/{extension_name}/icon",
            "DELETE /app-backends/{extension_name}/session",
            "POST /app-backends/{extension_name}/session",
        ],
    ),
    (
        "`Admin::gateway` gives any client of OpenAI's API the address and key",
        &[
            "POST /v1/chat/completions",
            "GET /v1/models",
            "POST /v1/responses",
        ],
    ),
];
