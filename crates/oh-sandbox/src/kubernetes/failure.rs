//! Why a claim ended, in the words of the cluster.

use std::fmt;

use crate::{
    Error, ErrorKind,
    kubernetes::resources::{Condition, SandboxClaim},
};

/// Why a claim cannot become ready, or why its sandbox has ended. [`Error::claim_failure`] returns
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimFailure {
    /// The reason.
    pub reason: ClaimReason,
    /// The message of the cluster. May be empty.
    pub message: String,
}

/// The reason of a [`ClaimFailure`]. Later versions may add reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClaimReason {
    /// The template of the warm pool does not exist.
    TemplateNotFound,
    /// The warm pool does not exist in this namespace.
    WarmPoolNotFound,
    /// A label or an annotation for the pod is not permitted.
    InvalidMetadata,
    /// The template does not permit variables in claims.
    EnvVarsInjectionRejected,
    /// The volumes of the template cannot be created.
    VolumeClaimTemplatesError,
    /// The shutdown time of the claim has passed.
    ClaimExpired,
    /// The shutdown time of the sandbox has passed.
    SandboxExpired,
    /// The template or the claim is invalid.
    InvalidConfiguration,
    /// The pod has ended with a failure, or was evicted.
    PodFailed,
    /// The pod has ended successfully. An agent server does not end by itself.
    PodSucceeded,
    /// The claim was deleted by somebody else.
    Deleted,
}

impl ClaimReason {
    const ALL: [(&'static str, Self); 10] = [
        ("TemplateNotFound", Self::TemplateNotFound),
        ("WarmPoolNotFound", Self::WarmPoolNotFound),
        ("InvalidMetadata", Self::InvalidMetadata),
        ("EnvVarsInjectionRejected", Self::EnvVarsInjectionRejected),
        ("VolumeClaimTemplatesError", Self::VolumeClaimTemplatesError),
        ("ClaimExpired", Self::ClaimExpired),
        ("SandboxExpired", Self::SandboxExpired),
        ("InvalidConfiguration", Self::InvalidConfiguration),
        ("PodFailed", Self::PodFailed),
        ("PodSucceeded", Self::PodSucceeded),
    ];

    /// Returns the remedy, for messages.
    fn remedy(self) -> &'static str {
        match self {
            Self::TemplateNotFound => "create the SandboxTemplate that the warm pool names",
            Self::WarmPoolNotFound => "correct `warm_pool` or `namespace`",
            Self::InvalidMetadata => "correct the labels and annotations",
            Self::EnvVarsInjectionRejected => "send variables with `env` and an init key instead",
            Self::VolumeClaimTemplatesError => "correct the volumes of the SandboxTemplate",
            Self::ClaimExpired => {
                "set a longer `lease`, and compare this machine's clock with the cluster's"
            }
            Self::SandboxExpired => "set a later shutdown time in the cluster",
            Self::InvalidConfiguration => "correct the SandboxTemplate",
            Self::PodFailed | Self::PodSucceeded => "read the events of the pod, and claim another",
            Self::Deleted => "claim another sandbox",
        }
    }
}

impl fmt::Display for ClaimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.reason)?;
        match self.message.as_str() {
            "" => Ok(()),
            message => write!(f, ": {message}"),
        }
    }
}

impl std::error::Error for ClaimFailure {}

/// Returns why a claim will never be ready again, if so.
pub(crate) fn terminal(claim: &SandboxClaim) -> Option<ClaimFailure> {
    claim.status.conditions.iter().find_map(of_condition)
}

fn of_condition(condition: &Condition) -> Option<ClaimFailure> {
    let failed = match condition.kind.as_str() {
        "Ready" => condition.status == "False",
        "Finished" => condition.status == "True",
        _ => false,
    };
    let mut known = ClaimReason::ALL.iter();
    let (_, reason) = known.find(|(name, _)| *name == condition.reason)?;
    failed.then(|| ClaimFailure {
        reason: *reason,
        message: condition.message.clone(),
    })
}

/// Returns the failure of a claim that somebody else has deleted.
pub(crate) fn deleted() -> ClaimFailure {
    ClaimFailure {
        reason: ClaimReason::Deleted,
        message: "the claim was deleted".to_owned(),
    }
}

/// Returns the error of a claim that has failed.
pub(crate) fn error(claim: &str, failure: ClaimFailure) -> Error {
    let remedy = failure.reason.remedy();
    let message = format!("claim {claim} has failed; {remedy}");
    Error::new(ErrorKind::Claim, message).with_source(failure)
}

impl Error {
    /// Returns why the claim of a sandbox in Kubernetes has failed, for [`ErrorKind::Claim`].
    pub fn claim_failure(&self) -> Option<&ClaimFailure> {
        std::error::Error::source(self)?.downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "why".to_owned(),
        }
    }

    #[test]
    fn each_terminal_reason_has_a_name_and_others_are_not_terminal() {
        for (name, reason) in ClaimReason::ALL {
            let failure = of_condition(&condition("Ready", "False", name)).unwrap();
            assert_eq!(failure.reason, reason);
            let error = error("c", failure);
            assert_eq!(error.claim_failure().unwrap().reason, reason);
            assert!(
                error.to_string().ends_with(&format!("{name}: why")),
                "{error}"
            );
        }
        let finished = of_condition(&condition("Finished", "True", "PodFailed"));
        assert_eq!(finished.unwrap().reason, ClaimReason::PodFailed);
        for (kind, status, reason) in [
            ("Ready", "False", "DependenciesNotReady"),
            ("Ready", "True", "ClaimExpired"),
            ("Finished", "False", "PodFailed"),
            ("Suspended", "False", "PodFailed"),
        ] {
            assert_eq!(of_condition(&condition(kind, status, reason)), None);
        }
    }
}
