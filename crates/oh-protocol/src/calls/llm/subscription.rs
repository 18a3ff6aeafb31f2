//! The login to a ChatGPT subscription, with which the server calls OpenAI instead of an API key.

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Request,
    calls::{call, same_request, unmasked},
};

/// `GET /api/llm/subscription/openai/models`: returns the models that a subscription includes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListSubscriptionModels;

call!(ListSubscriptionModels => Vec<String>, GET "/api/llm/subscription/openai/models", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/llm/subscription/openai/models"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        models: Vec<String>,
    }
    answer.json::<Wire>("models of a subscription").map(|wire| wire.models)
});

/// Whether the server is logged in to a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// The vendor: `openai`.
    #[serde(default)]
    pub vendor: String,
    /// Whether the server is logged in.
    pub connected: bool,
    /// The account. Servers up to 1.58.2 omit it.
    #[serde(default)]
    pub account_email: Option<String>,
    /// The time at which the token expires, in milliseconds since 1970. The server then renews it.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

/// `GET /api/llm/subscription/openai/status`: returns whether the server is logged in. Renews an
/// expired token. A server that cannot renew the token, for example without network, is not
/// connected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct GetSubscription;

call!(GetSubscription => SubscriptionStatus, GET "/api/llm/subscription/openai/status", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/api/llm/subscription/openai/status"));
    |answer| answer.json("status of a subscription"));

/// `POST /api/llm/subscription/openai/device/start`: begins a login. The user opens a URL and
/// enters a code there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct StartLogin;

/// A login that waits for the user.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoginChallenge {
    /// The token for [`PollLogin`].
    pub device_code: SecretString,
    /// The code that the user enters. With the code, anyone can log the server in to another
    /// account.
    pub user_code: String,
    /// The URL that the user opens.
    pub verification_uri: String,
    /// The URL including the code. Servers up to 1.58.2 omit it.
    pub verification_uri_complete: Option<String>,
    /// The time at which the code expires, in milliseconds since 1970.
    pub expires_at: i64,
    /// The minimum time between two polls.
    pub interval: Duration,
}

// The codes are secret until they have been used.
impl fmt::Debug for LoginChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginChallenge")
            .field("verification_uri", &self.verification_uri)
            .field("expires_at", &self.expires_at)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

// Not retried: each request begins another login at the vendor.
call!(StartLogin => LoginChallenge, POST "/api/llm/subscription/openai/device/start", Never;
|_this| Ok(Request::new(http::Method::POST, "/api/llm/subscription/openai/device/start"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        device_code: SecretString,
        user_code: String,
        verification_uri: String,
        #[serde(default)]
        verification_uri_complete: Option<String>,
        expires_at: i64,
        interval_seconds: u32,
    }
    let wire: Wire = answer.json("start of a login")?;
    Ok(LoginChallenge {
        device_code: wire.device_code,
        user_code: wire.user_code,
        verification_uri: wire.verification_uri,
        verification_uri_complete: wire.verification_uri_complete,
        expires_at: wire.expires_at,
        interval: Duration::from_secs(wire.interval_seconds.into()),
    })
});

/// `POST /api/llm/subscription/openai/device/poll`: returns whether the user has entered the code,
/// and stores the tokens on the server if so. Returns 404 for a code that has expired or was used.
#[derive(Clone)]
pub struct PollLogin(SecretString);

impl PollLogin {
    /// Creates a call for the login with this [`device_code`](LoginChallenge::device_code).
    pub fn new(device_code: impl Into<SecretString>) -> Self {
        Self(device_code.into())
    }
}

same_request!(PollLogin);

impl fmt::Debug for PollLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollLogin").finish_non_exhaustive()
    }
}

// Not retried: after a poll that completes the login, the code is unknown.
call!(PollLogin => SubscriptionStatus, POST "/api/llm/subscription/openai/device/poll", Never;
    |this| {
        unmasked("device_code", &this.0)?;
        Request::new(http::Method::POST, "/api/llm/subscription/openai/device/poll")
            .json(&json!({"device_code": this.0.expose_secret()}))
    };
    |answer| answer.json("status of a subscription"));

/// `POST /api/llm/subscription/openai/logout`: deletes the tokens on the server, and ends logins
/// that are in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Logout;

call!(Logout => SubscriptionStatus, POST "/api/llm/subscription/openai/logout", Idempotent;
    |_this| Ok(Request::new(http::Method::POST, "/api/llm/subscription/openai/logout"));
    |answer| answer.json("status of a subscription"));
