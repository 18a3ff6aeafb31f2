//! The account of the fake: its login, settings and secrets.

use std::collections::VecDeque;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    fake::wire::reply::{detail, ok},
    http::{self as server, Response},
};

/// The code that a login shows to its user.
const USER_CODE: &str = "FAKE-CODE";
/// The code by which a login asks for its token.
const DEVICE_CODE: &str = "fake-device-code";

pub(super) struct Account {
    /// The user, with secrets.
    pub(super) me: Value,
    pub(super) login_answers: VecDeque<String>,
    pub(super) interval: f64,
    pub(super) valid: u64,
    settings: Map<String, Value>,
    secrets: Vec<Secret>,
}

struct Secret {
    name: String,
    value: String,
    description: Value,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            me: json!({}),
            login_answers: VecDeque::new(),
            interval: 0.01,
            valid: 600,
            settings: Map::new(),
            secrets: Vec::new(),
        }
    }
}

impl Account {
    pub(super) fn set_secret(&mut self, name: &str, value: &str, description: &str) {
        self.secrets.retain(|secret| secret.name != name);
        self.secrets.push(Secret {
            name: name.to_owned(),
            value: value.to_owned(),
            description: description.into(),
        });
    }

    pub(super) fn secret(&self, name: &str) -> Option<String> {
        let mut secrets = self.secrets.iter();
        let found = secrets.find(|secret| secret.name == name);
        found.map(|secret| secret.value.clone())
    }

    /// Returns the names of the secrets, without values.
    pub(super) fn names(&self) -> Vec<Value> {
        let shown = |secret: &Secret| {
            let Secret {
                name, description, ..
            } = secret;
            json!({"name": name, "description": description})
        };
        self.secrets.iter().map(shown).collect()
    }

    /// Returns the value of a secret as plain text, as a lookup expects it.
    pub(super) fn look_up(&self, name: &str) -> Response {
        match self.secret(name) {
            Some(value) => http::Response::new(server::full(value)),
            None => detail(StatusCode::NOT_FOUND, "Secret not found"),
        }
    }

    pub(super) fn create_secret(&mut self, body: &Value) -> Response {
        let (Some(name), Some(value)) = (body["name"].as_str(), body["value"].as_str()) else {
            let why = "name and value are required";
            return detail(StatusCode::UNPROCESSABLE_ENTITY, why);
        };
        if self.secret(name).is_some() {
            return detail(StatusCode::BAD_REQUEST, "the secret exists already");
        }
        let description = body["description"].as_str().unwrap_or_default();
        self.set_secret(name, value, description);
        ok(&json!({"success": true}))
    }

    pub(super) fn update_secret(&mut self, name: &str, body: &Value) -> Response {
        let mut secrets = self.secrets.iter_mut();
        match secrets.find(|secret| secret.name == name) {
            None => detail(StatusCode::NOT_FOUND, "Secret not found"),
            Some(secret) => {
                if let Some(name) = body["name"].as_str() {
                    name.clone_into(&mut secret.name);
                }
                secret.description = body["description"].clone();
                ok(&json!({"success": true}))
            }
        }
    }

    pub(super) fn delete_secret(&mut self, name: &str) -> Response {
        let before = self.secrets.len();
        self.secrets.retain(|secret| secret.name != name);
        match self.secrets.len() < before {
            true => ok(&json!({"success": true})),
            false => detail(StatusCode::NOT_FOUND, "Secret not found"),
        }
    }

    pub(super) fn me(&self, with_secrets: bool) -> Response {
        let mut me = self.me.clone();
        if !with_secrets {
            me["llm_api_key"] = Value::Null;
        }
        ok(&me)
    }

    pub(super) fn settings(&self) -> Response {
        let mut settings = self.settings.clone();
        for name in ["llm_model", "llm_base_url", "mcp_config"] {
            settings.insert(name.to_owned(), self.me[name].clone());
        }
        let is_set = self.me["llm_api_key"].is_string();
        settings.insert("llm_api_key_set".to_owned(), is_set.into());
        ok(&settings)
    }

    pub(super) fn save_settings(&mut self, body: &Value) -> Response {
        let changes = body.as_object().into_iter().flatten();
        for (name, value) in changes {
            self.settings.insert(name.clone(), value.clone());
        }
        ok(&json!({"message": "Settings stored"}))
    }

    pub(super) fn begin_login(&self, url: &str) -> Response {
        let page = format!("{url}/oauth/device/verify");
        ok(&json!({
            "device_code": DEVICE_CODE,
            "user_code": USER_CODE,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={USER_CODE}"),
            "expires_in": self.valid,
            "interval": self.interval,
        }))
    }

    pub(super) fn poll_login(&mut self, device_code: Option<&str>, token: &str) -> Response {
        let interval = self.interval;
        let refuse = |error: &str| {
            let mut body = json!({"error": error, "error_description": "of the fake"});
            if error == "slow_down" {
                body["interval"] = (interval * 2.0).into();
            }
            let mut response = ok(&body);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        };
        if device_code != Some(DEVICE_CODE) {
            return refuse("invalid_grant");
        }
        match self.login_answers.pop_front() {
            Some(error) => refuse(&error),
            None => ok(&json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600})),
        }
    }
}
