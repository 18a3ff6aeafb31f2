//! Checks the same guarantees on two generations of servers.

mod promises;
