//! Complete small programs.
