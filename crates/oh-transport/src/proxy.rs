//! Which proxy leads to a host. Opens nothing.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use crate::{Error, ErrorKind, Result, environment::Variables};

/// The proxies there are. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proxies {
    matcher: Arc<Matcher>,
    /// Whether the caller named the proxy. One that the environment names is not for loopback:
    /// a proxy cannot reach it, and a local server's key would be shown to a stranger.
    fixed: bool,
}

/// The proxy to take, and what it wants to see.
pub(crate) struct Hop {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxies {
    /// One proxy for everything.
    pub(crate) fn fixed(url: &str) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidInput,
                "the proxy is not a URL such as http://proxy:3128",
            )
        };
        let parsed = Url::parse(url).map_err(|error| invalid().with_source(error))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(invalid());
        }
        Ok(Self {
            matcher: Arc::new(Matcher::builder().all(url.to_owned()).build()),
            fixed: true,
        })
    }

    /// What the usual variables say, read as curl does: a lower-case name goes first, and
    /// `HTTP_PROXY` does not count in a CGI program, where a request can set it.
    pub(crate) fn ambient(variables: &Variables<'_>) -> Self {
        let read = |name: &str| {
            variables(&name.to_lowercase())
                .or_else(|| variables(name))
                .unwrap_or_default()
        };
        let http = match variables("REQUEST_METHOD") {
            Some(_) => variables("http_proxy").unwrap_or_default(),
            None => read("HTTP_PROXY"),
        };
        let matcher = Matcher::builder()
            .all(read("ALL_PROXY"))
            .http(http)
            .https(read("HTTPS_PROXY"))
            .no(read("NO_PROXY"));
        Self {
            matcher: Arc::new(matcher.build()),
            fixed: false,
        }
    }

    /// The proxy that leads to the host of `url` (`ws` counts as `http`), if one does.
    pub(crate) fn to(&self, url: &Url) -> Result<Option<Hop>> {
        if !self.fixed && is_local(url) {
            return Ok(None);
        }
        let scheme = match url.scheme() {
            "https" | "wss" => "https",
            _ => "http",
        };
        let host = url.host_str().unwrap_or_default();
        let Ok(uri) = format!("{scheme}://{host}/").parse::<Uri>() else {
            return Ok(None);
        };
        let Some(hop) = self.matcher.intercept(&uri) else {
            return Ok(None);
        };
        let scheme = hop.uri().scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the environment names a {scheme} proxy, and only http proxies can be used; set NO_PROXY for {host}"
                ),
            ));
        }
        Ok(Some(Hop {
            uri: hop.uri().clone(),
            authorization: hop.basic_auth().cloned(),
        }))
    }
}

fn is_local(url: &Url) -> bool {
    let local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    match url.host() {
        Some(Host::Ipv4(ip)) => local(ip.into()),
        Some(Host::Ipv6(ip)) => local(ip.into()),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], url: &str) -> Result<Option<String>> {
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        };
        let hop = Proxies::ambient(&read).to(&Url::parse(url).unwrap())?;
        Ok(hop.map(|hop| hop.uri.host().unwrap().to_owned()))
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let set = [
            ("HTTP_PROXY", "http://plain:1"),
            ("https_proxy", "http://secure:2"),
        ];
        let plain = Some("plain".to_owned());
        let secure = Some("secure".to_owned());
        assert_eq!(chosen(&set, "http://host/").unwrap(), plain);
        assert_eq!(chosen(&set, "ws://host/").unwrap(), plain);
        assert_eq!(chosen(&set, "https://host/").unwrap(), secure);
        assert_eq!(chosen(&set, "wss://host/").unwrap(), secure);
        assert_eq!(chosen(&[], "http://host/").unwrap(), None);
        let all = [("ALL_PROXY", "http://any:1")];
        assert_eq!(
            chosen(&all, "https://host/").unwrap(),
            Some("any".to_owned())
        );
    }

    #[test]
    fn no_proxy_names_hosts_domains_and_networks() {
        let set = [
            ("HTTP_PROXY", "http://p:1"),
            ("NO_PROXY", "direct, .corp.test,10.0.0.0/8"),
        ];
        for direct in [
            "http://direct/",
            "http://a.corp.test/",
            "http://10.1.2.3:8000/",
        ] {
            assert_eq!(chosen(&set, direct).unwrap(), None, "{direct}");
        }
        for through in [
            "http://indirect/",
            "http://corp.test.evil/",
            "http://11.1.2.3/",
        ] {
            assert!(chosen(&set, through).unwrap().is_some(), "{through}");
        }
        let all = [("HTTP_PROXY", "http://p:1"), ("no_proxy", "*")];
        assert_eq!(chosen(&all, "http://host/").unwrap(), None);
    }

    #[test]
    fn this_machine_is_never_reached_through_an_ambient_proxy() {
        let set = [("ALL_PROXY", "http://p:1")];
        for local in [
            "http://127.0.0.1:8000",
            "http://127.9.9.9",
            "http://[::1]:8000",
            "http://localhost",
            "ws://a.localhost",
            "http://0.0.0.0:8000",
        ] {
            assert_eq!(chosen(&set, local).unwrap(), None, "{local}");
        }
        let fixed = Proxies::fixed("http://p:1").unwrap();
        assert!(
            fixed
                .to(&Url::parse("http://127.0.0.1").unwrap())
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_cgi_request_cannot_choose_the_proxy() {
        let set = [("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen(&set, "http://host/").unwrap(), None);
    }

    #[test]
    fn a_proxy_of_another_kind_is_named_and_refused() {
        let error =
            chosen(&[("ALL_PROXY", "socks5://user:canary@p:1")], "http://host/").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("socks5") && !error.to_string().contains("canary"));
        for bad in ["", "proxy", "socks5://p:1", "http://"] {
            assert_eq!(
                Proxies::fixed(bad).err().unwrap().kind(),
                ErrorKind::InvalidInput
            );
        }
    }

    #[test]
    fn user_and_password_become_the_proxys_header_only() {
        let hop = Proxies::fixed("http://user:pass@p:1").unwrap();
        let hop = hop
            .to(&Url::parse("http://host").unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(hop.authorization.unwrap(), "Basic dXNlcjpwYXNz");
        assert!(!hop.uri.to_string().contains("pass"));
    }
}
