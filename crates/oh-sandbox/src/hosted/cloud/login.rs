//! The device login of OpenHands Cloud: the user enters a code on a web page.

use std::{
    fmt,
    time::{Duration, Instant},
};

use http::StatusCode;
use oh_transport::Network;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::sleep;
use tracing::debug;
use url::Url;

use crate::{
    Error, ErrorKind, Request, Result,
    hosted::{
        cloud::{
            api::{Cloud, NAME, query},
            tokens::CloudToken,
        },
        owned,
        plane::{Access, Ask, Plane, retry_after},
    },
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Longest delay between two requests.
const LONGEST: Duration = Duration::from_secs(60);
/// Added to the delay when the service asks to slow down (RFC 8628).
const SLOWER: Duration = Duration::from_secs(5);

/// A login at OpenHands Cloud that waits for its user.
///
/// Show [`user_code`](Self::user_code) and [`verification_url`](Self::verification_url) to the
/// user, who opens the page in any browser and confirms the code. [`wait`](Self::wait) returns the
/// token then.
///
/// ```no_run
/// # async fn login() -> oh_sandbox::Result<()> {
/// use oh_sandbox::{DeviceLogin, TokenStore};
///
/// let login = DeviceLogin::builder().start().await?;
/// println!("Open {} and enter {}", login.verification_url(), login.user_code());
/// let token = login.wait().await?;
/// TokenStore::open()?.save(login.service_url(), &token)?;
/// # Ok(()) }
/// ```
pub struct DeviceLogin {
    plane: Plane,
    device_code: SecretString,
    user_code: String,
    page: Url,
    complete_page: Url,
    ends: Instant,
    interval: Duration,
}

/// Configures and starts a [`DeviceLogin`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct DeviceLoginBuilder {
    url: String,
    network: Option<Network>,
    timeout: Duration,
}

impl DeviceLogin {
    /// Creates a builder for a login.
    pub fn builder() -> DeviceLoginBuilder {
        DeviceLoginBuilder {
            url: Cloud::URL.to_owned(),
            network: None,
            timeout: Duration::from_secs(30),
        }
    }

    /// Returns the base URL of the service, without a slash at its end.
    pub fn service_url(&self) -> &str {
        self.plane.base_url()
    }

    /// Returns the code that the user enters.
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// Returns the page on which the user enters the code.
    pub fn verification_url(&self) -> &Url {
        &self.page
    }

    /// Returns the page with the code filled in, for a link or a QR code.
    pub fn complete_url(&self) -> &Url {
        &self.complete_page
    }

    /// Returns how long the code is valid from now on.
    pub fn valid_for(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Waits until the user has confirmed the code, and returns the token. Requests are sent as
    /// often as the service permits. Failures that may pass are tried again until the code expires.
    ///
    /// Cancel-safe until the user has confirmed the code: call it again to continue. The service
    /// returns a token only once.
    ///
    /// # Errors
    ///
    /// - [`LoginExpired`](ErrorKind::LoginExpired) if the code has expired. Start another login.
    /// - [`Forbidden`](ErrorKind::Forbidden) if the user has denied the login.
    /// - Other kinds if the service rejects the request, or its response is malformed.
    pub fn wait(&self) -> Request<CloudToken> {
        let (plane, ends, mut interval) = (self.plane.clone(), self.ends, self.interval);
        let code = self.device_code.clone();
        Request::new(async move {
            loop {
                if Instant::now() + interval >= ends {
                    return Err(expired());
                }
                sleep(interval).await;
                match poll(&plane, &code).await? {
                    Polled::Token(token) => return Ok(token),
                    Polled::Pending => {}
                    Polled::SlowDown(wanted) => interval = slower(interval, wanted),
                    Polled::Later(wait) => sleep(wait.min(LONGEST)).await,
                }
            }
        })
    }
}

impl DeviceLoginBuilder {
    /// Sets the base URL of the service. Default [`Cloud::URL`].
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Sets the network, for example one with a proxy. Default: one with default settings.
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Sets how long each request may take. Default 30 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Requests a code from the service.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not valid, or if the service cannot be reached, rejects the
    /// request or returns a malformed response.
    pub async fn start(self) -> Result<DeviceLogin> {
        let network = owned::network(self.network.as_ref())?;
        let access = Access {
            name: NAME,
            url: &self.url,
            header: "Authorization",
            scheme: "",
            key: None,
            headers: &[],
            timeout: self.timeout,
            patience: Duration::ZERO,
        };
        let plane = Plane::new(&access, &network)?;
        let doing = "cannot start a login";
        let route = "/oauth/device/authorize";
        let ask = Ask::create(route, route).body(serde_json::json!({}));
        let answer = plane.ask(doing, ask).await?;
        let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty());
        let needed = |name: &str| text(name).ok_or_else(|| plane.malformed(doing, name));
        let url = |name: &str, text: &str| {
            let url = Url::parse(text).ok();
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
            url.ok_or_else(|| plane.malformed(doing, name))
        };
        let user_code = oh_protocol::printable(needed("user_code")?).into_owned();
        let page = url("verification_uri", needed("verification_uri")?)?;
        let complete_page = match text("verification_uri_complete") {
            Some(text) => url("verification_uri_complete", text)?,
            None => {
                let mut complete = page.clone();
                complete
                    .query_pairs_mut()
                    .append_pair("user_code", &user_code);
                complete
            }
        };
        let seconds = |name: &str, default: f64| {
            let given = answer[name].as_f64().unwrap_or(default);
            Duration::try_from_secs_f64(given).unwrap_or(Duration::from_secs(5))
        };
        let valid = seconds("expires_in", 600.0).min(Duration::from_secs(24 * 3600));
        let device_code = needed("device_code")?.into();
        let interval = seconds("interval", 5.0).min(LONGEST);
        Ok(DeviceLogin {
            device_code,
            user_code,
            page,
            complete_page,
            ends: Instant::now() + valid,
            interval,
            plane,
        })
    }
}

enum Polled {
    Token(CloudToken),
    Pending,
    SlowDown(Option<Duration>),
    /// The service does not answer at the moment. How long it asks to wait.
    Later(Duration),
}

async fn poll(plane: &Plane, code: &SecretString) -> Result<Polled> {
    let doing = "cannot get the token of the login";
    let route = "/oauth/device/token";
    let form = query([("grant_type", GRANT), ("device_code", code.expose_secret())]);
    let ask = Ask::create(route, route).form(form).hide(code);
    let answer = match plane.exchange(doing, &ask).await {
        Err(error) if error.is_transient() => {
            debug!(%error, "asking for the token again");
            return Ok(Polled::Later(retry_after(&error).unwrap_or_default()));
        }
        asked => asked?,
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() {
        let token = CloudToken::of(&body);
        let token = token.ok_or_else(|| plane.malformed(doing, "access_token"));
        return token.map(Polled::Token);
    }
    match body["error"].as_str() {
        Some("authorization_pending") => Ok(Polled::Pending),
        Some("slow_down") => {
            let wanted = body["interval"].as_f64();
            let wanted = wanted.and_then(|wanted| Duration::try_from_secs_f64(wanted).ok());
            Ok(Polled::SlowDown(wanted))
        }
        Some("expired_token") => Err(expired()),
        Some("access_denied") => {
            let message = "the user has denied the login; start another one to try again";
            Err(Error::new(ErrorKind::Forbidden, message))
        }
        _ => {
            let error = plane.refused(doing, &ask, &answer);
            match error.is_transient() && answer.status != StatusCode::CONFLICT {
                true => Ok(Polled::Later(retry_after(&error).unwrap_or_default())),
                false => Err(error),
            }
        }
    }
}

/// Returns the delay after the service has asked to slow down.
fn slower(now: Duration, wanted: Option<Duration>) -> Duration {
    match wanted {
        Some(wanted) => wanted.max(now),
        None => now + SLOWER,
    }
    .min(LONGEST)
}

fn expired() -> Error {
    let message = "the code of the login has expired before the user has confirmed it; start \
                   another login";
    Error::new(ErrorKind::LoginExpired, message)
}

impl fmt::Debug for DeviceLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceLogin")
            .field("verification_url", &self.page.as_str())
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_slow_down_never_makes_the_delay_shorter() {
        let seconds = Duration::from_secs;
        assert_eq!(slower(seconds(5), None), seconds(10));
        assert_eq!(slower(seconds(5), Some(seconds(12))), seconds(12));
        assert_eq!(slower(seconds(5), Some(seconds(1))), seconds(5));
        assert_eq!(slower(seconds(58), None), LONGEST);
    }
}
