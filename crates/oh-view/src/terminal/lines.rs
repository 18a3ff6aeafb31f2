//! Turns blocks into styled lines.

use crate::{
    Block, Detail, Exit, Part, Progress, Style, Tone,
    diff::{self, Line as DiffLine},
    syntax::{Syntax, Word},
    wrap::{Break, Span},
};

/// With [`Detail::Compact`], longer content is shortened to this number of lines.
const MAX_LINES: usize = 12;
/// The lines that are kept at the end, where a command usually reports its result.
const LAST_LINES: usize = 4;
/// With [`Detail::Compact`], longer lines are shortened to this number of characters.
const MAX_CHARS: usize = 1000;

/// A styled line that is not wrapped yet.
pub(super) struct Line {
    pub(super) spans: Vec<Span<Style>>,
    pub(super) at: Break,
    /// Whether the line belongs to the title, which is not indented.
    pub(super) is_title: bool,
}

impl Line {
    fn new(style: Style, text: impl Into<String>, at: Break) -> Self {
        Self {
            spans: vec![(style, text.into())],
            at,
            is_title: false,
        }
    }

    fn words(style: Style, text: impl Into<String>) -> Self {
        Self::new(style, text, Break::Words)
    }

    fn exact(style: Style, text: impl Into<String>) -> Self {
        Self::new(style, text, Break::Anywhere)
    }

    /// Creates a line of code after other spans. Pieces without a role have the style.
    fn code(before: Vec<Span<Style>>, style: Style, text: &str, syntax: &mut Syntax) -> Self {
        let mut spans = before;
        let pieces = syntax.pieces(text).into_iter();
        spans.extend(pieces.map(|(role, text)| (role.map_or(style, word), text.to_owned())));
        Self {
            spans,
            at: Break::Anywhere,
            is_title: false,
        }
    }
}

/// Returns the style of a word in code.
fn word(word: Word) -> Style {
    match word {
        Word::Keyword => Style::Keyword,
        Word::Name => Style::Name,
        Word::Text => Style::String,
        Word::Number => Style::Number,
        Word::Comment => Style::Comment,
    }
}

/// Returns the lines of a block.
pub(super) fn of(block: &Block, detail: Detail) -> Vec<Line> {
    let mut title = Vec::new();
    if !block.time.is_empty() {
        title.push((Style::Quiet, format!("{} ", block.time)));
    }
    title.push((tone(block.tone), block.title.clone()));
    if !block.note.is_empty() {
        title.push((Style::Quiet, format!("  {}", block.note)));
    }
    let mut lines = vec![Line {
        spans: title,
        at: Break::Words,
        is_title: true,
    }];
    for part in &block.parts {
        body(part, detail, &mut lines);
    }
    lines
}

fn tone(tone: Tone) -> Style {
    match tone {
        Tone::User => Style::User,
        Tone::Agent => Style::Agent,
        Tone::Action => Style::Action,
        Tone::Result => Style::Result,
        Tone::Success => Style::Success,
        Tone::Warning => Style::Warning,
        Tone::Error => Style::Error,
        Tone::Quiet => Style::Quiet,
    }
}

fn body(part: &Part, detail: Detail, out: &mut Vec<Line>) {
    match part {
        Part::Markdown(text) => markdown(text, out),
        Part::Thought(text) => {
            let lines = text.trim_end().lines();
            let lines = lines.map(|line| Line::words(Style::Quiet, line));
            shortened(lines.collect(), detail, out);
        }
        Part::Text(text) => {
            let lines = text.trim_end().lines();
            let lines = lines.map(|line| Line::words(Style::Plain, line));
            shortened(lines.collect(), detail, out);
        }
        Part::Code { language, text } => {
            let mut syntax = Syntax::of_language(language);
            let lines = text.trim_end_matches('\n').lines();
            let lines = lines.map(|line| match syntax.is_known() {
                true => Line::code(Vec::new(), Style::Plain, line, &mut syntax),
                false => Line::exact(code(language, line), line),
            });
            shortened(lines.collect(), detail, out);
        }
        Part::Diff { path, old, new } => {
            if !path.is_empty() {
                out.push(Line::exact(Style::Command, path));
            }
            let mut syntax = Syntax::of_file(path);
            let lines = diff::lines(old, new).into_iter().map(|line| match &line {
                DiffLine::Hunk(_) => {
                    // The lines between two hunks are unknown to the parser.
                    syntax = Syntax::of_file(path);
                    Line::exact(Style::Hunk, line.signed())
                }
                DiffLine::Context(text) => {
                    let sign = vec![(Style::Plain, " ".to_owned())];
                    Line::code(sign, Style::Plain, text, &mut syntax)
                }
                DiffLine::Added(text) => {
                    let sign = vec![(Style::Added, "+".to_owned())];
                    Line::code(sign, Style::Added, text, &mut syntax)
                }
                DiffLine::Removed(_) => Line::exact(Style::Removed, line.signed()),
            });
            shortened(lines.collect(), detail, out);
        }
        Part::Terminal {
            command,
            output,
            exit,
        } => {
            for (at, line) in command.lines().enumerate() {
                let prompt = if at == 0 { "$ " } else { "> " };
                out.push(Line::exact(Style::Command, format!("{prompt}{line}")));
            }
            let lines = output.lines().map(|line| Line::exact(Style::Plain, line));
            shortened(lines.collect(), detail, out);
            let style = match exit {
                Exit::Unknown => return,
                Exit::Running => Style::Warning,
                Exit::Code(0) => Style::Success,
                Exit::Code(_) => Style::Error,
            };
            out.push(Line::words(style, exit.to_string()));
        }
        Part::Checklist(tasks) => {
            for task in tasks {
                let (mark, style) = match task.progress {
                    Progress::Todo => ("[ ]", Style::Plain),
                    Progress::Doing => ("[~]", Style::Warning),
                    Progress::Done => ("[x]", Style::Success),
                };
                out.push(Line::words(style, format!("{mark} {}", task.title)));
                let notes = task.notes.lines();
                out.extend(notes.map(|line| Line::words(Style::Quiet, format!("    {line}"))));
            }
        }
        Part::Fields(fields) => {
            for (name, value) in fields {
                let mut lines = value.trim_end().lines();
                let first = lines.next().unwrap_or_default();
                let mut shown = vec![Line {
                    spans: vec![
                        (Style::Quiet, format!("{name}: ")),
                        (Style::Plain, first.to_owned()),
                    ],
                    at: Break::Words,
                    is_title: false,
                }];
                shown.extend(lines.map(|line| Line::words(Style::Plain, format!("  {line}"))));
                shortened(shown, detail, out);
            }
        }
        Part::Error(text) => {
            let lines = text.trim_end().lines();
            out.extend(lines.map(|line| Line::words(Style::Error, line)));
        }
    }
}

/// Appends Markdown as it was written, with styles for headings, quotes and code.
fn markdown(text: &str, out: &mut Vec<Line>) {
    let mut fence = None;
    let mut syntax = Syntax::of_language("");
    for line in text.trim_end().lines() {
        let start = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| start.starts_with(mark));
        let line = match (fence, mark) {
            (None, Some(mark)) => {
                fence = Some(mark);
                syntax = Syntax::of_language(start.trim_start_matches(['`', '~']).trim());
                Line::exact(Style::Quiet, line)
            }
            (Some(open), Some(mark)) if open == mark => {
                fence = None;
                Line::exact(Style::Quiet, line)
            }
            (Some(_), _) if syntax.is_known() => {
                Line::code(Vec::new(), Style::Plain, line, &mut syntax)
            }
            (Some(_), _) => Line::exact(Style::Code, line),
            _ if start.starts_with('#') => Line::words(Style::Heading, line),
            _ if start.starts_with('>') => Line::words(Style::Quiet, line),
            _ => Line::words(Style::Plain, line),
        };
        out.push(line);
    }
}

/// Returns the style of a line of code: patches have colours.
fn code(language: &str, line: &str) -> Style {
    match (language, line.as_bytes().first()) {
        ("diff", Some(b'+')) => Style::Added,
        ("diff", Some(b'-')) => Style::Removed,
        ("diff", Some(b'@' | b'*')) => Style::Hunk,
        _ => Style::Code,
    }
}

/// Appends lines. With [`Detail::Compact`], the middle of long content is left out.
fn shortened(mut lines: Vec<Line>, detail: Detail, out: &mut Vec<Line>) {
    if detail == Detail::Full {
        return out.append(&mut lines);
    }
    for line in &mut lines {
        for (_, text) in &mut line.spans {
            if let Some((at, _)) = text.char_indices().nth(MAX_CHARS) {
                text.truncate(at);
                text.push('…');
            }
        }
    }
    // Leaving out a single line would save nothing.
    if lines.len() <= MAX_LINES + 1 {
        return out.append(&mut lines);
    }
    let last = lines.split_off(lines.len() - LAST_LINES);
    let omitted = lines.len() - (MAX_LINES - LAST_LINES);
    lines.truncate(MAX_LINES - LAST_LINES);
    out.append(&mut lines);
    out.push(Line::words(Style::Quiet, format!("… {omitted} more lines")));
    out.extend(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(part: Part, detail: Detail) -> Vec<String> {
        let block = Block::new(Tone::Quiet, "t").part(part);
        of(&block, detail)
            .into_iter()
            .skip(1)
            .map(|line| line.spans.into_iter().map(|(_, text)| text).collect())
            .collect()
    }

    #[test]
    fn long_content_is_shortened_in_the_middle() {
        let text: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let compact = shown(Part::text(&*text), Detail::Compact);
        let expected = "1 2 3 4 5 6 7 8 … 8 more lines 17 18 19 20";
        assert_eq!(compact.join(" "), expected);
        assert_eq!(shown(Part::text(&*text), Detail::Full).len(), 20);
        // An error is never shortened.
        assert_eq!(shown(Part::Error(text), Detail::Compact).len(), 20);
        let long = shown(Part::text("x".repeat(5000)), Detail::Compact);
        assert_eq!(long[0].chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn a_plan_is_a_checklist() {
        let task = |progress, title: &str| crate::Task::new(progress, title);
        let plan = Part::Checklist(vec![
            task(Progress::Done, "a"),
            task(Progress::Doing, "b").notes("n"),
            task(Progress::Todo, "c"),
        ]);
        assert_eq!(
            shown(plan, Detail::Compact),
            ["[x] a", "[~] b", "    n", "[ ] c"]
        );
    }

    #[cfg(feature = "syntax")]
    #[test]
    fn code_has_the_colours_of_its_language() {
        use Style::{Added, Comment, Hunk, Keyword, Name, Number, Plain, Removed};
        let styles = |part: Part| -> Vec<Vec<Style>> {
            let lines = of(&Block::new(Tone::Agent, "t").part(part), Detail::Full);
            let lines = lines.into_iter().skip(1);
            let styles = lines.map(|line| line.spans.into_iter().map(|(style, _)| style));
            styles.map(Iterator::collect).collect()
        };
        let comment = styles(Part::code("python", "# a\nb"));
        assert_eq!((comment[0][0], &*comment[1]), (Comment, &[Plain][..]));
        let fence = styles(Part::Markdown("```rust\nconst A: u8 = 1;\n```".to_owned()));
        assert!(
            fence[1].contains(&Keyword) && fence[1].contains(&Number),
            "{fence:?}"
        );
        let diff = styles(Part::diff("a.rs", "fn a() {}\n", "fn b() {}\n"));
        assert_eq!((&*diff[1], &*diff[2]), (&[Hunk][..], &[Removed][..]));
        assert!(diff[3].starts_with(&[Added, Keyword]), "{diff:?}");
        assert!(diff[3].contains(&Name), "{diff:?}");
    }

    #[test]
    fn code_in_markdown_ends_with_its_own_fence() {
        let block = Block::new(Tone::Agent, "t").part(Part::Markdown(
            "# h\n```unknown\n# no heading\n~~~\n```\n> q".to_owned(),
        ));
        let styles = of(&block, Detail::Full);
        let styles: Vec<Style> = styles.iter().skip(1).map(|line| line.spans[0].0).collect();
        use Style::{Code, Heading, Quiet};
        assert_eq!(styles, [Heading, Quiet, Code, Code, Quiet, Quiet]);
    }
}
