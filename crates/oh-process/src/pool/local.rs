//! Spares that are local servers, forked from a template where that is possible.

use tokio::sync::watch;
use tracing::warn;

use crate::{
    Error, ErrorKind, LocalServer, LocalServerBuilder, PoolSource, Pooled, Result, Startup, Status,
    TemplateServer, start::activation::Activation,
};

impl Pooled for LocalServer {
    type Error = Error;

    fn status_now(&self) -> watch::Receiver<Status> {
        self.status().0
    }

    fn prepare(own: &mut Activation) -> Result<()> {
        own.check()?;
        own.make_directories()
    }

    async fn activate_as(&mut self, own: &Activation) -> Result<()> {
        self.activate_as(own).await
    }

    fn is_gone(error: &Error) -> bool {
        // The server sent no response at all.
        let unanswered = |error: &oh_transport::Error| error.status().is_none();
        error.transport_error().is_some_and(unanswered)
    }

    fn pool_has_ended() -> Error {
        Error::new(ErrorKind::InvalidInput, "the pool has been shut down")
    }
}

/// The pool's own template.
#[derive(Debug, Default)]
pub struct Template {
    begun: bool,
    template: Option<TemplateServer>,
}

impl PoolSource for LocalServerBuilder {
    type Server = LocalServer;
    type Kept = Template;

    async fn start_spare(&mut self, kept: &mut Template) -> Result<LocalServer> {
        if !kept.begun {
            kept.template = Box::pin(own_template(self)).await;
            if let Some(template) = &kept.template {
                *self = self.clone().template(template);
            }
            kept.begun = true;
        }
        let server = Box::pin(self.clone().deferred_init(true).start()).await?;
        let template = kept.template.as_ref();
        if template.is_some_and(|template| is_useless(template, &server)) {
            kept.template = None;
            *self = self.clone().without_template();
        }
        Ok(server)
    }
}

/// Starts a template for these servers, unless the builder has one or disables forking.
async fn own_template(builder: &LocalServerBuilder) -> Option<TemplateServer> {
    let template = builder.own_template()?;
    match template.start().await {
        Ok(template) => Some(template),
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => {
            warn!(%error, "there is no template for spare servers; starting them cold");
            None
        }
    }
}

/// Returns whether the template works but cannot fork servers like this one.
fn is_useless(template: &TemplateServer, server: &LocalServer) -> bool {
    let refused = matches!(server.startup(), Startup::Fallback(_));
    refused && template.statistics().forked == 0 && template.pid().is_some()
}
