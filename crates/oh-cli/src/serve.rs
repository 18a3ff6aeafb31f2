//! `oh serve`.

use std::{io::Write as _, time::Duration};

use openhands::LocalServer;
use secrecy::ExposeSecret as _;

use crate::exit::{Exit, Outcome};

/// Runs a private server until Ctrl-C.
pub(crate) async fn serve() -> Outcome {
    let server = LocalServer::builder()
        .on_progress(|step| _ = writeln!(std::io::stderr(), "{step}"))
        .start()
        .await?;
    // The key is meant for the user of this command, so it is printed.
    let key = server.session_api_key().expose_secret();
    writeln!(std::io::stdout(), "{}\n{key}", server.url())?;
    tokio::signal::ctrl_c().await?;
    let ended = server.shutdown(Duration::from_secs(10)).await?;
    writeln!(std::io::stderr(), "{ended}")?;
    Ok(Exit::Finished)
}
