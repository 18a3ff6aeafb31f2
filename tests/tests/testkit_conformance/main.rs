//! The fake server against the real one: the same requests, the same script, the same answers.
//!
//! Each scenario writes down what it saw, without what differs by nature (ids, times, texts of
//! explanations). Both sides must have written the same.

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
