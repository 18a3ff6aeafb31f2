//! Compares the fake server with the real one: the same requests and the same script must produce
//! the same responses.
//!
//! Each scenario records its observations, without values that always differ (ids, times, texts of
//! explanations). The records of both sides must be equal.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod agree;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod branches;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod every;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod held;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod places;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod served;
#[cfg(test)]
mod side;
