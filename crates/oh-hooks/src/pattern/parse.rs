//! Parser for Python's pattern grammar. Rejects the patterns that Python rejects.

use super::{
    Refusal,
    class::{Class, Item},
    cursor::{Cursor, Token},
    escape::{literal, one, take},
    flags::Flags,
    invalid,
    tree::{At, Greediness, Node, Repeat},
    undecided,
};

/// Parses a pattern and returns its tree and the number of groups.
pub(super) fn parse(text: &str) -> Result<(Node, usize), Refusal> {
    let mut parser = Parser {
        cursor: Cursor::new(text),
        depth: 0,
        groups: Vec::new(),
        visible: None,
        referred: 0,
    };
    parser.cursor.complete_escapes()?;
    let mut flags = Flags::default();
    let node = parser.branch(&mut flags, true)?;
    if !parser.cursor.is_at_end() {
        return invalid("unbalanced parenthesis");
    }
    if parser.referred > parser.groups.len() {
        return invalid(format!(
            "reference to group {}, which does not exist",
            parser.referred
        ));
    }
    Ok((node, parser.groups.len()))
}

/// The maximum nesting depth. No pattern for names needs more, and every level uses stack space.
const MAX_DEPTH: usize = 60;
/// Python's own limit for repetition counts. Python reports an overflow there in its own way.
const MAX_REPEAT: u64 = u32::MAX as u64;

struct Group {
    name: Option<String>,
    /// The minimum and maximum match length, set when the group is closed.
    width: Option<(u64, u64)>,
}

struct Parser {
    cursor: Cursor,
    depth: usize,
    groups: Vec<Group>,
    /// Inside a look-behind: the number of groups that were opened before it.
    visible: Option<usize>,
    /// The highest group number used in a condition.
    referred: usize,
}

impl Parser {
    fn branch(&mut self, flags: &mut Flags, outermost: bool) -> Result<Node, Refusal> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return undecided("the pattern is nested too deeply");
        }
        let mut branches = vec![self.sequence(flags, outermost)?];
        while self.cursor.eat('|') {
            branches.push(self.sequence(flags, false)?);
        }
        self.depth -= 1;
        Ok(match branches.len() {
            1 => branches.remove(0),
            _ => Node::Branch(branches),
        })
    }

    fn sequence(&mut self, flags: &mut Flags, first: bool) -> Result<Node, Refusal> {
        let mut nodes = Vec::new();
        while let Some(token) = self.cursor.peek() {
            if matches!(token, Token::Plain('|' | ')')) {
                break;
            }
            self.cursor.next();
            let node = match token {
                Token::Plain(' ' | '\t'..='\r') if flags.verbose => continue,
                Token::Plain('#') if flags.verbose => {
                    while !matches!(self.cursor.next(), None | Some(Token::Plain('\n'))) {}
                    continue;
                }
                Token::Escape(c) => self.escape(c, *flags)?,
                Token::Plain('[') => self.cursor.set(*flags)?,
                Token::Plain('.') => Node::Take(Class {
                    negated: true,
                    items: match flags.dot_all {
                        true => Vec::new(),
                        false => vec![one('\n')],
                    },
                    fold: false,
                    ascii: false,
                }),
                Token::Plain('^') => Node::At(match flags.many_lines {
                    true => At::LineStart,
                    false => At::Start,
                }),
                Token::Plain('$') => Node::At(match flags.many_lines {
                    true => At::LineEnd,
                    false => At::LastLine,
                }),
                Token::Plain('(') => match self.group(flags, first && nodes.is_empty())? {
                    Some(node) => node,
                    None => continue,
                },
                Token::Plain(c @ ('*' | '+' | '?' | '{')) => match self.times(c)? {
                    Some((least, most)) => {
                        let repeat = self.repeat(nodes.pop(), least, most)?;
                        nodes.push(repeat);
                        continue;
                    }
                    None => literal(u32::from(c), *flags)?,
                },
                Token::Plain(c) => literal(u32::from(c), *flags)?,
            };
            nodes.push(node);
        }
        Ok(Node::Sequence(nodes))
    }

    fn escape(&mut self, c: char, flags: Flags) -> Result<Node, Refusal> {
        let at = |at| Ok(Node::At(at));
        match c {
            'A' => at(At::Start),
            'Z' => at(At::End),
            'b' => at(At::Boundary { ascii: flags.ascii }),
            // Python 3.14 adds `\z` and lets `\B` match an empty text.
            'z' | 'B' => undecided("its meaning differs between Python versions"),
            '1'..='9' => {
                let mut digits = String::from(c);
                digits += &self.cursor.digits(10, 1);
                let octal = digits.len() == 2 && digits.chars().all(|c| c.is_digit(8));
                let third = self.cursor.at;
                if octal {
                    digits += &self.cursor.digits(8, 1);
                }
                if self.cursor.at > third {
                    return match u32::from_str_radix(&digits, 8) {
                        Ok(code) if code <= 0o377 => literal(code, flags),
                        _ => self.cursor.here("octal escape too large"),
                    };
                }
                match digits.parse() {
                    Ok(group) if group <= self.groups.len() => self.refer(group, flags),
                    _ => self.cursor.here("invalid group reference"),
                }
            }
            '0' => {
                let digits = self.cursor.digits(8, 2);
                literal(u32::from_str_radix(&digits, 8).unwrap_or(0), flags)
            }
            _ => match self.cursor.in_set(c)? {
                Item::Range(code, _) => literal(code, flags),
                category => take(vec![category], false, flags),
            },
        }
    }

    /// Parses a repetition count. Returns `None` if the brace is a literal character.
    fn times(&mut self, sign: char) -> Result<Option<(u64, Option<u64>)>, Refusal> {
        match sign {
            '?' => return Ok(Some((0, Some(1)))),
            '*' => return Ok(Some((0, None))),
            '+' => return Ok(Some((1, None))),
            _ => {}
        }
        let start = self.cursor.at;
        if self.cursor.peek() == Some(Token::Plain('}')) {
            return Ok(None);
        }
        let least = self.cursor.digits(10, usize::MAX);
        let most = match self.cursor.eat(',') {
            true => self.cursor.digits(10, usize::MAX),
            false => least.clone(),
        };
        if !self.cursor.eat('}') {
            self.cursor.at = start;
            return Ok(None);
        }
        let number = |digits: &str| match digits.parse() {
            _ if digits.is_empty() => Ok(None),
            Ok(number) if number < MAX_REPEAT => Ok(Some(number)),
            _ => undecided("repetition count too large"),
        };
        let (least, most) = (number(&least)?.unwrap_or(0), number(&most)?);
        if most.is_some_and(|most| most < least) {
            return self
                .cursor
                .here("minimum repetition count above the maximum");
        }
        Ok(Some((least, most)))
    }

    fn repeat(
        &mut self,
        node: Option<Node>,
        least: u64,
        most: Option<u64>,
    ) -> Result<Node, Refusal> {
        let node = match node {
            None | Some(Node::At(_)) => return self.cursor.here("nothing to repeat"),
            Some(Node::Repeat(_)) => return self.cursor.here("multiple repeat"),
            Some(node) => Box::new(node),
        };
        let greediness = match (self.cursor.eat('?'), self.cursor.peek()) {
            (true, _) => Greediness::Lazy,
            (false, Some(Token::Plain('+'))) => {
                self.cursor.at += 1;
                Greediness::Possessive
            }
            _ => Greediness::Greedy,
        };
        Ok(Node::Repeat(Repeat {
            node,
            least,
            most,
            greediness,
        }))
    }

    /// Parses the content of parentheses. Returns `None` for comments and for flags of the whole
    /// pattern.
    fn group(&mut self, flags: &mut Flags, start: bool) -> Result<Option<Node>, Refusal> {
        let mut inner = *flags;
        let mut capture = None;
        let mut atomic = false;
        if !self.cursor.eat('?') {
            capture = Some(self.open(None)?);
        } else {
            match self.cursor.next() {
                Some(Token::Plain(':')) => {}
                Some(Token::Plain('>')) => atomic = true,
                Some(Token::Plain('#')) => loop {
                    match self.cursor.next() {
                        None => return self.cursor.here("unterminated comment"),
                        Some(Token::Plain(')')) => return Ok(None),
                        _ => {}
                    }
                },
                Some(Token::Plain('P')) => {
                    if self.cursor.eat('<') {
                        let name = self.name('>')?;
                        capture = Some(self.open(Some(name))?);
                    } else if self.cursor.eat('=') {
                        let name = self.name(')')?;
                        let group = self.named(&name)?;
                        return self.refer(group, *flags).map(Some);
                    } else {
                        return self.cursor.here("unknown extension");
                    }
                }
                Some(Token::Plain(sign @ ('=' | '!' | '<'))) => {
                    return self.look(sign, inner).map(Some);
                }
                Some(Token::Plain('(')) => return self.condition(*flags).map(Some),
                Some(Token::Plain(sign)) if sign == '-' || "iLmsxau".contains(sign) => {
                    if self.cursor.flags(sign, &mut inner)? {
                        if !start {
                            return self.cursor.here("global flags not at the start");
                        }
                        if inner.ascii && inner.unicode {
                            return undecided("flags `a` and `u` exclude each other");
                        }
                        *flags = inner;
                        return Ok(None);
                    }
                }
                _ => return self.cursor.here("unknown extension"),
            }
        }
        let node = self.branch(&mut inner, false)?;
        self.close()?;
        if let Some(index) = capture {
            let width = self.width(&node);
            if let Some(group) = self.groups.get_mut(index - 1) {
                group.width = Some(width);
            }
            return Ok(Some(Node::Group(index, Box::new(node))));
        }
        Ok(Some(match atomic {
            true => Node::Atomic(Box::new(node)),
            // Nested in its own sequence, so that a repetition applies to the whole group.
            false => Node::Sequence(vec![node]),
        }))
    }

    fn close(&mut self) -> Result<(), Refusal> {
        match self.cursor.eat(')') {
            true => Ok(()),
            false => self.cursor.here("unterminated group"),
        }
    }

    fn open(&mut self, name: Option<String>) -> Result<usize, Refusal> {
        if name.is_some() && self.groups.iter().any(|group| group.name == name) {
            return self.cursor.here("group name used twice");
        }
        self.groups.push(Group { name, width: None });
        Ok(self.groups.len())
    }

    fn look(&mut self, sign: char, mut flags: Flags) -> Result<Node, Refusal> {
        let behind = sign == '<';
        let not = match (sign, behind.then(|| self.cursor.next())) {
            ('=', _) | (_, Some(Some(Token::Plain('=')))) => false,
            ('!', _) | (_, Some(Some(Token::Plain('!')))) => true,
            _ => return self.cursor.here("unknown extension"),
        };
        let outer = self.visible;
        if behind {
            self.visible = outer.or(Some(self.groups.len()));
        }
        let node = self.branch(&mut flags, false)?;
        self.visible = outer;
        self.close()?;
        let back = match (behind, self.width(&node)) {
            (false, _) => None,
            (true, (least, most)) if least == most => match usize::try_from(least) {
                Ok(width) => Some(width),
                Err(_) => return undecided("the look-behind is too wide"),
            },
            _ => return self.cursor.here("look-behind without a fixed width"),
        };
        Ok(Node::Look {
            back,
            not,
            node: Box::new(node),
        })
    }

    fn condition(&mut self, flags: Flags) -> Result<Node, Refusal> {
        let name = self.until(')')?;
        let group = match name.chars().all(|c| c.is_ascii_digit()) {
            true => match name.parse() {
                Ok(0) => return self.cursor.here("condition on group 0"),
                Ok(group) if group < usize::from(u16::MAX) => group,
                _ => return self.cursor.here("condition on a group that does not exist"),
            },
            false => {
                identifier(&name)?;
                self.named(&name)?
            }
        };
        self.referred = self.referred.max(group);
        self.behind(group)?;
        let mut inner = flags;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return undecided("the pattern is nested too deeply");
        }
        let yes = Box::new(self.sequence(&mut inner, false)?);
        let no = match self.cursor.eat('|') {
            true => self.sequence(&mut inner, false)?,
            false => Node::Sequence(Vec::new()),
        };
        self.depth -= 1;
        if self.cursor.peek() == Some(Token::Plain('|')) {
            return self.cursor.here("condition with more than two branches");
        }
        self.close()?;
        Ok(Node::IfGroup {
            group,
            yes,
            no: Box::new(no),
        })
    }

    fn until(&mut self, end: char) -> Result<String, Refusal> {
        let mut name = String::new();
        loop {
            match self.cursor.next() {
                Some(Token::Plain(c)) if c == end => break,
                Some(Token::Plain(c)) => name.push(c),
                Some(Token::Escape(c)) => name.extend(['\\', c]),
                None => return self.cursor.here("unterminated group name"),
            }
        }
        match name.is_empty() {
            true => self.cursor.here("missing group name"),
            false => Ok(name),
        }
    }

    fn name(&mut self, end: char) -> Result<String, Refusal> {
        let name = self.until(end)?;
        identifier(&name)?;
        Ok(name)
    }

    fn named(&self, name: &str) -> Result<usize, Refusal> {
        let same = |group: &Group| group.name.as_deref() == Some(name);
        match self.groups.iter().position(same) {
            Some(index) => Ok(index + 1),
            None => self.cursor.here("unknown group name"),
        }
    }

    fn closed(&self, group: usize) -> bool {
        let found = group
            .checked_sub(1)
            .and_then(|index| self.groups.get(index));
        found.is_some_and(|group| group.width.is_some())
    }

    fn refer(&self, group: usize, flags: Flags) -> Result<Node, Refusal> {
        if !self.closed(group) {
            return self.cursor.here("reference to an open group");
        }
        self.behind(group)?;
        Ok(Node::Again {
            group,
            fold: flags.fold,
        })
    }

    /// Rejects a reference from a look-behind to a group that was not closed before the
    /// look-behind.
    fn behind(&self, group: usize) -> Result<(), Refusal> {
        match self.visible {
            Some(visible) if !self.closed(group) || group > visible => self
                .cursor
                .here("reference to an open group or to a group in the same look-behind"),
            _ => Ok(()),
        }
    }

    /// Returns the minimum and maximum length that a node can match.
    fn width(&self, node: &Node) -> (u64, u64) {
        let either = |(a, b): (u64, u64), (c, d): (u64, u64)| (a.min(c), b.max(d));
        match node {
            Node::Take(_) => (1, 1),
            Node::At(_) | Node::Look { .. } => (0, 0),
            Node::Sequence(nodes) => nodes
                .iter()
                .map(|node| self.width(node))
                .fold((0, 0), |(least, most), (a, b)| {
                    (least.saturating_add(a), most.saturating_add(b))
                }),
            Node::Branch(nodes) => {
                let widths = nodes.iter().map(|node| self.width(node));
                widths.reduce(either).unwrap_or((0, 0))
            }
            Node::Group(_, node) | Node::Atomic(node) => self.width(node),
            Node::Again { group, .. } => {
                let found = group
                    .checked_sub(1)
                    .and_then(|index| self.groups.get(index));
                found.and_then(|group| group.width).unwrap_or((0, 0))
            }
            Node::IfGroup { yes, no, .. } => either(self.width(yes), self.width(no)),
            Node::Repeat(repeat) => {
                let (least, most) = self.width(&repeat.node);
                let longest = match repeat.most {
                    Some(times) => most.saturating_mul(times),
                    None if most == 0 => 0,
                    None => u64::MAX,
                };
                (least.saturating_mul(repeat.least), longest)
            }
        }
    }
}

fn identifier(name: &str) -> Result<(), Refusal> {
    if !name.is_ascii() {
        return undecided("non-ASCII group names are not supported");
    }
    let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match start && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(()),
        false => invalid(format!("invalid group name `{name}`")),
    }
}
