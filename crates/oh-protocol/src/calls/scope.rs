//! The scope of an operation: the whole server or the workspace of one conversation.

use crate::ConversationId;

/// The scope of an operation on commands, files or git.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The whole server (`/api/…`).
    #[default]
    Server,
    /// The workspace of a conversation (`/api/conversations/{id}/…`). Commands start in the
    /// workspace and have a separate history. The server rejects paths outside the workspace with
    /// 422.
    Conversation(ConversationId),
}

impl Scope {
    /// Returns the conversation id, if the scope is a conversation.
    pub fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Server => None,
            Self::Conversation(id) => Some(*id),
        }
    }

    /// Returns the prefix of the request targets in this scope.
    pub(crate) fn base(&self) -> String {
        match self {
            Self::Server => "/api".to_owned(),
            Self::Conversation(id) => format!("/api/conversations/{id}"),
        }
    }
}

impl From<ConversationId> for Scope {
    fn from(id: ConversationId) -> Self {
        Self::Conversation(id)
    }
}

/// Declares a call with a [`Scope`], like `call!`, with the route relative to the scope. The type
/// has a field `scope`, and `$base` is the prefix of the target.
macro_rules! scoped_call {
    (
        $name:ty => $output:ty, $method:ident $route:literal, $repeat:ident;
        |$this:ident, $base:ident| $request:expr;
        |$answer:ident| $decode:expr
    ) => {
        impl $name {
            /// The operations that this call can request: on the server, and in the workspace of a
            /// conversation.
            pub const OPERATIONS: &'static [$crate::Operation] = &[
                $crate::Operation::new(
                    http::Method::$method,
                    concat!("/api", $route),
                    $crate::Repeat::$repeat,
                ),
                $crate::Operation::new(
                    http::Method::$method,
                    concat!("/api/conversations/{runtime_conversation_id}", $route),
                    $crate::Repeat::$repeat,
                ),
            ];

            /// Sets the scope. Default: the whole server.
            pub fn scope(mut self, scope: impl Into<$crate::calls::Scope>) -> Self {
                self.scope = scope.into();
                self
            }
        }

        impl $crate::Call for $name {
            type Output = $output;

            fn operation(&self) -> $crate::Operation {
                let route = match self.scope {
                    $crate::calls::Scope::Server => concat!("/api", $route),
                    $crate::calls::Scope::Conversation(_) => {
                        concat!("/api/conversations/{runtime_conversation_id}", $route)
                    }
                };
                $crate::Operation::new(http::Method::$method, route, $crate::Repeat::$repeat)
            }

            fn request(&self) -> $crate::Result<$crate::Request> {
                let $this = self;
                let $base = self.scope.base();
                $request
            }

            fn decode(&self, $answer: $crate::Answer) -> $crate::Result<$output> {
                $decode
            }
        }
    };
}
pub(crate) use scoped_call;
