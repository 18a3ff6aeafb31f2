//! The agent: plays a script, and acts on conversations like the agent server.

mod acts;
mod commands;
mod entries;
pub(super) mod goals;
mod request;
mod run;
mod step;

pub(super) use self::{
    acts::{final_response, interrupt, look_first, pause, said, take},
    commands::{
        go as go_command, receive as receive_command, run as run_command, start as start_command,
    },
    request::question,
    run::{Refused, close, prepare, receive, reject_all, restarted, start, start_in, stop},
    step::execute_waiting,
};
