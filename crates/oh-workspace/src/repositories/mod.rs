//! Repositories that git on the server clones into the workspace.
//!
//! A token is passed only in the environment of the command that clones, as with
//! [`secret_env`](crate::Execute::secret_env). The token appears in no command line, URL, file,
//! repository configuration or log.

mod clone;
mod source;

pub use clone::{CloneRepositories, ClonedRepositories, ClonedRepository, FailedClone};
pub use source::{GitProvider, Repository};
