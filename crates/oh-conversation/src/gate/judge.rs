//! Decides whether a run could approve an action that waits: a pure function.

/// The facts that determine whether something runs or waits for approval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signs {
    /// The status from the log or the snapshot, whichever is newer.
    pub(crate) status: Known,
    /// Whether the newest status in the log is `waiting_for_confirmation`.
    pub(crate) logged_waiting: bool,
    /// How many actions of the active branch have no answer, apart from those approved by this
    /// process.
    pub(crate) open: usize,
    /// Whether an action approved by this process has not been executed yet.
    pub(crate) approved: bool,
    /// Whether an action was answered after the log has reported that actions wait: they are
    /// answered together, although the status may stay.
    pub(crate) answered: bool,
    /// Whether a policy may ask for approval, or has asked for one of these actions.
    pub(crate) asks: bool,
    /// Whether no other action can be open.
    pub(crate) complete: bool,
    /// Whether the active branch differs from the log as a whole.
    pub(crate) moved: bool,
    /// Whether the mirror follows the server.
    pub(crate) up: bool,
}

/// The statuses that are distinguished here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Running,
    Waiting,
    Other,
}

/// The result of [`judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Clear,
    Running,
    Waiting,
    /// The link must be up first.
    Unknown,
    /// Events before those held may contain an action that waits.
    Incomplete,
}

/// Determines the standing of a conversation whose log is held up to the server's newest event.
pub(crate) fn judge(signs: Signs) -> Verdict {
    let waits = signs.status == Known::Waiting || signs.logged_waiting;
    match signs {
        _ if waits && signs.open > 0 => Verdict::Waiting,
        _ if waits && !signs.complete => Verdict::Incomplete,
        // This version does not recognize the waiting action. After navigation to another branch,
        // an action that waited is not part of it.
        _ if waits && !signs.approved && !signs.moved && !signs.answered => Verdict::Waiting,
        _ if waits && signs.approved => Verdict::Running,
        _ if signs.status == Known::Running => Verdict::Running,
        // The log does not show what a restart has changed.
        _ if !signs.up => Verdict::Unknown,
        // The server executes these actions with the next run, regardless of its status.
        _ if signs.open > 0 && signs.asks => Verdict::Waiting,
        _ if !signs.complete => Verdict::Incomplete,
        _ => Verdict::Clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_started_only_if_no_action_can_be_waiting() {
        let statuses = [Known::Running, Known::Waiting, Known::Other];
        let bools = [false, true];
        for status in statuses {
            for bits in 0..128_u8 {
                let bit = |n: u8| bools[usize::from(bits >> n & 1)];
                for open in [0, 2] {
                    let signs = Signs {
                        status,
                        logged_waiting: bit(0),
                        open,
                        approved: bit(1),
                        asks: bit(2),
                        up: bit(4),
                        moved: bit(5),
                        complete: bit(3),
                        answered: bit(6),
                    };
                    let verdict = judge(signs);
                    let waits = status == Known::Waiting || signs.logged_waiting;
                    let expected = match (waits, open > 0) {
                        (true, true) => Verdict::Waiting,
                        (true, false) if !signs.complete => Verdict::Incomplete,
                        (true, false) if signs.approved => Verdict::Running,
                        (true, false) if !signs.moved && !signs.answered => Verdict::Waiting,
                        _ if status == Known::Running => Verdict::Running,
                        _ if !signs.up => Verdict::Unknown,
                        (false, true) if signs.asks => Verdict::Waiting,
                        _ if !signs.complete => Verdict::Incomplete,
                        _ => Verdict::Clear,
                    };
                    assert_eq!(verdict, expected, "{signs:?}");
                    if verdict == Verdict::Clear {
                        assert!(signs.complete, "{signs:?} could approve");
                        assert!(open == 0 || !signs.asks, "{signs:?} could approve");
                    }
                }
            }
        }
    }
}
