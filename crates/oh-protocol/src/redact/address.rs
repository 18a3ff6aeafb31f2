//! Redaction of URLs: shows scheme, host, port and path.

use std::borrow::Cow;

use super::mark::HIDDEN;

/// Returns an address without its user, password, query and fragment, each of which may be secret.
///
/// Accepts URLs, sources such as `git@host:owner/repo`, and paths. The user name `git` is shown,
/// because all git hosts use it. A password that contains `@`, `?`, `#` or `/` makes the URL
/// invalid; in that case everything up to the last `@` is hidden.
///
/// ```
/// use oh_protocol::redact::url;
///
/// let shown = url("https://user:pa?ss@host/path?token=x");
/// assert_eq!(shown, "https://<redacted>@host/path?<redacted>");
/// ```
pub fn url(address: &str) -> Cow<'_, str> {
    let (scheme, rest) = match address.find("://") {
        Some(at) => address.split_at(at + 3),
        None => ("", address),
    };
    let shown = if scheme.is_empty() && !rest.starts_with("//") {
        without_scheme(rest)
    } else {
        below_scheme(rest)
    };
    match shown {
        Cow::Borrowed(all) if all.len() == rest.len() => Cow::Borrowed(address),
        shown => Cow::Owned(format!("{scheme}{shown}")),
    }
}

/// Returns the scheme, host and port of a URL whose path may also be secret, as is common for
/// hosted MCP servers. The path is replaced by [`HIDDEN`]. A text that is not a URL is hidden
/// completely.
pub fn origin(address: &str) -> Cow<'_, str> {
    let Some(at) = address.find("://") else {
        return Cow::Borrowed(HIDDEN);
    };
    let (scheme, rest) = address.split_at(at + 3);
    let (user, rest) = split_user(rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if !user && rest[end..].trim_start_matches('/').is_empty() {
        return Cow::Borrowed(address);
    }
    let mut shown = scheme.to_owned();
    if user {
        shown.push_str(HIDDEN);
        shown.push('@');
    }
    shown.push_str(&rest[..end]);
    if !rest[end..].trim_start_matches('/').is_empty() {
        shown.push('/');
        shown.push_str(HIDDEN);
    }
    Cow::Owned(shown)
}

/// Returns a URL without its user, password, query and fragment, and without a mark in their place,
/// so that the URL works if the resource is public. Returns `None` if the address is not a URL or
/// was truncated within a password.
///
/// ```
/// use oh_protocol::redact::public_url;
///
/// assert_eq!(public_url("https://user:pa?ss@host/path?token=x").unwrap(), "https://host/path");
/// ```
pub fn public_url(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_at(address.find("://")? + 3);
    let (_, rest) = split_user(rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    is_host(authority(rest)).then(|| format!("{scheme}{}", &rest[..end]))
}

/// Returns the redacted text after `://`.
pub(super) fn below_scheme(rest: &str) -> Cow<'_, str> {
    let (user, after) = split_user(rest);
    if user {
        let git = rest.strip_suffix(after) == Some("git@");
        let user = if git { "git" } else { HIDDEN };
        return Cow::Owned(format!("{user}@{}", without_query(after)));
    }
    if !is_host(authority(rest)) {
        // There is no `@` and no valid port: the URL was truncated within its password.
        return Cow::Borrowed(HIDDEN);
    }
    without_query(rest)
}

fn without_scheme(rest: &str) -> Cow<'_, str> {
    let host = |user: &str| !user.contains('/');
    match rest.rsplit_once('@') {
        Some(("git", _)) => without_query(rest),
        Some((user, after)) if host(user) && !user.is_empty() => {
            Cow::Owned(format!("{HIDDEN}@{}", without_query(after)))
        }
        _ => without_query(rest),
    }
}

/// Returns whether the text starts with a user and password, and the text after them.
fn split_user(rest: &str) -> (bool, &str) {
    let Some((user, after)) = rest.rsplit_once('@') else {
        return (false, rest);
    };
    let authority = authority(rest);
    // If the text before the path can be a host, a later `@` is part of the path
    // (`/@scope/package`) or of the query. Otherwise everything before that `@` may be a password.
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if is_host(host) && (rest[authority.len()..].starts_with('/') || user.len() < authority.len()) {
        let within = authority.len() - host.len();
        return (within > 0, &rest[within..]);
    }
    (true, after)
}

fn authority(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// Returns whether a text can be a host with an optional port. The port can be a placeholder, such
/// as `$PORT`.
fn is_host(authority: &str) -> bool {
    let after_address = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_address..].split_once(':') {
        None => true,
        Some((_, port)) => {
            port.bytes().all(|digit| digit.is_ascii_digit())
                || (port.starts_with(['{', '$', '<']) && !port.contains(':'))
        }
    }
}

fn without_query(rest: &str) -> Cow<'_, str> {
    match rest.find(['?', '#']) {
        // If nothing follows the separator, there is nothing to hide.
        Some(at) if at + 1 < rest.len() => Cow::Owned(format!("{}{HIDDEN}", &rest[..=at])),
        _ => Cow::Borrowed(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_query_and_fragment() {
        for (address, shown) in [
            ("https://h/p", "https://h/p"),
            ("https://h:8000/p?", "https://h:8000/p?"),
            ("https://u:canary@h/p", "https://<redacted>@h/p"),
            (
                "https://u:canary@h/p?t=canary",
                "https://<redacted>@h/p?<redacted>",
            ),
            ("https://u:can?ary@h/p", "https://<redacted>@h/p"),
            ("https://u:can#ary@h/p", "https://<redacted>@h/p"),
            ("https://u:can@ary@h/p", "https://<redacted>@h/p"),
            ("https://u:can/ary@h/p", "https://<redacted>@h/p"),
            (
                "https://u:canary@h/@scope/p",
                "https://<redacted>@h/@scope/p",
            ),
            ("https://u:c@n:x/ary@h/p", "https://<redacted>@h/p"),
            ("https://u:123?canary@h/p", "https://<redacted>@h/p"),
            ("https://can?ary@h", "https://<redacted>@h"),
            ("https://u:can", "https://<redacted>"),
            ("https://h/p?t=canary", "https://h/p?<redacted>"),
            ("https://h/p#canary", "https://h/p#<redacted>"),
            ("https://h:1/p?to=a@b", "https://h:1/p?<redacted>"),
            ("http://h/@scope/a@1", "http://h/@scope/a@1"),
            ("http://[::1]:80/p", "http://[::1]:80/p"),
            ("http://u:canary@[::1]:80/p", "http://<redacted>@[::1]:80/p"),
            ("http://localhost:{port}/x", "http://localhost:{port}/x"),
            ("git@host:owner/repo", "git@host:owner/repo"),
            ("ssh://git@host/owner/repo", "ssh://git@host/owner/repo"),
            ("canary@x@host/repo", "<redacted>@host/repo"),
            ("github:owner/repo", "github:owner/repo"),
            ("/api/secrets/x?key=canary", "/api/secrets/x?<redacted>"),
            ("./path@v1", "./path@v1"),
            ("", ""),
        ] {
            assert_eq!(url(address), shown, "{address}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        for (address, shown) in [
            ("https://h", "https://h"),
            ("https://h:1/", "https://h:1/"),
            ("https://h:1/s/canary/mcp", "https://h:1/<redacted>"),
            ("https://h?canary", "https://h/<redacted>"),
            ("https://u:can?ary@h/x", "https://<redacted>@h/<redacted>"),
            ("canary", "<redacted>"),
        ] {
            assert_eq!(origin(address), shown, "{address}");
        }
    }
}
