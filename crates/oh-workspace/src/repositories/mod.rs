//! Repositories cloned into the workspace, by git on the server.
//!
//! A token is in the environment of the one command that clones, as with
//! [`secret_env`](crate::Execute::secret_env). It is in no command line, URL, file, configuration of
//! the repository or log.

mod clone;
mod source;

pub use clone::{CloneRepositories, ClonedRepositories, ClonedRepository, FailedClone};
pub use source::{GitProvider, Repository};
