//! Tests of conversations against servers that misbehave on demand.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod builder;
#[cfg(test)]
mod bulk;
#[cfg(test)]
mod callbacks;
#[cfg(test)]
mod children;
#[cfg(test)]
mod client_tools;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod damaged;
#[cfg(test)]
mod earlier;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod first_tokens;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod forks;
#[cfg(test)]
mod handlers;
#[cfg(test)]
mod invariant;
#[cfg(test)]
mod joins;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod link;
#[cfg(test)]
mod links;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod lookups;
#[cfg(test)]
mod mcp;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod navigation;
#[cfg(test)]
mod owned;
mod pitfalls;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod rejections;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod run;
#[cfg(test)]
mod run_ends;
#[cfg(test)]
mod runtimes;
#[cfg(test)]
mod same_process;
#[cfg(test)]
mod sharp;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tokens;
#[cfg(all(test, feature = "schemars"))]
mod typed_tools;
#[cfg(test)]
mod unclear;
#[cfg(test)]
mod unusable;
