//! The order of security risks.

use std::cmp::Ordering;

use super::SecurityRisk;

impl SecurityRisk {
    /// Returns the position in the order, and the text of a value that this version does not
    /// support.
    fn rank(&self) -> (u8, &str) {
        match self {
            Self::Low => (0, ""),
            Self::Medium => (1, ""),
            Self::High => (2, ""),
            Self::Unknown => (3, ""),
            Self::Other(word) => (4, word),
        }
    }
}

impl Ord for SecurityRisk {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for SecurityRisk {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_risk_is_higher_than_every_known_risk() {
        let risks = ["LOW", "MEDIUM", "HIGH", "UNKNOWN", "CRITICAL", "MILD"];
        let risks = risks.map(SecurityRisk::from);
        assert!(risks.is_sorted_by(|lower, higher| lower < higher));
        for unjudged in &risks[3..] {
            assert!(*unjudged > SecurityRisk::High);
        }
    }

    #[test]
    fn the_order_agrees_with_equality() {
        let words = ["LOW", "MEDIUM", "HIGH", "UNKNOWN", "", "CRITICAL"];
        for left in words.map(SecurityRisk::from) {
            for right in words.map(SecurityRisk::from) {
                assert_eq!(left == right, left.cmp(&right).is_eq());
                assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
            }
        }
    }
}
