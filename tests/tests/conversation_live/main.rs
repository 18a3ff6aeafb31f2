//! Conversations on the real server.

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod invariant;
#[cfg(test)]
mod live;
#[cfg(test)]
mod requests;
