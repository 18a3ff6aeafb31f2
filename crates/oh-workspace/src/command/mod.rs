//! Commands: starting, following, stopping and finding them.

mod clock;
mod end;
mod execute;
mod follow;
mod guard;
mod history;
mod hub;
mod live;
mod order;
mod pieces;
mod running;
mod stop;

pub(crate) use end::excerpt;
pub use end::{CommandBytes, CommandEnd, CommandOutput};
pub use execute::Execute;
pub use follow::HistoryStream;
pub use history::History;
pub(crate) use hub::Hub;
pub use live::{LiveChunk, LiveOutput};
pub use running::{Command, Output, OutputChunk};
