//! The login to a subscription. A test plays the user.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::{
        lock::lock,
        logins::{Login, Logins, WITHIN},
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, detail, ok, require},
    },
};

/// The models of a subscription. The real server has more.
const MODELS: [&str; 1] = ["gpt-5.6-sol"];

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let now = world.clock.seconds() * 1000;
    let mut logins = lock(&world.logins);
    match (method, rest) {
        ("GET", ["models"]) => Ok(ok(&json!({"vendor": "openai", "models": MODELS}))),
        ("GET", ["status"]) => Ok(ok(&status(&logins, now))),
        ("POST", ["logout"]) => {
            *logins = Logins::default();
            Ok(ok(&status(&logins, now)))
        }
        ("POST", ["device", "start"]) => {
            let id = world.clock.uuid().simple().to_string().to_uppercase();
            let login = Login {
                device_code: world.clock.uuid().simple().to_string(),
                user_code: format!("{}-{}", &id[..4], &id[4..8]),
                expires_at: now + WITHIN,
                approved: false,
            };
            let body = json!({
                "device_code": login.device_code,
                "user_code": login.user_code,
                "verification_uri": "https://auth.openai.com/codex/device",
                "verification_uri_complete": null,
                "expires_at": login.expires_at,
                "interval_seconds": 1,
            });
            logins.pending.push(login);
            Ok(ok(&body))
        }
        ("POST", ["device", "poll"]) => {
            let request = call.json()?;
            require(&request, &["device_code"])?;
            logins.pending.retain(|login| login.expires_at > now);
            let mut pending = logins.pending.iter();
            let found = pending.position(|login| request["device_code"] == *login.device_code);
            let Some(index) = found else {
                let text = "Subscription device login not found or expired";
                return Err(detail(StatusCode::NOT_FOUND, text).into());
            };
            if logins.pending[index].approved {
                logins.pending.remove(index);
                logins.connected_until = Some(now + 60 * 60 * 1000);
                return Ok(ok(&status(&logins, now)));
            }
            Ok(ok(&shown(None)))
        }
        _ => Err(undone(call).into()),
    }
}

fn status(logins: &Logins, now: u64) -> Value {
    shown(logins.connected_until.filter(|until| *until > now))
}

fn shown(until: Option<u64>) -> Value {
    json!({
        "vendor": "openai",
        "connected": until.is_some(),
        "account_email": null,
        "expires_at": until,
    })
}
