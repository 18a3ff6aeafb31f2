//! Starts an OpenHands agent server in a container, verifies and supervises it, and removes it.
//!
//! A [`DockerServer`] makes the promises of `oh_process::LocalServer`, with an agent that sees only
//! what is in its container. The container is removed when this value is dropped, when
//! [`shutdown`](DockerServer::shutdown) returns, and when this process ends for any reason, even by
//! `kill -9`. Docker and Podman are supported, through the socket of the engine.
//!
//! ```no_run
//! # #[cfg(feature = "docker")]
//! # async fn run() -> Result<(), oh_sandbox::Error> {
//! use std::time::Duration;
//! use oh_sandbox::DockerServer;
//!
//! let server = DockerServer::builder().memory(2 << 30).start().await?;
//! println!("{} in container {}", server.url(), server.id());
//! server.shutdown(Duration::from_secs(5)).await?;
//! # Ok(()) }
//! ```
//!
//! A [`Sandbox`] is what all kinds of sandboxes have in common. A `Fleet` gives many servers of any
//! kind to many conversations.
//!
//! # How cleanup works
//!
//! Before the container is created, a small Python process (the *keeper*) starts. It is connected
//! with this process by a socket, which closes when this process ends. The keeper then asks the
//! engine to remove the container, and asks again until the engine has done so. The name of the
//! container is chosen before it is created. The keeper therefore also finds a container whose
//! creation this process did not see. After a power cut, [`Engine::leftovers`] finds containers by
//! their labels.
//!
//! # Features
//!
//! - `docker` (default): containers of Docker and Podman.
//! - `fleet` (default, and part of `docker`): fleets of servers, also of local ones.
//! - `tls`: engines that are reached by TLS.
//! - `apptainer`: containers of Apptainer, which need neither root nor an engine.
//! - `kubernetes`: pods of a cluster with `kubernetes-sigs/agent-sandbox`.
//! - `hosted`: runtimes of the hosted Runtime API, and sandboxes of OpenHands Cloud.

#![cfg_attr(
    not(feature = "docker"),
    allow(
        dead_code,
        reason = "without a kind of sandbox, only the error type is left"
    )
)]

#[cfg(feature = "apptainer")]
mod apptainer;
#[cfg(feature = "docker")]
mod docker;
mod error;
#[cfg(feature = "fleet")]
mod fleet;
#[cfg(feature = "hosted")]
mod hosted;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "docker")]
mod options;
#[cfg(feature = "docker")]
mod running;
mod sandbox;

#[cfg(feature = "apptainer")]
pub use apptainer::{builder::ApptainerServerBuilder, server::ApptainerServer};
#[cfg(feature = "docker")]
pub use docker::{
    attach::Attach,
    builder::DockerServerBuilder,
    connect::Connect,
    engine::Engine,
    leftovers::{Leftover, OwnerState},
    progress::Progress,
    server::DockerServer,
    settings::{Pull, Volume},
    template::{
        container::DockerTemplate,
        forked::{Fork, ForkedServer},
    },
};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "fleet")]
pub use fleet::{
    attached::AttachedServers,
    builder::FleetBuilder,
    failure::StartError,
    handle::Fleet,
    lease::Lease,
    observe::{FleetEvent, FleetObserver},
    provider::{Finding, FleetServer, Provider, Starting, provider_fn},
    stats::FleetStats,
};
#[cfg(feature = "hosted")]
pub use hosted::{
    builder::HostedServerBuilder,
    cloud::{
        account::{
            CloudBranch, CloudOrganization, CloudPage, CloudRepository, CloudSecret, CloudSettings,
            GitSearch,
        },
        api::{Cloud, CloudBuilder},
        builder::CloudServerBuilder,
        inside::InsideSandbox,
        login::{DeviceLogin, DeviceLoginBuilder},
        sandboxes::{CloudSandbox, CloudStatus, ExposedUrl},
        server::CloudServer,
        tokens::{CloudToken, TokenStore},
    },
    server::HostedServer,
    settings::AtEnd,
};
#[cfg(feature = "kubernetes")]
pub use kubernetes::{
    attach::AttachClaim,
    builder::KubernetesServerBuilder,
    cluster::Cluster,
    failure::{ClaimFailure, ClaimReason},
    server::KubernetesServer,
};
pub use sandbox::{Request, Sandbox};
// In signatures of this crate.
#[doc(no_inline)]
pub use oh_process::{Acquire, ExitReport, LogLevel, LogLine, Logs, Status, StatusWatch, WarmPool};
#[doc(no_inline)]
pub use secrecy;
