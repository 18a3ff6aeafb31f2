//! Selection of a socket by path and query.

use crate::fake::state::world::World;

/// A requested socket.
pub(crate) enum Kind {
    Session {
        id: uuid::Uuid,
        after: Option<i64>,
    },
    Legacy {
        id: uuid::Uuid,
        all: bool,
        since: Option<String>,
    },
    Bash {
        all: bool,
    },
}

/// Returns the requested socket, or `None` if the path is not a socket.
pub(crate) fn kind(
    world: &World,
    path: &str,
    query: &dyn Fn(&str) -> Option<String>,
) -> Option<Kind> {
    let mode = query("resend_mode");
    let all = mode.as_deref() == Some("all");
    let is_mode = matches!(mode.as_deref(), None | Some("all" | "since"));
    let segments: Vec<_> = path.split('/').skip(2).collect();
    match segments.as_slice() {
        ["session", id] if world.session_socket => Some(Kind::Session {
            id: id.parse().ok()?,
            after: match query("after_seq") {
                Some(after) => Some(after.parse().ok()?),
                None => None,
            },
        }),
        ["events", id] if is_mode => Some(Kind::Legacy {
            id: id.parse().ok()?,
            all,
            since: query("after_timestamp")
                .filter(|_| query("resend_mode").as_deref() == Some("since")),
        }),
        ["bash-events"] if is_mode => Some(Kind::Bash { all }),
        _ => None,
    }
}
