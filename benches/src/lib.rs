//! Shared parts of the benches of whole clients: rows, the corpus, the floor's frame reader, and
//! processes that are measured from outside.

mod corpus;
mod frames;
mod http;
mod rows;
mod subject;

pub use corpus::Corpus;
pub use frames::{Frames, upgraded};
pub use http::Http;
pub use rows::{Outcome, quantile, row, skipped};
pub use subject::{Subject, python, say, typescript, us, wait_for, wanted};
