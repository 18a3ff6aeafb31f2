//! Commands: start, follow, stop, find again. What the server knows of files is elsewhere.

mod end;
mod execute;
mod guard;
mod history;
mod hub;
mod pieces;
mod running;

pub(crate) use end::excerpt;
pub use end::{CommandEnd, CommandOutput};
pub use execute::Execute;
pub(crate) use execute::quoted;
pub use history::History;
pub(crate) use hub::Hub;
pub use running::{Command, Output, OutputChunk};
