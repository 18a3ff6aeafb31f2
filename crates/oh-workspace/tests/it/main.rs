//! Workspaces on servers with injected faults.

#[cfg(test)]
mod automation;
#[cfg(test)]
mod automation_scope;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod exact;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod git;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod owned;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod surroundings;
