//! Tests for the selection of a proxy. An invalid proxy never results in a direct connection.

use std::ffi::OsString;

use super::*;

fn ambient(variables: &[(&str, &str)]) -> Proxies {
    Proxies::ambient(&|name| {
        let found = variables.iter().find(|(known, _)| *known == name)?;
        Some(OsString::from(found.1))
    })
}

fn chosen(variables: &[(&str, &str)], url: &str) -> Result<Option<String>> {
    let url = Url::parse(url).unwrap();
    let proxies = ambient(variables);
    let hop = proxies.to(&Target::of_url(&url))?;
    Ok(hop.map(|hop| hop.host.clone()))
}

/// Returns the host, port and sent credentials of a fixed proxy.
fn fixed(proxy: &str) -> Result<(String, u16, Option<String>)> {
    let proxies = Proxies::fixed(proxy)?;
    let url = Url::parse("http://127.0.0.1:8000").unwrap();
    let hop = proxies.to(&Target::of_url(&url))?.expect("not direct");
    let sent = hop.authorization.as_ref().map(|value| {
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    });
    Ok((hop.host.clone(), hop.port, sent))
}

#[test]
fn a_proxy_of_the_caller_is_used_or_rejected_and_never_ignored() {
    for (given, host, port, sent) in [
        ("http://p:3128", "p", 3128, None),
        ("http://p:3128\n", "p", 3128, None),
        (" http://p:3128\r\n", "p", 3128, None),
        ("http://p", "p", 80, None),
        ("https://p/", "p", 443, None),
        ("HTTP://P:1", "p", 1, None),
        ("http:127.0.0.1:9", "127.0.0.1", 9, None),
        ("http://[::1]:9", "::1", 9, None),
        ("http://münchen.test:9", "xn--mnchen-3ya.test", 9, None),
        ("http://user:p^ss@p:9", "p", 9, Some("user:p^ss")),
        ("http://user:p|ss@p:9", "p", 9, Some("user:p|ss")),
        ("http://user:p\"ss@p:9", "p", 9, Some("user:p\"ss")),
        ("http://user:{pass}@p:9", "p", 9, Some("user:{pass}")),
        ("http://user:p ss@p:9", "p", 9, Some("user:p ss")),
        ("http://user:pä@p:9", "p", 9, Some("user:pä")),
        ("http://user:p%40%3A%2F@p:9", "p", 9, Some("user:p@:/")),
        ("http://user:p@ss@p:9", "p", 9, Some("user:p@ss")),
        ("http://user@p:9", "p", 9, Some("user:")),
        ("http://:canary@p:9", "p", 9, Some(":canary")),
    ] {
        let sent = sent.map(str::to_owned);
        assert_eq!(
            fixed(given).unwrap(),
            (host.to_owned(), port, sent),
            "{given:?}"
        );
    }
    for bad in [
        "",
        "  ",
        "\n",
        "canary",
        "canary:3128",
        "//canary:3128",
        "socks5://canary:1",
        "ftp://canary:1",
        "http://",
        "http://ca nary:1",
        "http://canary:99999",
        "http://canary:port",
        "http://ca\nnary:1",
        "http://canary:1\thttp://q:1",
        "http://user:ca#nary@p:1",
        "http://user:1#canary@p:1",
        "http://user:1/canary@p:1",
        "http://user:1?canary@p:1",
        "http://canary:1/path",
        "http://us%3Aer:canary@p:1",
    ] {
        let error = fixed(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("proxy") && !shown.contains("canary"),
            "{shown}"
        );
    }
}

#[test]
fn a_proxy_of_the_environment_is_used_or_rejected_and_never_ignored() {
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        for given in [
            "p",
            "p:3128",
            "http://p:3128\n",
            "http://u:p^ss@p:1",
            "https://p",
        ] {
            let found = chosen(&[(name, given)], "http://host/");
            assert_eq!(found.unwrap(), Some("p".to_owned()), "{name}={given:?}");
        }
        for bad in [
            "  ",
            "http://ca nary",
            "socks5://canary:1",
            "canary:port",
            "http://u:ca/nary@p",
        ] {
            let error = chosen(&[(name, bad)], "http://host/").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}={bad:?}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(name) && !shown.contains("canary"), "{shown}");
            // An invalid setting does not affect targets that do not use it.
            assert_eq!(chosen(&[(name, bad)], "http://127.0.0.1/").unwrap(), None);
        }
    }
    // An invalid setting does not fall back to another one.
    let both = [("HTTP_PROXY", "http://a b"), ("ALL_PROXY", "http://p:1")];
    assert!(chosen(&both, "http://host/").is_err());
    assert_eq!(
        chosen(&both, "https://host/").unwrap(),
        Some("p".to_owned())
    );
    assert_eq!(
        chosen(&[("HTTPS_PROXY", "a b")], "http://host/").unwrap(),
        None
    );
    let listed = [("HTTP_PROXY", "a b"), ("NO_PROXY", "host")];
    assert_eq!(chosen(&listed, "http://host/").unwrap(), None);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_unicode_is_rejected() {
    use std::os::unix::ffi::OsStringExt as _;
    for broken in ["HTTP_PROXY", "NO_PROXY"] {
        let proxies = Proxies::ambient(&|name| match name {
            name if name == broken => Some(OsString::from_vec(b"http://p\xff:1".to_vec())),
            "ALL_PROXY" => Some("http://q:1".into()),
            _ => None,
        });
        let url = Url::parse("http://host/").unwrap();
        let error = proxies.to(&Target::of_url(&url)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(broken), "{error}");
    }
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
fn lower_case_takes_precedence_and_an_empty_value_is_unset() {
    for (variables, expected) in [
        (
            vec![
                ("http_proxy", "http://low:1"),
                ("HTTP_PROXY", "http://up:1"),
            ],
            Some("low"),
        ),
        (
            vec![("http_proxy", ""), ("HTTP_PROXY", "http://up:1")],
            Some("up"),
        ),
        (
            vec![("HTTP_PROXY", ""), ("ALL_PROXY", "http://all:1")],
            Some("all"),
        ),
        (vec![("HTTP_PROXY", "")], None),
    ] {
        let found = chosen(&variables, "http://host/").unwrap();
        assert_eq!(found.as_deref(), expected, "{variables:?}");
    }
}

#[test]
fn no_proxy_names_hosts_domains_networks_and_ports() {
    let covered = |list: &str, url: &str| {
        let set = [("HTTP_PROXY", "http://p:1"), ("NO_PROXY", list)];
        chosen(&set, url).unwrap().is_none()
    };
    for (list, direct, through) in [
        ("direct", "http://direct/", "http://indirect/"),
        ("direct", "http://DIRECT:8000/", "http://direct.test.evil/"),
        (
            ".corp.test",
            "http://a.corp.test/",
            "http://corp.test.evil/",
        ),
        (
            "*.corp.test",
            "http://a.corp.test/",
            "http://corp.test.evil/",
        ),
        ("corp.test", "http://a.corp.test/", "http://acorp.test/"),
        ("10.0.0.0/8", "http://10.1.2.3:8000/", "http://11.1.2.3/"),
        ("a b\tdirect,c", "http://direct/", "http://d/"),
        ("Corp.TEST", "http://a.corp.test/", "http://acorp.test/"),
        ("corp.test", "http://a.corp.test./", "http://acorp.test./"),
        ("corp.test.", "http://a.corp.test/", "http://acorp.test/"),
        (
            "10.0.0.0/8",
            "http://[::ffff:10.1.2.3]/",
            "http://[::ffff:11.1.2.3]/",
        ),
        (
            "[2001:DB8:0::1]",
            "http://[2001:db8::1]/",
            "http://[2001:db8::2]/",
        ),
        (
            "internal:8000",
            "http://internal:8000/",
            "http://internal:8001/",
        ),
        (
            "internal:8000",
            "http://x.internal:8000/",
            "http://internal/",
        ),
        ("internal:80", "http://internal/", "http://internal:8000/"),
        ("10.0.0.1:8000", "http://10.0.0.1:8000/", "http://10.0.0.1/"),
        (
            "10.0.0.1:8000,10.0.0.2",
            "http://10.0.0.2/",
            "http://10.0.0.1/",
        ),
        (
            "[2001:db8::1]:8000",
            "http://[2001:db8::1]:8000/",
            "http://[2001:db8::1]/",
        ),
        (
            "[2001:db8::1]",
            "http://[2001:db8::1]:8000/",
            "http://[2001:db8::2]/",
        ),
        (
            "2001:db8::1",
            "http://[2001:db8::1]:8000/",
            "http://[2001:db8::2]/",
        ),
        (
            "2001:db8::/32",
            "http://[2001:db8::7]/",
            "http://[2002::1]/",
        ),
    ] {
        assert!(covered(list, direct), "{list}: {direct}");
        assert!(!covered(list, through), "{list}: {through}");
    }
    assert!(covered("*", "http://host/"));
    assert!(!covered("", "http://host/"));
    assert!(!covered(" , ,", "http://host/"));
}

#[test]
fn this_machine_is_never_reached_through_an_ambient_proxy() {
    let set = [("ALL_PROXY", "http://p:1")];
    for local in [
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://[::1]:8000",
        "http://[::ffff:127.0.0.1]:8000",
        "http://localhost",
        "http://localhost.",
        "ws://a.localhost",
        "http://0.0.0.0:8000",
    ] {
        assert_eq!(chosen(&set, local).unwrap(), None, "{local}");
    }
}

#[test]
fn a_cgi_request_cannot_choose_the_proxy() {
    let set = [("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")];
    assert_eq!(chosen(&set, "http://host/").unwrap(), None);
    let set = [("http_proxy", "http://p:1"), ("REQUEST_METHOD", "GET")];
    assert_eq!(chosen(&set, "http://host/").unwrap(), Some("p".to_owned()));
}

#[test]
fn a_forwarder_is_a_proxy_for_plain_requests_only() {
    let tls = crate::net::Tls::new(crate::net::TlsOptions::default()).unwrap();
    let connector = crate::net::Connector::new(
        std::time::Duration::from_secs(1),
        Proxies::fixed("http://p:1").unwrap(),
        tls,
        crate::net::Resolver::default(),
    );
    for (url, forwarded) in [
        ("http://host/", true),
        ("ws://host/", false),
        ("https://host/", false),
        ("wss://host/", false),
    ] {
        let found = connector
            .forwarder(&url.parse().unwrap())
            .unwrap()
            .is_some();
        assert_eq!(found, forwarded, "{url}");
    }
}
