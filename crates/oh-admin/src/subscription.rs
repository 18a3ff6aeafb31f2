//! The login of the server to a ChatGPT subscription.

use std::{fmt, future::IntoFuture, time::Duration};

use oh_protocol::calls::llm::{
    GetSubscription, ListSubscriptionModels, LoginChallenge, Logout, PollLogin, StartLogin,
    SubscriptionStatus,
};
use tokio::time::{sleep, timeout};

use crate::{Admin, Error, ErrorKind, Request, Result};

/// The subscription to ChatGPT that the server can use instead of an API key: see
/// [`Admin::subscription`].
///
/// A model uses it with [`Llm::subscription`](oh_protocol::config::Llm::subscription). The tokens
/// stay on the server.
#[derive(Debug, Clone)]
pub struct Subscription {
    admin: Admin,
}

impl Admin {
    /// Returns the subscription to ChatGPT that the server can use instead of an API key.
    pub fn subscription(&self) -> Subscription {
        Subscription {
            admin: self.clone(),
        }
    }
}

impl Subscription {
    /// Returns the names of the models that a subscription includes
    /// (`GET /api/llm/subscription/openai/models`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn models(&self) -> Request<Vec<String>> {
        let call = ListSubscriptionModels::default();
        self.admin.send("list the models of the subscription", call)
    }

    /// Returns whether the server is logged in (`GET /api/llm/subscription/openai/status`). The
    /// server renews an expired token. If it cannot reach the vendor, it reports that it is not
    /// logged in.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn status(&self) -> Request<SubscriptionStatus> {
        let call = GetSubscription::default();
        self.admin.send("read the status of the subscription", call)
    }

    /// Begins a login (`POST /api/llm/subscription/openai/device/start`). Show the URL and the code
    /// to the user, then [`wait`](Login::wait). The request is not repeated after an unclear
    /// failure.
    ///
    /// ```no_run
    /// # async fn login(client: &oh_transport::Client) -> oh_admin::Result<()> {
    /// let login = oh_admin::Admin::of(client).subscription().login().await?;
    /// println!("Open {} and enter {}.", login.url(), login.code());
    /// login.wait().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Server`](ErrorKind::Server) if the server cannot reach the vendor, and another
    /// error if the request fails.
    pub fn login(&self) -> Request<Login> {
        let admin = self.admin.clone();
        let before = self.status();
        Request::new(async move {
            let before = before.await?;
            let started = admin.send("begin the login", StartLogin::default());
            Ok(Login {
                challenge: started.await?,
                before,
                admin,
            })
        })
    }

    /// Deletes the tokens on the server (`POST /api/llm/subscription/openai/logout`). Also ends
    /// logins that are in progress.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn logout(&self) -> Request<SubscriptionStatus> {
        self.admin
            .send("log out of the subscription", Logout::default())
    }
}

/// A login that waits for the user: see [`Subscription::login`]. Dropping it does not end the
/// login.
#[derive(Clone)]
pub struct Login {
    admin: Admin,
    challenge: LoginChallenge,
    /// The status before the login.
    before: SubscriptionStatus,
}

impl Login {
    /// Returns the URL that the user opens.
    pub fn url(&self) -> &str {
        &self.challenge.verification_uri
    }

    /// Returns the code that the user enters there. Show it only to the user: with the code,
    /// anyone can log the server in to another account.
    pub fn code(&self) -> &str {
        &self.challenge.user_code
    }

    /// Returns the server's response to the start of the login.
    pub fn challenge(&self) -> &LoginChallenge {
        &self.challenge
    }

    /// Returns whether the user has entered the code
    /// (`POST /api/llm/subscription/openai/device/poll`). Call it at most once per
    /// [`interval`](LoginChallenge::interval).
    ///
    /// # Errors
    ///
    /// Returns [`LoginExpired`](ErrorKind::LoginExpired) if the code has expired, or the login was
    /// ended by [`Subscription::logout`]. Returns [`Server`](ErrorKind::Server) if the server
    /// cannot reach the vendor, and another error if the request fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future discards the response. If the login was completed by that request, the
    /// next poll finds out.
    pub fn poll(&self) -> Request<SubscriptionStatus> {
        let this = self.clone();
        Request::new(async move {
            let call = PollLogin::new(this.challenge.device_code.clone());
            let polled = this.admin.send("poll the login", call).await;
            match polled {
                Err(error) if error.kind() == ErrorKind::NotFound => this.ended(error).await,
                other => other,
            }
        })
    }

    /// Waits until the user has entered the code. Polls at the vendor's interval, and continues
    /// after temporary failures.
    ///
    /// # Errors
    ///
    /// Returns [`Timeout`](ErrorKind::Timeout) after the limit, with the last failure as its cause.
    /// Returns [`LoginExpired`](ErrorKind::LoginExpired) if the code has expired, and another error
    /// if a poll fails permanently.
    pub fn wait(&self) -> LoginWait {
        LoginWait {
            login: self.clone(),
            timeout: Duration::from_secs(15 * 60),
        }
    }

    /// Decides why the server does not have the login any more: an earlier poll has completed it,
    /// or the code has expired.
    async fn ended(&self, error: Error) -> Result<SubscriptionStatus> {
        let now = self.admin.subscription().status().await?;
        match now.connected && now.expires_at != self.before.expires_at {
            true => Ok(now),
            false => Err(Error::expired(error)),
        }
    }
}

// The codes are secret until they have been used.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// A wait for the user: see [`Login::wait`]. Await it for the result.
///
/// # Cancel safety
///
/// Dropping the future ends the wait, not the login. Another wait can follow.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent until it is awaited"]
pub struct LoginWait {
    login: Login,
    timeout: Duration,
}

impl LoginWait {
    /// Sets how long to wait. Default: 15 minutes, after which the code expires.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    async fn connected(self) -> Result<SubscriptionStatus> {
        let interval = self.login.challenge.interval.max(MIN_INTERVAL);
        let mut last = None;
        let polled = timeout(self.timeout, async {
            loop {
                match self.login.poll().await {
                    Ok(status) if status.connected => return Ok(status),
                    Ok(_) => last = None,
                    Err(error) if error.is_transient() => last = Some(error),
                    Err(error) => return Err(error),
                }
                sleep(interval).await;
            }
        });
        match polled.await {
            Ok(result) => result,
            Err(_) => Err(Error::timeout("wait for the login", self.timeout).with_cause(last)),
        }
    }
}

/// The minimum time between polls, if the server returns none.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

impl IntoFuture for LoginWait {
    type Output = Result<SubscriptionStatus>;
    type IntoFuture = Request<SubscriptionStatus>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.connected())
    }
}
