//! The future of an operation.

/// An administration operation that has not started: see
/// [`RequestFuture`](oh_transport::RequestFuture).
pub type Request<T> = oh_transport::RequestFuture<T, crate::Error>;
