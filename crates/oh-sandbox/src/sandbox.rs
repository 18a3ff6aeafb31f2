//! The trait that every kind of sandbox implements.

use std::{fmt, time::Duration};

use oh_protocol::calls::server::ServerInfo;
use oh_transport::{Client, RequestFuture, WorkspaceHandle};

use crate::{Error, ErrorKind, ExitReport, Logs, StatusWatch};

/// An operation on a sandbox that has not started: see [`RequestFuture`].
pub type Request<T> = RequestFuture<T, Error>;

/// A running agent server in a sandbox of any kind, owned by this value. The sandbox ends when this
/// is dropped, and when this process ends for any reason.
///
/// For programs that choose the kind of sandbox when they run. A `Box<dyn Sandbox>` can be used
/// wherever a server is expected, for example to create a conversation.
///
/// ```no_run
/// # #[cfg(feature = "docker")]
/// # async fn run() -> Result<(), oh_sandbox::Error> {
/// use std::time::Duration;
/// use oh_sandbox::{DockerServer, Sandbox};
///
/// let sandbox: Box<dyn Sandbox> = Box::new(DockerServer::builder().start().await?);
/// println!("{} {:?}", sandbox.id(), sandbox.status().current());
/// sandbox.shutdown(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
pub trait Sandbox: WorkspaceHandle + AsRef<Client> + fmt::Debug + Send + Sync {
    /// Returns the name of the sandbox where it runs, such as the id of a container.
    fn id(&self) -> &str;

    /// Returns the information that the server sent when it became ready.
    fn info(&self) -> &ServerInfo;

    /// Returns a watch on the server's status.
    fn status(&self) -> StatusWatch;

    /// Returns a stream of the lines that the server writes from now on, without its secrets.
    fn logs(&self) -> Logs;

    /// Returns the last lines that the server wrote, oldest first; at most 200.
    fn log_tail(&self) -> Vec<String>;

    /// Freezes the server and its agents until [`resume`](Self::resume). A run that waits for the
    /// server continues to wait.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if this kind of sandbox cannot be paused, which is the default.
    /// Other kinds if the sandbox does not run, or is paused already.
    fn pause(&self) -> Request<()> {
        unsupported("paused")
    }

    /// Continues a paused server, and waits until it is ready and verified again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if this kind of sandbox cannot be paused, which is the default.
    /// Other kinds if the sandbox is not paused, or the server does not become ready.
    fn resume(&self) -> Request<()> {
        unsupported("resumed")
    }

    /// Shuts the server down: asks it to end, after `grace` kills everything in the sandbox, and
    /// removes the sandbox.
    ///
    /// Cancel-safe: dropping the future ends the sandbox at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the sandbox cannot be ended or removed.
    fn shutdown(self: Box<Self>, grace: Duration) -> Request<ExitReport>;
}

fn unsupported(what: &str) -> Request<()> {
    let message = format!("this kind of sandbox cannot be {what}; shut it down instead");
    Request::new(async { Err(Error::new(ErrorKind::Unsupported, message)) })
}

impl WorkspaceHandle for Box<dyn Sandbox> {
    fn client(&self) -> &Client {
        (**self).client()
    }

    fn working_dir(&self) -> &str {
        (**self).working_dir()
    }
}

impl AsRef<Client> for Box<dyn Sandbox> {
    fn as_ref(&self) -> &Client {
        (**self).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Plain(Client);

    impl WorkspaceHandle for Plain {
        fn client(&self) -> &Client {
            &self.0
        }

        fn working_dir(&self) -> &str {
            "/here"
        }
    }

    impl AsRef<Client> for Plain {
        fn as_ref(&self) -> &Client {
            &self.0
        }
    }

    impl Sandbox for Plain {
        fn id(&self) -> &str {
            "plain"
        }

        fn info(&self) -> &ServerInfo {
            panic!("not used")
        }

        fn status(&self) -> StatusWatch {
            panic!("not used")
        }

        fn logs(&self) -> Logs {
            panic!("not used")
        }

        fn log_tail(&self) -> Vec<String> {
            Vec::new()
        }

        fn shutdown(self: Box<Self>, _: Duration) -> Request<ExitReport> {
            Request::new(async { Ok(ExitReport::of_container(Some(0), false)) })
        }
    }

    #[tokio::test]
    async fn a_kind_that_cannot_be_paused_has_a_typed_error() {
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let sandbox: Box<dyn Sandbox> = Box::new(Plain(client));
        assert_eq!(WorkspaceHandle::working_dir(&sandbox), "/here");
        for request in [sandbox.pause(), sandbox.resume()] {
            let error = tokio::spawn(request).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        assert!(sandbox.shutdown(Duration::ZERO).await.unwrap().success());
    }
}
