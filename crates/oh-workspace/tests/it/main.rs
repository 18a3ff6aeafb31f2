//! Workspaces of servers that misbehave on demand.

#[cfg(test)]
mod automation;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod surroundings;
