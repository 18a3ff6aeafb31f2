//! Workspaces of servers that misbehave on demand.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod surroundings;
