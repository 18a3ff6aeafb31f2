//! Compiled patterns and a backtracking matcher with its own stack. No input can overflow the
//! thread's stack or run for an unlimited time.

use super::{
    Refusal,
    class::{Class, word},
    parse::parse,
    tree::{At, Greediness, Node, Repeat},
    undecided,
};

/// The maximum number of steps in a pattern, and of steps executed in a match.
const MAX_STEPS: usize = 20_000;
const MOST_WORK: usize = 1_000_000;

/// A pattern that Python accepts.
#[derive(Debug)]
pub(crate) struct Pattern {
    steps: Vec<Step>,
    slots: usize,
}

#[derive(Debug)]
enum Step {
    Take(Class),
    /// Continues at the first step, and at the second if the first fails.
    Split(usize, usize),
    Jump(usize),
    /// Stores the position in a slot.
    Mark(usize),
    At(At),
    Again {
        group: usize,
        fold: bool,
    },
    /// Continues at `no` unless the group has matched.
    IfGroup {
        group: usize,
        no: usize,
    },
    /// Leaves a loop whose last iteration consumed nothing.
    Moved {
        slot: usize,
        end: usize,
    },
    /// The steps up to `Done` must match (or, with `not`, must not match), starting `back`
    /// characters earlier.
    Look {
        back: Option<usize>,
        not: bool,
        end: usize,
    },
    /// The steps up to `Done` match in one way or not at all, without backtracking.
    Atomic {
        end: usize,
    },
    Done,
    Whole,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, Refusal> {
        let (node, groups) = parse(text)?;
        let mut pattern = Self {
            steps: Vec::new(),
            slots: 2 * (groups + 1),
        };
        pattern.emit(&node)?;
        pattern.push(Step::Whole)?;
        Ok(pattern)
    }

    /// Returns whether the pattern matches the whole text.
    pub(crate) fn full_match(&self, text: &str) -> Result<bool, Refusal> {
        let mut run = Run {
            pattern: self,
            text: text.chars().collect(),
            slots: vec![None; self.slots],
            undo: Vec::new(),
            work: 0,
        };
        Ok(run.walk(0, 0)?.is_some())
    }

    fn push(&mut self, step: Step) -> Result<usize, Refusal> {
        if self.steps.len() >= MAX_STEPS {
            return undecided("the pattern is too long");
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    /// Replaces a step of an earlier [`push`](Self::push) when its target is known.
    fn patch(&mut self, index: usize, step: Step) {
        self.steps[index] = step;
    }

    fn emit(&mut self, node: &Node) -> Result<(), Refusal> {
        match node {
            Node::Take(class) => {
                self.push(Step::Take(class.clone()))?;
            }
            Node::At(at) => {
                self.push(Step::At(*at))?;
            }
            Node::Sequence(nodes) => {
                for node in nodes {
                    self.emit(node)?;
                }
            }
            Node::Branch(nodes) => {
                let mut ends = Vec::new();
                for (index, node) in nodes.iter().enumerate() {
                    let last = index + 1 == nodes.len();
                    let split = if last {
                        None
                    } else {
                        Some(self.push(Step::Done)?)
                    };
                    self.emit(node)?;
                    if let Some(split) = split {
                        ends.push(self.push(Step::Done)?);
                        self.patch(split, Step::Split(split + 1, self.steps.len()));
                    }
                }
                for end in ends {
                    self.patch(end, Step::Jump(self.steps.len()));
                }
            }
            Node::Group(index, node) => {
                self.push(Step::Mark(2 * index))?;
                self.emit(node)?;
                self.push(Step::Mark(2 * index + 1))?;
            }
            Node::Again { group, fold } => {
                self.push(Step::Again {
                    group: *group,
                    fold: *fold,
                })?;
            }
            Node::IfGroup { group, yes, no } => {
                let test = self.push(Step::Done)?;
                self.emit(yes)?;
                let jump = self.push(Step::Done)?;
                self.patch(
                    test,
                    Step::IfGroup {
                        group: *group,
                        no: self.steps.len(),
                    },
                );
                self.emit(no)?;
                self.patch(jump, Step::Jump(self.steps.len()));
            }
            Node::Look { back, not, node } => {
                let look = self.push(Step::Done)?;
                self.emit(node)?;
                self.push(Step::Done)?;
                let (back, not, end) = (*back, *not, self.steps.len());
                self.patch(look, Step::Look { back, not, end });
            }
            Node::Atomic(node) => self.atomic(|pattern| pattern.emit(node))?,
            Node::Repeat(repeat) => match repeat.greediness {
                Greediness::Possessive => self.atomic(|pattern| pattern.repeat(repeat))?,
                _ => self.repeat(repeat)?,
            },
        }
        Ok(())
    }

    fn atomic(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let atomic = self.push(Step::Done)?;
        body(self)?;
        self.push(Step::Done)?;
        self.patch(
            atomic,
            Step::Atomic {
                end: self.steps.len(),
            },
        );
        Ok(())
    }

    fn repeat(&mut self, repeat: &Repeat) -> Result<(), Refusal> {
        let split = |here: usize, end: usize| match repeat.greediness {
            Greediness::Lazy => Step::Split(end, here),
            _ => Step::Split(here, end),
        };
        for _ in 0..repeat.least {
            let before = self.steps.len();
            self.emit(&repeat.node)?;
            if self.steps.len() == before {
                break; // An empty node matches nothing in every repetition.
            }
        }
        let Some(most) = repeat.most else {
            let slot = self.slots;
            self.slots += 1;
            let top = self.push(Step::Done)?;
            self.push(Step::Mark(slot))?;
            self.emit(&repeat.node)?;
            let moved = self.push(Step::Done)?;
            self.push(Step::Jump(top))?;
            let end = self.steps.len();
            self.patch(moved, Step::Moved { slot, end });
            self.patch(top, split(top + 1, end));
            return Ok(());
        };
        let mut splits = Vec::new();
        for _ in repeat.least..most {
            splits.push(self.push(Step::Done)?);
            self.emit(&repeat.node)?;
        }
        let end = self.steps.len();
        for here in splits {
            self.patch(here, split(here + 1, end));
        }
        Ok(())
    }
}

enum Undo {
    /// An alternative to try: step and position.
    Way(usize, usize),
    /// The previous value of a slot.
    Slot(usize, Option<usize>),
}

struct Run<'a> {
    pattern: &'a Pattern,
    text: Vec<char>,
    slots: Vec<Option<usize>>,
    undo: Vec<Undo>,
    work: usize,
}

impl Run<'_> {
    /// Runs the steps from `step` at `place` and returns the end of the match, if there is one.
    /// Recurses once for each nested look-around or atomic group; the parser limits their depth.
    fn walk(&mut self, mut step: usize, mut place: usize) -> Result<Option<usize>, Refusal> {
        let base = self.undo.len();
        loop {
            self.work += 1;
            if self.work > MOST_WORK {
                return undecided("matching takes too long");
            }
            let next = match &self.pattern.steps[step] {
                Step::Take(class) => match self.text.get(place) {
                    Some(c) if class.takes(*c)? => Some((step + 1, place + 1)),
                    _ => None,
                },
                Step::Split(first, second) => {
                    self.undo.push(Undo::Way(*second, place));
                    Some((*first, place))
                }
                Step::Jump(target) => Some((*target, place)),
                Step::Mark(slot) => {
                    let before = self.slots[*slot].replace(place);
                    self.undo.push(Undo::Slot(*slot, before));
                    Some((step + 1, place))
                }
                Step::At(at) => self.stands(*at, place).then_some((step + 1, place)),
                Step::Again { group, fold } => self
                    .again(*group, *fold, place)?
                    .map(|place| (step + 1, place)),
                Step::IfGroup { group, no } => {
                    let (from, to) = (self.slots[2 * group], self.slots[2 * group + 1]);
                    let matched = from.is_some() && from <= to;
                    Some((if matched { step + 1 } else { *no }, place))
                }
                Step::Moved { slot, end } => match self.slots[*slot] == Some(place) {
                    true => Some((*end, place)),
                    false => Some((step + 1, place)),
                },
                Step::Look { back, not, end } => {
                    let (not, end) = (*not, *end);
                    let from = place.checked_sub(back.unwrap_or(0));
                    let before = self.undo.len();
                    let found = match from {
                        Some(from) => self.walk(step + 1, from)?.is_some(),
                        None => false,
                    };
                    if found && not {
                        self.unwind(before);
                    }
                    (found != not).then_some((end, place))
                }
                Step::Atomic { end } => {
                    let end = *end;
                    self.walk(step + 1, place)?.map(|place| (end, place))
                }
                Step::Done => {
                    self.settle(base);
                    return Ok(Some(place));
                }
                Step::Whole if place == self.text.len() => return Ok(Some(place)),
                Step::Whole => None,
            };
            match next.or_else(|| self.unwind(base)) {
                Some(next) => (step, place) = next,
                None => return Ok(None),
            }
        }
    }

    /// Returns the next alternative and restores the slots to their earlier values.
    fn unwind(&mut self, base: usize) -> Option<(usize, usize)> {
        while self.undo.len() > base {
            match self.undo.pop() {
                Some(Undo::Way(step, place)) => return Some((step, place)),
                Some(Undo::Slot(slot, before)) => self.slots[slot] = before,
                None => break,
            }
        }
        None
    }

    /// Discards the alternatives but keeps the slot values needed for restoring.
    fn settle(&mut self, base: usize) {
        let late = self.undo.split_off(base);
        let slots = late
            .into_iter()
            .filter(|undo| matches!(undo, Undo::Slot(..)));
        self.undo.extend(slots);
    }

    fn stands(&self, at: At, place: usize) -> bool {
        let (text, end) = (&self.text, self.text.len());
        let newline = |index: usize| text.get(index) == Some(&'\n');
        let boundary = |ascii| {
            let is = |index: Option<usize>| {
                index
                    .and_then(|index| text.get(index))
                    .is_some_and(|c| word(*c, ascii))
            };
            is(place.checked_sub(1)) != is(Some(place))
        };
        match at {
            At::Start => place == 0,
            At::LineStart => place == 0 || newline(place - 1),
            At::End => place == end,
            At::LastLine => place == end || place + 1 == end && newline(place),
            At::LineEnd => place == end || newline(place),
            At::Boundary { ascii } => boundary(ascii),
        }
    }

    fn again(&self, group: usize, fold: bool, place: usize) -> Result<Option<usize>, Refusal> {
        let (Some(from), Some(to)) = (self.slots[2 * group], self.slots[2 * group + 1]) else {
            return Ok(None);
        };
        let Some(said) = self.text.get(from..to) else {
            return Ok(None);
        };
        let end = place + said.len();
        let Some(here) = self.text.get(place..end) else {
            return Ok(None);
        };
        if fold && !said.iter().chain(here).all(char::is_ascii) {
            return undecided("case folding of non-ASCII letters is not supported");
        }
        let same = said
            .iter()
            .zip(here)
            .all(|(a, b)| a == b || fold && a.eq_ignore_ascii_case(b));
        Ok(same.then_some(end))
    }
}
