//! The tree of a parsed pattern.

use super::class::Class;

#[derive(Debug)]
pub(super) enum Node {
    Take(Class),
    At(At),
    Sequence(Vec<Node>),
    Branch(Vec<Node>),
    Group(usize, Box<Node>),
    Again {
        group: usize,
        fold: bool,
    },
    IfGroup {
        group: usize,
        yes: Box<Node>,
        no: Box<Node>,
    },
    /// A look-ahead, or a look-behind that starts `back` characters earlier.
    Look {
        back: Option<usize>,
        not: bool,
        node: Box<Node>,
    },
    Atomic(Box<Node>),
    Repeat(Repeat),
}

#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) node: Box<Node>,
    pub(super) least: u64,
    pub(super) most: Option<u64>,
    pub(super) greediness: Greediness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greediness {
    Greedy,
    Lazy,
    Possessive,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    Start,
    LineStart,
    End,
    /// The end of the text, or the position before a final newline.
    LastLine,
    LineEnd,
    Boundary {
        ascii: bool,
    },
}
