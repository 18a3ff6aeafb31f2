//! Tests of the client against loopback peers: real connections, hostile responses, certificates
//! and proxies. Every test checks the TRACE log for the session key.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod common;
#[cfg(test)]
mod network;
#[cfg(test)]
mod owned;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod streams;
#[cfg(test)]
#[cfg(feature = "tls")]
mod tls;
