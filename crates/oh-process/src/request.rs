//! The future of an operation.

/// An operation on a server or an environment that has not started: see
/// [`RequestFuture`](oh_transport::RequestFuture).
pub type Request<T> = oh_transport::RequestFuture<T, crate::Error>;
