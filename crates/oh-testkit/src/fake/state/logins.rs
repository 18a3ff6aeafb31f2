//! The logins to a subscription.

/// How long a code is valid, in milliseconds.
pub(crate) const WITHIN: u64 = 15 * 60 * 1000;

/// The logins of a server.
#[derive(Default)]
pub(crate) struct Logins {
    pub(crate) pending: Vec<Login>,
    /// The time until which the server is logged in, in milliseconds since 1970.
    pub(crate) connected_until: Option<u64>,
}

/// A login that waits for the user.
pub(crate) struct Login {
    pub(crate) device_code: String,
    pub(crate) user_code: String,
    pub(crate) expires_at: u64,
    pub(crate) approved: bool,
}
