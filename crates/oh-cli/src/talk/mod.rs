//! Talking with a person or a program while an agent works: lines of stdin, and the commands and
//! answers in them.

pub(crate) mod answer;
pub(crate) mod command;
pub(crate) mod input;
