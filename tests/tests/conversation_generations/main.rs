//! Checks the same guarantees on two generations of servers.

#[cfg(test)]
mod promises;
