//! The kinds of servers of this project, as servers of a fleet.

use oh_process::{LocalServer, LocalServerBuilder, WarmPool};

#[cfg(feature = "hosted")]
use super::provider::Finding;
use super::provider::{Provider, Starting, boxed};
#[cfg(feature = "hosted")]
use crate::ErrorKind;

/// Implements [`Provider`] for a builder: each start uses a copy.
macro_rules! builder {
    ($($builder:ty),+) => {
        $(impl Provider for $builder {
            fn start(&self) -> Starting {
                let builder = self.clone();
                Box::pin(async move { Ok(boxed(builder.start().await?)) })
            }
        })+
    };
}

/// Implements [`Provider`] for a pool: each start takes a spare.
macro_rules! pool {
    ($($server:ty),+) => {
        $(impl Provider for WarmPool<$server> {
            fn start(&self) -> Starting {
                let acquiring = self.acquire();
                Box::pin(async move { Ok(boxed(acquiring.await?)) })
            }
        })+
    };
}

builder!(LocalServerBuilder);
pool!(LocalServer);

#[cfg(feature = "docker")]
builder!(crate::DockerServerBuilder);
#[cfg(feature = "docker")]
pool!(crate::DockerServer);
#[cfg(feature = "apptainer")]
builder!(crate::ApptainerServerBuilder);
#[cfg(feature = "kubernetes")]
builder!(crate::KubernetesServerBuilder);
#[cfg(feature = "hosted")]
builder!(crate::HostedServerBuilder);

/// A sandbox outlives the program that has started it, and the service returns its key.
#[cfg(feature = "hosted")]
impl Provider for crate::CloudServerBuilder {
    fn start(&self) -> Starting {
        let builder = self.clone();
        Box::pin(async move { Ok(boxed(builder.start().await?)) })
    }

    fn find(&self, name: &str) -> Finding {
        let builder = self.clone().sandbox_id(name);
        Box::pin(async move {
            match builder.start().await {
                Ok(server) => Ok(Some(boxed(server))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }
}
