//! A conversation against servers that misbehave on demand.

mod exactly_once;
mod link;
mod mock;
mod run;
