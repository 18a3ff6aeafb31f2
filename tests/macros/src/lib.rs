//! Gives procedural macros the features that the manifest lists. Has no code.
