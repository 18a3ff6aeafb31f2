//! Gives dependencies the same features in the tests of each crate as in those of the workspace.
//!
//! Each crate's tests alone would give tokio and others different features, and so compile nearly
//! all packages again for each crate. This crate has no code. Only tests depend on it: the check of
//! each feature alone shows that a crate names the features that it needs.
