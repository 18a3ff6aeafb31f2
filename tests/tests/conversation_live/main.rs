//! Conversations on the real server.

#[cfg(test)]
mod live;
