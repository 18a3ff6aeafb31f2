//! `oh login` and `oh logout`: the login of a server to a subscription of ChatGPT.

use std::io::{self, Write as _};

use clap::Args;

use crate::{
    exit::{Exit, Outcome},
    records::clean,
    server::{At, note},
    signals::{Signals, stopped},
    stored::admin,
};

#[derive(Args)]
pub(crate) struct Login {
    /// Print whether the server is logged in, and end with 3 if it is not.
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(crate) struct Logout {
    #[command(flatten)]
    at: At,
}

/// `oh login`.
pub(crate) async fn login(options: &Login) -> Outcome {
    let subscription = admin(&options.at).await?.subscription();
    let status = subscription.status().await?;
    if status.connected {
        let account = status.account_email.map(|email| format!(" as {email}"));
        let text = format!("the server is logged in{}", account.unwrap_or_default());
        writeln!(io::stdout(), "{}", clean(&text))?;
        return Ok(Exit::Finished);
    }
    if options.status {
        writeln!(io::stdout(), "the server is not logged in: use `oh login`")?;
        return Ok(Exit::Configuration);
    }
    let mut signals = Signals::new()?;
    let login = subscription.login().await?;
    let (url, code) = (clean(login.url()), clean(login.code()));
    writeln!(io::stdout(), "Open {url} and enter {code}")?;
    tokio::select! {
        connected = login.wait() => {
            connected?;
            note("the server is logged in");
            Ok(Exit::Finished)
        }
        signal = signals.next() => {
            // Only this program has what the server needs to complete the login.
            note("the login was given up: the code has no effect any more");
            Ok(stopped(signal))
        }
    }
}

/// `oh logout`.
pub(crate) async fn logout(options: &Logout) -> Outcome {
    admin(&options.at).await?.subscription().logout().await?;
    Ok(Exit::Finished)
}
