//! The same promises on two generations of servers.

#[cfg(test)]
mod promises;
