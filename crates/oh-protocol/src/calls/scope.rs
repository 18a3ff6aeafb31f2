//! Where an operation acts: on the server as a whole, or in the workspace of one conversation.

use crate::ConversationId;

/// Where an operation on commands, files or git acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The whole server (`/api/…`).
    #[default]
    Server,
    /// The workspace of a conversation (`/api/conversations/{id}/…`): commands begin there and
    /// have a history of their own; a path outside is refused with 422.
    Conversation(ConversationId),
}

impl Scope {
    /// The conversation, if the scope is one.
    pub fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Server => None,
            Self::Conversation(id) => Some(*id),
        }
    }

    /// What the targets of its operations begin with.
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

/// Declares a call that acts in a [`Scope`]: like `call!`, with the route below the scope. The
/// type has a field `scope`; `$base` is what the target begins with.
macro_rules! scoped_call {
    (
        $name:ty => $output:ty, $method:ident $route:literal, $repeat:ident;
        |$this:ident, $base:ident| $request:expr;
        |$answer:ident| $decode:expr
    ) => {
        impl $name {
            /// Where it acts. Default: the whole server.
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
