//! Decides when a run is over: a pure function of the log, the snapshots and the REST responses.
//!
//! The status `finished` in the log is only a hint, because a Stop hook or a late message can
//! revert it. A run ends with the full-state snapshot that the server sends once the run's slot is
//! free. If that snapshot is missed, the run ends with a new snapshot after a reconnect, or with a
//! status that REST repeats while there are no events. In both cases the run ends only when the
//! mirror has every event of the server.

use oh_protocol::ExecutionStatus;

/// A REST response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) status: ExecutionStatus,
    /// How often in a row REST has reported this status, without events in between.
    pub(super) times: u32,
    /// Whether the mirror has the server's newest event.
    pub(super) complete: bool,
    /// The newest status in the server's log.
    pub(super) logged: Option<ExecutionStatus>,
}

/// Everything that is known about a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Signals {
    /// Whether the log shows the run, or it was in progress from the start.
    pub(super) begun: bool,
    /// The last status in the log since then.
    pub(super) hint: Option<ExecutionStatus>,
    /// The status of the last snapshot that ends a run, and whether that status is certain.
    pub(super) snapshot: Option<(ExecutionStatus, bool)>,
    /// The last REST response.
    pub(super) asked: Option<Asked>,
    /// Whether a Stop hook may be running and may deny the end.
    pub(super) stop_hooks: bool,
    /// Whether a user message has no answer yet.
    pub(super) unanswered: bool,
    /// Whether the run was expected from an approval that has had no effect.
    pub(super) unapproved: bool,
    /// Whether the run has had more than enough time to start.
    pub(super) overdue: bool,
}

/// The decision about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The run continues.
    Wait,
    /// The run is over.
    End(ExecutionStatus),
    /// The server has accepted the run and does nothing.
    Wedged,
}

/// How often REST must repeat a status that ends a run.
const REPEATED: u32 = 2;
/// The same for `finished` while Stop hooks are configured: one may be running and may deny the
/// end.
const REPEATED_WITH_STOP_HOOK: u32 = 8;

/// Decides whether a run is over.
pub(super) fn decide(signals: &Signals) -> Decision {
    use ExecutionStatus::{Finished, Idle, Paused, WaitingForConfirmation};
    match &signals.snapshot {
        // A pause is reported at once, while its step continues; REST shows when the step is over.
        Some((Paused, _)) => {}
        // A run does not end with the status it started with: on the legacy socket, a snapshot can
        // be older than the log.
        Some((Idle, _)) if !matches!(signals.hint, None | Some(Idle)) => {}
        Some((status, true)) if signals.begun => return Decision::End(status.clone()),
        // There was nothing to do, or the snapshot is older than the run, or the server was killed
        // and lost the run.
        _ => {}
    }
    let Some(asked) = &signals.asked else {
        return Decision::Wait;
    };
    let snapshot = signals.snapshot.as_ref().map(|(status, _)| status);
    // A REST status does not end a run whose events are not all in the mirror.
    if asked.status.is_running() || !asked.complete {
        return Decision::Wait;
    }
    let same = snapshot == Some(&asked.status);
    if signals.begun && same && asked.status == Paused {
        return Decision::End(asked.status.clone());
    }
    if !signals.begun && signals.unapproved && asked.status == WaitingForConfirmation {
        return Decision::End(WaitingForConfirmation);
    }
    let finished = asked.status == Finished;
    if !signals.begun && (!finished || signals.unanswered) {
        // The run was accepted and will start, however long the agent takes to start. A message
        // that arrived while the previous run was finishing may have been missed.
        return match signals.overdue {
            true => Decision::Wedged,
            false => Decision::Wait,
        };
    }
    let hooked = finished && snapshot.is_none() && signals.stop_hooks;
    let needed = match hooked {
        true => REPEATED_WITH_STOP_HOOK,
        false => REPEATED,
    };
    if asked.times <= needed {
        return Decision::Wait;
    }
    // While the log shows `running`, the run continues: REST returns the status saved at the end of
    // the last step. Only a status that a new subscription confirms is newer than the log.
    let stopped = signals.hint.as_ref().is_none_or(|hint| !hint.is_running());
    match stopped || same || asked.logged.as_ref() == Some(&asked.status) {
        true => Decision::End(asked.status.clone()),
        false => Decision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use ExecutionStatus::{Error, Finished, Idle, Paused, Running};

    use super::*;

    fn asked(status: ExecutionStatus, times: u32) -> Option<Asked> {
        Some(Asked {
            status,
            times,
            complete: true,
            logged: None,
        })
    }

    fn incomplete(status: ExecutionStatus) -> Option<Asked> {
        asked(status, 9).map(|asked| Asked {
            complete: false,
            ..asked
        })
    }

    /// begun, hint, snapshot, REST response, expected decision.
    type Row = (
        bool,
        Option<ExecutionStatus>,
        Option<(ExecutionStatus, bool)>,
        Option<Asked>,
        Decision,
    );

    #[test]
    fn the_end_of_a_run_follows_the_truth_table() {
        let over = |status: ExecutionStatus| Decision::End(status);
        let wait = || Decision::Wait;
        let running = || Some(Running);
        let table: Vec<Row> = vec![
            // The snapshot after the run ends it at once.
            (
                true,
                Some(Finished),
                Some((Finished, true)),
                None,
                over(Finished),
            ),
            (true, running(), Some((Error, true)), None, over(Error)),
            // A snapshot that may be older than the run does not.
            (true, running(), Some((Error, false)), None, wait()),
            (false, None, Some((Finished, true)), None, wait()),
            // A hint is not an end: a Stop hook may deny it.
            (true, Some(Finished), None, None, wait()),
            (true, Some(Finished), None, asked(Finished, 2), wait()),
            (
                true,
                Some(Finished),
                None,
                asked(Finished, 3),
                over(Finished),
            ),
            // A pause is reported before its step has ended.
            (true, Some(Paused), Some((Paused, true)), None, wait()),
            (
                true,
                Some(Paused),
                Some((Paused, true)),
                asked(Running, 9),
                wait(),
            ),
            (
                true,
                Some(Paused),
                Some((Paused, true)),
                asked(Paused, 1),
                over(Paused),
            ),
            // A run does not end with the status it started with.
            (true, Some(Finished), Some((Idle, true)), None, wait()),
            (true, Some(Idle), Some((Idle, true)), None, over(Idle)),
            // REST never ends a run whose events are not all in the mirror.
            (true, Some(Finished), None, incomplete(Finished), wait()),
            (
                true,
                Some(Paused),
                Some((Paused, true)),
                incomplete(Paused),
                wait(),
            ),
            // Nor does REST end a run when the log contradicts it.
            (true, running(), None, asked(Finished, 9), wait()),
            (
                true,
                running(),
                Some((Finished, false)),
                asked(Finished, 9),
                over(Finished),
            ),
            // An accepted run starts, unless there was nothing to do.
            (false, None, None, asked(Idle, 9), wait()),
            (false, None, None, asked(Finished, 3), over(Finished)),
        ];
        for (n, (begun, hint, snapshot, asked, expected)) in table.into_iter().enumerate() {
            let signals = Signals {
                begun,
                hint,
                snapshot,
                asked,
                ..Signals::default()
            };
            assert_eq!(decide(&signals), expected, "row {n}: {signals:?}");
        }
    }

    #[test]
    fn the_end_depends_on_more_than_the_status() {
        let base = Signals {
            begun: true,
            hint: Some(Finished),
            asked: asked(Finished, 3),
            ..Signals::default()
        };
        let hooked = Signals {
            stop_hooks: true,
            ..base.clone()
        };
        assert_eq!(decide(&hooked), Decision::Wait, "a hook may be at work");
        let hooked = Signals {
            asked: asked(Finished, 9),
            ..hooked
        };
        assert_eq!(decide(&hooked), Decision::End(Finished));
        let unanswered = Signals {
            begun: false,
            hint: None,
            unanswered: true,
            ..base.clone()
        };
        assert_eq!(decide(&unanswered), Decision::Wait);
        let overdue = Signals {
            overdue: true,
            ..unanswered
        };
        assert_eq!(decide(&overdue), Decision::Wedged);
        let approval = |unapproved, begun, status| Signals {
            unapproved,
            begun,
            hint: begun.then_some(Running),
            asked: asked(status, 1),
            ..base.clone()
        };
        let waiting = ExecutionStatus::WaitingForConfirmation;
        for (unapproved, begun, status, expected) in [
            // The actions of an approval without effect wait again.
            (true, false, &waiting, Decision::End(waiting.clone())),
            // Until then REST still returns the status from before the run.
            (false, false, &waiting, Decision::Wait),
            (true, true, &waiting, Decision::Wait),
            (true, false, &Running, Decision::Wait),
            (true, false, &Idle, Decision::Wait),
        ] {
            let signals = approval(unapproved, begun, status.clone());
            assert_eq!(decide(&signals), expected, "{signals:?}");
        }
        let signals = Signals {
            asked: incomplete(waiting.clone()),
            ..approval(true, false, waiting)
        };
        assert_eq!(decide(&signals), Decision::Wait);
        let logged = Signals {
            hint: Some(Running),
            asked: base.asked.clone().map(|asked| Asked {
                logged: Some(Finished),
                ..asked
            }),
            ..base
        };
        assert_eq!(decide(&logged), Decision::End(Finished));
    }
}
