//! The `oh` command: runs agents, and diagnoses, provisions and runs a local agent server.

mod doctor;
mod exit;
mod near;
mod provision;
mod records;
mod rm;
mod run;
mod serve;
#[allow(dead_code, reason = "commands that are being written use the rest")]
mod server;
mod show;
mod signals;
mod talk;
