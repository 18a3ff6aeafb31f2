//! Conversations on the real server.

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod live;
