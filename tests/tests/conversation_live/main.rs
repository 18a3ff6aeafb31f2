//! Conversations on the real server.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod invariant;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod links;
#[cfg(test)]
mod live;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod older;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod unclear;
