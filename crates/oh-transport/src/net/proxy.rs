//! Selection of the proxy for a target. Contains no I/O.
//!
//! Proxy settings are parsed once. An invalid setting is an error when it would be used; it never
//! results in a direct connection.

use std::{ffi::OsStr, net::IpAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use url::Url;

use super::Target;
use crate::{Error, ErrorKind, Result, environment::Variables};

/// The configured proxies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proxies(Arc<Inner>);

struct Inner {
    http: Choice,
    https: Choice,
    direct: Choice<NoProxy>,
    /// Whether the caller set the proxy. A proxy from the environment is not used for loopback: it
    /// cannot reach this machine, and the key of a local server would be exposed to it.
    fixed: bool,
}

/// A setting: absent, parsed, or the reason why it is invalid. Never contains an unparsed value.
#[derive(Clone)]
enum Choice<T = Hop> {
    Unset,
    Set(T),
    Invalid(&'static str, &'static str),
}

/// A proxy and its credentials.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) encrypted: bool,
    /// The host, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxies {
    /// Creates a setting with one proxy for every target.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if `url` is not the URL of an HTTP proxy.
    pub(crate) fn fixed(url: &str) -> Result<Self> {
        let hop = Hop::parse(url, false).map_err(|why| invalid("proxy", why, ""))?;
        Ok(Self(Arc::new(Inner {
            http: Choice::Set(hop.clone()),
            https: Choice::Set(hop),
            direct: Choice::Unset,
            fixed: true,
        })))
    }

    /// Reads the proxies from the usual variables. A lower-case name takes precedence, and an empty
    /// value counts as unset. Unlike curl, upper-case `HTTP_PROXY` is used too, except in a CGI
    /// program (`REQUEST_METHOD` is set), where a request could set it.
    pub(crate) fn ambient(variables: &Variables<'_>) -> Self {
        let cgi = variables("REQUEST_METHOD").is_some();
        let proxy =
            |names: &[&'static str]| read(variables, names, |value| Hop::parse(value, true));
        let all = proxy(&["all_proxy", "ALL_PROXY"]);
        let or_all = |choice| match choice {
            Choice::Unset => all.clone(),
            choice => choice,
        };
        Self(Arc::new(Inner {
            http: or_all(proxy(if cgi {
                &["http_proxy"]
            } else {
                &["http_proxy", "HTTP_PROXY"]
            })),
            https: or_all(proxy(&["https_proxy", "HTTPS_PROXY"])),
            direct: read(variables, &["no_proxy", "NO_PROXY"], |list| {
                Ok(NoProxy::parse(list))
            }),
            fixed: false,
        }))
    }

    /// Returns whether no proxy is configured, so that every connection is direct.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(
            (&self.0.http, &self.0.https),
            (Choice::Unset, Choice::Unset)
        )
    }

    /// Returns the proxy for a target, if any. `ws` counts as `http`.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the setting for the target is invalid.
    pub(crate) fn to(&self, target: &Target<'_>) -> Result<Option<&Hop>> {
        let Inner {
            http,
            https,
            direct,
            fixed,
        } = &*self.0;
        let choice = match target.scheme {
            "https" | "wss" => https,
            _ => http,
        };
        if matches!(choice, Choice::Unset) || !fixed && is_local(target.host) {
            return Ok(None);
        }
        match direct {
            Choice::Set(list) if list.covers(target) => return Ok(None),
            Choice::Invalid(name, why) => return Err(invalid(name, why, "")),
            _ => {}
        }
        match choice {
            Choice::Unset => Ok(None),
            Choice::Set(hop) => Ok(Some(hop)),
            Choice::Invalid(name, why) => Err(invalid(
                name,
                why,
                &format!("; correct or unset it, or add {} to NO_PROXY", target.host),
            )),
        }
    }
}

fn invalid(setting: &str, why: &str, hint: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("invalid {setting} (value hidden): {why}{hint}"),
    )
}

/// Parses the first of these variables that is not empty.
fn read<T>(
    variables: &Variables<'_>,
    names: &[&'static str],
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Choice<T> {
    let set = names.iter().find_map(|name| {
        let value = variables(name)?;
        (!value.is_empty()).then_some((*name, value))
    });
    let Some((name, value)) = set else {
        return Choice::Unset;
    };
    let text = OsStr::to_str(&value).ok_or("must be valid UTF-8");
    match text.and_then(parse) {
        Ok(parsed) => Choice::Set(parsed),
        Err(why) => Choice::Invalid(name, why),
    }
}

impl Hop {
    /// Parses the URL of a proxy. If `lenient` is set, `proxy:3128` means `http://proxy:3128`, the
    /// usual notation in variables.
    fn parse(text: &str, lenient: bool) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("must not be blank or contain control characters");
        }
        let bare = lenient && !text.contains("://");
        let url = if bare {
            Url::parse(&format!("http://{text}"))
        } else {
            Url::parse(text)
        };
        let url = url.map_err(|_| "must be a URL such as http://proxy:3128")?;
        let encrypted = match url.scheme() {
            "http" => false,
            "https" => true,
            "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err("must be an http:// or https:// proxy; SOCKS is not supported");
            }
            _ => return Err("must begin with http:// or https://"),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(
                "must not have a path, query or fragment; percent-encode special characters in \
                 the password",
            );
        }
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default();
        let (false, Some(port)) = (host.is_empty(), port) else {
            return Err("must name a host");
        };
        Ok(Self {
            encrypted,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authorization: authorization(&url)?,
        })
    }
}

/// Converts the user and password of a URL to the value of `Proxy-Authorization`.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, &'static str> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    if credentials.contains(&b':') {
        return Err("must not have a colon in the user name");
    }
    credentials.push(b':');
    credentials.extend(percent_decode_str(url.password().unwrap_or_default()));
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials)));
    let mut value = value.map_err(|_| "must have credentials that fit into a header")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The targets that are reached directly, from `NO_PROXY`.
///
/// Entries are separated by commas or spaces. An entry is `*`, a domain (which includes its
/// subdomains, with or without a leading `.` or `*.`), an address, or a network such as
/// `10.0.0.0/8`. An entry that ends in `:port` applies to that port only.
#[derive(Clone)]
struct NoProxy(Vec<(Option<u16>, Arc<Matcher>)>);

impl NoProxy {
    fn parse(list: &str) -> Self {
        let mut by_port: Vec<(Option<u16>, String)> = Vec::new();
        let entries = list.split(|c: char| c == ',' || c.is_whitespace());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let (host, port) = split_port(entry);
            let host = host.trim_end_matches('.');
            let host = host
                .strip_prefix('*')
                .filter(|rest| rest.starts_with('.'))
                .unwrap_or(host);
            match by_port.iter_mut().find(|(known, _)| *known == port) {
                Some((_, hosts)) => *hosts = format!("{hosts},{host}"),
                None => by_port.push((port, host.to_owned())),
            }
        }
        let matcher = |hosts: String| {
            // The proxy URL is a placeholder: only whether the matcher selects a proxy is used.
            let matcher = Matcher::builder().all("http://proxy.invalid").no(hosts);
            Arc::new(matcher.build())
        };
        let rules = by_port
            .into_iter()
            .map(|(port, hosts)| (port, matcher(hosts)));
        Self(rules.collect())
    }

    fn covers(&self, target: &Target<'_>) -> bool {
        // The same host in other forms: an IPv4 address within IPv6, and a name with its final dot.
        let host = match target.host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Err(_) => target.host.trim_end_matches('.').to_owned(),
        };
        let Ok(uri) = format!("http://{host}/").parse::<Uri>() else {
            return false;
        };
        self.0.iter().any(|(port, matcher)| {
            port.is_none_or(|port| port == target.port) && matcher.intercept(&uri).is_none()
        })
    }
}

/// Splits an entry into the host, without brackets, and its port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((host, rest)) = entry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (
            host,
            rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        );
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

/// Returns whether a host is this machine.
fn is_local(host: &str) -> bool {
    if let Ok(ip) = host.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        return ip.is_loopback() || ip.is_unspecified();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
