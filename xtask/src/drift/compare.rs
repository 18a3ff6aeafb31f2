//! Compares two versions of a server: which names and fields are only in one of them, or differ.

use std::collections::{BTreeMap, BTreeSet};

/// The fields of a name, and the type of each as text.
pub(crate) type Fields = BTreeMap<String, String>;

/// The names of a part of the interface.
pub(crate) type Part = BTreeMap<String, Fields>;

/// A difference between the pinned version and another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The pinned version does not have the name.
    Added(String),
    /// Only the pinned version has the name.
    Removed(String),
    /// A field of the name is new, gone, or of another type.
    Field {
        name: String,
        field: String,
        /// The type in the pinned version.
        pinned: Option<String>,
        /// The type in the other version.
        other: Option<String>,
    },
}

/// The weight of all differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The versions are the same.
    Same,
    /// The other version only has more.
    Additions,
    /// Something that the pinned version has is gone or different, or a request needs more.
    Breaking,
}

/// The differences of a part.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) part: String,
    /// Number of names in the pinned version.
    pub(crate) pinned: usize,
    /// Number of names in the other version.
    pub(crate) other: usize,
    pub(crate) changes: Vec<Change>,
}

impl Change {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Added(_) => Verdict::Additions,
            Self::Field {
                pinned: None,
                other: Some(kind),
                ..
            } if !kind.ends_with(", required") => Verdict::Additions,
            Self::Removed(_) | Self::Field { .. } => Verdict::Breaking,
        }
    }
}

/// Returns the differences of a part, in the order of its names.
pub(crate) fn part(name: &str, pinned: &Part, other: &Part) -> Difference {
    let names: BTreeSet<_> = pinned.keys().chain(other.keys()).collect();
    let changes = names
        .into_iter()
        .flat_map(|name| match (pinned.get(name), other.get(name)) {
            (None, _) => vec![Change::Added(name.clone())],
            (_, None) => vec![Change::Removed(name.clone())],
            (Some(pinned), Some(other)) => fields(name, pinned, other),
        });
    Difference {
        part: name.to_owned(),
        pinned: pinned.len(),
        other: other.len(),
        changes: changes.collect(),
    }
}

fn fields(name: &str, pinned: &Fields, other: &Fields) -> Vec<Change> {
    let fields: BTreeSet<_> = pinned.keys().chain(other.keys()).collect();
    let changed = fields.into_iter().filter_map(|field| {
        let (pinned, other) = (pinned.get(field), other.get(field));
        (pinned != other).then(|| Change::Field {
            name: name.to_owned(),
            field: field.clone(),
            pinned: pinned.cloned(),
            other: other.cloned(),
        })
    });
    changed.collect()
}

/// Returns the weight of all differences.
pub(crate) fn verdict(differences: &[Difference]) -> Verdict {
    let changes = differences
        .iter()
        .flat_map(|difference| &difference.changes);
    changes.map(Change::verdict).max().unwrap_or(Verdict::Same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[(&str, &[(&str, &str)])]) -> Part {
        let own = |fields: &[(&str, &str)]| {
            let fields = fields.iter();
            fields
                .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
                .collect()
        };
        let names = names.iter();
        names
            .map(|(name, fields)| ((*name).to_owned(), own(fields)))
            .collect()
    }

    #[test]
    fn equal_versions_have_no_drift() {
        let one = of(&[("A", &[("id", "string")]), ("B", &[])]);
        let difference = part("schemas", &one, &one.clone());
        assert_eq!(difference.changes, []);
        assert_eq!((difference.pinned, difference.other), (2, 2));
        assert_eq!(verdict(&[difference]), Verdict::Same);
    }

    #[test]
    fn new_names_and_optional_fields_are_additions() {
        let pinned = of(&[("A", &[("id", "string")])]);
        let other = of(&[("A", &[("id", "string"), ("tag", "string")]), ("B", &[])]);
        let difference = part("schemas", &pinned, &other);
        let field = Change::Field {
            name: "A".to_owned(),
            field: "tag".to_owned(),
            pinned: None,
            other: Some("string".to_owned()),
        };
        assert_eq!(difference.changes, [field, Change::Added("B".to_owned())]);
        assert_eq!(verdict(&[difference]), Verdict::Additions);
    }

    #[test]
    fn lost_names_and_changed_fields_and_required_fields_are_breaking() {
        let pinned = of(&[("A", &[("id", "string")]), ("B", &[])]);
        for other in [
            of(&[("A", &[("id", "string")])]),
            of(&[("A", &[("id", "integer")]), ("B", &[])]),
            of(&[("A", &[]), ("B", &[])]),
            of(&[
                ("A", &[("id", "string"), ("key", "string, required")]),
                ("B", &[]),
            ]),
        ] {
            let difference = part("schemas", &pinned, &other);
            assert_eq!(difference.changes.len(), 1, "{other:?}");
            assert_eq!(verdict(&[difference]), Verdict::Breaking, "{other:?}");
        }
    }
}
