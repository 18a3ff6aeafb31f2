//! The client against peers on loopback: real connections, hostile answers, certificates,
//! proxies. Every test watches what is logged at TRACE for the session key.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod common;
#[cfg(test)]
mod network;
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
