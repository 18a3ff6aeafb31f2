//! Tests of the kits over real sockets. One binary, so that it links once and shares its client.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod complete;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod held;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod model;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod seams;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod support;
#[cfg(test)]
mod unread;
#[cfg(test)]
mod verbs;
#[cfg(test)]
mod ways;
#[cfg(test)]
mod weather;
