//! The simple API of a Python package index: its address, its listings, and the choice of a wheel
//! for this machine. Contains no I/O.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use crate::{Error, ErrorKind, Result};

/// The default index of pip and uv.
const DEFAULT: &str = "https://pypi.org/simple";
/// The media types of listings that this module can parse.
pub(crate) const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, \
    application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// A package index, with the credentials from its URL.
#[derive(Debug)]
pub(crate) struct Index {
    url: Url,
    authorization: Option<SecretString>,
}

/// A file in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) sha256: Option<String>,
    pub(crate) size: Option<u64>,
    yanked: bool,
}

impl Index {
    /// Returns the index that the variables of uv or pip name.
    pub(crate) fn configured(read: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let named = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]
            .into_iter()
            .find_map(|name| Some((name, read(name).filter(|value| !value.trim().is_empty())?)));
        let (name, text) = named.unwrap_or(("index", DEFAULT.to_owned()));
        // uv allows `name=URL`.
        let text = match text.split_once('=') {
            Some((label, url))
                if label
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-_".contains(c)) =>
            {
                url
            }
            _ => &text,
        };
        let parsed = Url::parse(text.trim()).ok();
        let Some(mut url) = parsed.filter(|url| matches!(url.scheme(), "http" | "https")) else {
            // The value may contain a password.
            let message = format!("{name} is not a valid package index URL (value hidden)");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        let decode = |part: &str| percent_decode_str(part).collect::<Vec<u8>>();
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let user = decode(url.username());
            let password = decode(url.password().unwrap_or_default());
            format!(
                "Basic {}",
                STANDARD.encode([&user[..], b":", &password].concat())
            )
            .into()
        });
        let _never_fails = (url.set_username(""), url.set_password(None));
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self { url, authorization })
    }

    /// Returns the URL of a project's listing.
    pub(crate) fn project(&self, name: &str) -> Result<Url> {
        let joined = self.url.join(&format!("{name}/"));
        joined.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "not a valid package index URL").with_source(error)
        })
    }

    /// Returns the host, for messages.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Returns the credentials if the URL belongs to this index.
    pub(crate) fn authorization(&self, url: &Url) -> Option<&SecretString> {
        let authorization = self.authorization.as_ref();
        authorization.filter(|_| url.origin() == self.url.origin())
    }
}

/// Parses a listing in JSON or HTML. `base` is the URL of the listing.
pub(crate) fn listing(body: &[u8], json: bool, base: &Url) -> Option<Vec<Listed>> {
    if json {
        return from_json(body, base);
    }
    let text = String::from_utf8_lossy(body);
    let mut files = Vec::new();
    for anchor in text.split("<a").skip(1) {
        let (tag, _) = anchor.split_once('>')?;
        let Some(address) = attribute(tag, "href") else {
            continue;
        };
        let Ok(mut url) = base.join(&address.replace("&amp;", "&")) else {
            continue;
        };
        let sha256 = url
            .fragment()
            .and_then(|fragment| fragment.strip_prefix("sha256="));
        let sha256 = sha256.map(str::to_lowercase);
        url.set_fragment(None);
        let name = url.path().rsplit('/').next().unwrap_or_default();
        files.push(Listed {
            name: percent_decode_str(name).decode_utf8_lossy().into_owned(),
            yanked: tag.contains("data-yanked"),
            size: None,
            sha256,
            url,
        });
    }
    Some(files)
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(name)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next()
}

fn from_json(body: &[u8], base: &Url) -> Option<Vec<Listed>> {
    let page: serde_json::Value = serde_json::from_slice(body).ok()?;
    let read = |file: &serde_json::Value| {
        Some(Listed {
            name: file.get("filename")?.as_str()?.to_owned(),
            url: base.join(file.get("url")?.as_str()?).ok()?,
            sha256: file
                .pointer("/hashes/sha256")
                .and_then(|hash| Some(hash.as_str()?.to_lowercase())),
            size: file.get("size").and_then(serde_json::Value::as_u64),
            // The field is absent, false, true, or the reason.
            yanked: !matches!(
                file.get("yanked"),
                None | Some(serde_json::Value::Null | serde_json::Value::Bool(false))
            ),
        })
    };
    Some(
        page.get("files")?
            .as_array()?
            .iter()
            .filter_map(read)
            .collect(),
    )
}

/// Returns the wheel to install: the newest of the series `preferred` (such as `0.13`), else the
/// newest.
pub(crate) fn choose<'a>(
    files: &'a [Listed],
    project: &str,
    preferred: &str,
    fits: &dyn Fn(&str) -> bool,
) -> Option<&'a Listed> {
    let version = |file: &Listed| -> Option<Vec<u32>> {
        let rest = file.name.strip_prefix(project)?.strip_prefix('-')?;
        let mut parts = rest.strip_suffix(".whl")?.split('-');
        let version = parts.next()?;
        let platforms = parts.next_back()?;
        let version: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        // A version with letters is a pre-release.
        version.filter(|_| !file.yanked && platforms.split('.').any(fits))
    };
    let series: Vec<u32> = preferred.split('.').flat_map(str::parse).collect();
    let fitting = files.iter().filter_map(|file| Some((version(file)?, file)));
    let newest = fitting.max_by_key(|(version, _)| (version.starts_with(&series), version.clone()));
    newest.map(|(_, file)| file)
}

/// Returns whether a wheel for this platform runs on this machine.
pub(crate) fn fits(platform: &str) -> bool {
    let machine = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        "powerpc64" => "ppc64le",
        "aarch64" if cfg!(target_os = "macos") => "arm64",
        other => other,
    };
    let system = if cfg!(target_os = "macos") {
        "macosx_"
    } else if cfg!(target_env = "musl") {
        "musllinux_"
    } else {
        "manylinux"
    };
    platform.starts_with(system) && platform.ends_with(&format!("_{machine}"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn index(set: &[(&str, &str)]) -> Result<Index> {
        Index::configured(&|name| {
            let found = set.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_index_is_the_installers_index() {
        let host = |set: &[(&str, &str)]| index(set).expect("an index").host().to_owned();
        assert_eq!(host(&[]), "pypi.org");
        assert_eq!(
            host(&[("PIP_INDEX_URL", "https://pip.test/simple")]),
            "pip.test"
        );
        let both = [
            ("PIP_INDEX_URL", "https://pip.test/simple"),
            ("UV_DEFAULT_INDEX", "corp=https://uv.test/simple/"),
        ];
        assert_eq!(host(&both), "uv.test");
        let project = index(&both)
            .expect("an index")
            .project("uv")
            .expect("a URL");
        assert_eq!(project.as_str(), "https://uv.test/simple/uv/");
    }

    #[test]
    fn credentials_are_sent_only_to_the_index_and_never_shown() {
        let set = [("PIP_INDEX_URL", "https://me:s%40same@pip.test/simple")];
        let index = index(&set).expect("an index");
        let project = index.project("uv").expect("a URL");
        assert!(!format!("{index:?} {project}").contains("same"));
        let shown = index
            .authorization(&project)
            .map(ExposeSecret::expose_secret);
        assert_eq!(shown, Some("Basic bWU6c0BzYW1l"));
        for other in [
            "https://files.test/uv",
            "http://pip.test/uv",
            "https://pip.test:8443/",
        ] {
            let other = Url::parse(other).expect("a URL");
            assert!(index.authorization(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn an_index_that_is_not_a_url_is_rejected_without_its_value() {
        for bad in ["canary", "file:///canary", "https://me:canary@"] {
            let error = index(&[("UV_INDEX_URL", bad)]).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("UV_INDEX_URL") && !shown.contains("canary"));
        }
    }

    #[test]
    fn the_newest_wheel_of_the_series_that_fits_is_chosen_from_json_and_html() {
        let base = Url::parse("https://pip.test/simple/uv/").expect("a URL");
        let names = [
            (
                "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                false,
            ),
            (
                "uv-0.13.10-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                false,
            ),
            (
                "uv-0.13.11-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                true,
            ),
            ("uv-0.13.12rc1-py3-none-manylinux_2_17_x86_64.whl", false),
            ("uv-0.13.12-py3-none-win_amd64.whl", false),
            ("uv-0.13.12.tar.gz", false),
            ("uv-0.14.0-py3-none-manylinux_2_17_x86_64.whl", false),
            ("uv_build-0.13.99-py3-none-manylinux_2_17_x86_64.whl", false),
        ];
        let json: Vec<_> = names
            .iter()
            .map(|(name, yanked)| {
                serde_json::json!({"filename": name, "url": format!("../../f/{name}"),
                    "hashes": {"sha256": "AB"}, "size": 3, "yanked": yanked})
            })
            .collect();
        let json = serde_json::json!({"files": json, "meta": {}}).to_string();
        let html: String = names
            .iter()
            .map(|(name, yanked)| {
                let yanked = if *yanked { "data-yanked=\"\"" } else { "" };
                format!("<a href='../../f/{name}#sha256=ab' {yanked}>{name}</a><br/>\n")
            })
            .collect();
        let linux =
            |platform: &str| platform.starts_with("manylinux") && platform.ends_with("x86_64");
        for (body, is_json) in [(json, true), (html, false)] {
            let files = listing(body.as_bytes(), is_json, &base).expect("a listing");
            assert_eq!(files.len(), names.len());
            let chosen = choose(&files, "uv", "0.13", &linux).expect("a wheel");
            assert_eq!(chosen.name, names[1].0);
            assert_eq!(chosen.sha256.as_deref(), Some("ab"));
            assert_eq!(
                chosen.url.as_str(),
                format!("https://pip.test/f/{}", names[1].0)
            );
            let newest = choose(&files, "uv", "0.99", &linux).expect("a wheel");
            assert_eq!(newest.name, names[6].0);
            assert_eq!(choose(&files, "uv", "0.13", &|_| false), None);
        }
        for broken in ["", "{}", "{\"files\": 3}", "[]"] {
            assert_eq!(listing(broken.as_bytes(), true, &base), None);
        }
        assert_eq!(listing(b"<a href", false, &base), None);
    }
}
