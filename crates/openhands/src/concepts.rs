//! Concepts: how conversations behave. Each module is a short text with an example.
//!
//! | Module | Question |
//! |-|-|
//! | [`mirror`] | Where do [`events()`](crate::Conversation::events) and the state come from, and how does a reader follow them? |
//! | [`ordering`] | In which order do events arrive, and how often? |
//! | [`reconnect`] | What happens when the connection or the server fails? |
//! | [`runs`] | When does [`run()`](crate::Conversation::run) return, and what are its outcomes? |
//! | [`approvals`] | How does a program approve or reject the agent's actions? |

pub mod approvals;
pub mod mirror;
pub mod ordering;
pub mod reconnect;
pub mod runs;
