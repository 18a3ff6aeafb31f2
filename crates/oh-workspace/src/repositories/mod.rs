//! Repositories cloned into the workspace, by git on the server.
//!
//! A token reaches git through a file that only the server's user can read and that is gone when
//! git is: it is in no command line, no URL, no configuration of the repository and no log.

mod clone;
mod source;

pub use clone::{CloneRepositories, ClonedRepositories, ClonedRepository, FailedClone};
pub use source::{GitProvider, Repository};
