//! The `oh` command.
fn main() {}
