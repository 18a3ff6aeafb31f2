//! A call to a route that has no type in this crate.

use std::fmt;

use http::Method;

use crate::{Answer, Call, Error, Json, Operation, Repeat, Request, Result, config};

/// A call to any route of the server. Returns the JSON of the response, or `null` for a response
/// without a body.
///
/// Use this call for routes that this crate does not have yet, such as those of a newer server.
///
/// ```
/// use oh_protocol::calls::Any;
///
/// let call = Any::post("/api/new_route").body(&serde_json::json!({"name": "a"}))?;
/// # Ok::<(), oh_protocol::Error>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Any {
    /// The HTTP method.
    pub method: Method,
    /// The path and query below the server's base URL, percent-encoded, starting with `/`.
    pub path: String,
    /// Whether the request may be sent again. Default: [`Repeat::Idempotent`] for `GET` and `HEAD`,
    /// otherwise [`Repeat::Never`].
    pub repeat: Repeat,
    /// The body. Default: no body.
    pub body: Option<Json>,
}

impl Any {
    /// Creates a call without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let repeat = match method {
            Method::GET | Method::HEAD => Repeat::Idempotent,
            _ => Repeat::Never,
        };
        Self {
            method,
            path: path.into(),
            repeat,
            body: None,
        }
    }

    /// Creates a `GET` call.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Creates a `POST` call without a body.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Sets whether the request may be sent again.
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Sets the body.
    ///
    /// # Errors
    ///
    /// Returns an error if the value cannot be serialized as JSON, or if it contains the server's
    /// mask for secrets (`**********`), which would remove the real secret on the server.
    pub fn body<T: serde::Serialize + ?Sized>(mut self, body: &T) -> Result<Self> {
        // A value without a generic form, such as a number above 64 bits, is sent unchanged.
        if let Ok(value) = serde_json::to_value(body) {
            config::check_unmasked("body", &value)?;
        }
        let json = serde_json::value::to_raw_value(body);
        let json = json.map_err(|error| Error::encode("the body of an untyped call", error))?;
        let json = serde_json::from_str(json.get());
        self.body =
            Some(json.map_err(|error| Error::encode("the body of an untyped call", error))?);
        Ok(self)
    }
}

impl Call for Any {
    type Output = Json;

    fn operation(&self) -> Operation {
        Operation::new(self.method.clone(), "(untyped)", self.repeat)
    }

    fn request(&self) -> Result<Request> {
        let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !self.path.starts_with('/') || !self.path.bytes().all(valid) {
            return Err(Error::invalid(
                "path: must start with `/` and be percent-encoded, without a fragment",
            ));
        }
        let request = Request::new(self.method.clone(), self.path.clone());
        match &self.body {
            Some(body) => request.json(body),
            None => Ok(request),
        }
    }

    fn decode(&self, answer: Answer) -> Result<Json> {
        if answer.body.is_empty() {
            return Ok(Json::default());
        }
        answer.json("the response to an untyped call")
    }
}

/// Hides the query and the body, which may contain secrets.
impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        f.debug_struct("Any")
            .field("method", &self.method)
            .field("path", &path)
            .field("repeat", &self.repeat)
            .field("has_body", &self.body.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_request_has_the_method_path_and_body_of_the_call() {
        let call = Any::post("/api/x?a=%20").body(&json!({"b": [1]})).unwrap();
        let request = call.request().unwrap();
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.target, "/api/x?a=%20");
        assert_eq!(&request.body.unwrap()[..], br#"{"b":[1]}"#);
        assert_eq!(call.operation().repeat, Repeat::Never);
        assert_eq!(Any::get("/x").operation().repeat, Repeat::Idempotent);
        let put = Any::new(Method::PUT, "/x").repeat(Repeat::Idempotent);
        assert_eq!(put.operation().repeat, Repeat::Idempotent);
    }

    #[test]
    fn an_invalid_path_is_rejected_before_anything_is_sent() {
        for path in ["", "x", "http://h/x", "/a b", "/a#b", "/ä", "/a\r\nb"] {
            let error = Any::get(path).request().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
        }
    }

    #[test]
    fn debug_hides_the_query_and_the_body() {
        let call = Any::post("/x?token=canary").body("canary").unwrap();
        assert!(!format!("{call:?}").contains("canary"));
    }

    #[test]
    fn a_response_is_its_json_or_null() {
        let answer = |body: &'static str| {
            let body = bytes::Bytes::from_static(body.as_bytes());
            Answer::new(http::StatusCode::OK, http::HeaderMap::new(), body)
        };
        let call = Any::get("/x");
        let json = call.decode(answer(r#"{"a": 1e400}"#)).unwrap();
        assert_eq!(json.to_string(), r#"{"a": 1e400}"#);
        assert_eq!(call.decode(answer("")).unwrap().to_string(), "null");
        assert_eq!(
            call.decode(answer("<html>")).unwrap_err().kind(),
            ErrorKind::Decode
        );
    }
}
