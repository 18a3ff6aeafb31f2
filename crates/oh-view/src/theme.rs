//! Colours of the terminal writer.

use std::fmt::Write as _;

/// A colour of the terminal. The user's terminal settings decide the exact shade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Color {
    Black,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
    White,
}

/// The look of a text: a colour and attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paint {
    color: Option<Color>,
    bright: bool,
    bold: bool,
    dim: bool,
    reverse: bool,
}

impl Paint {
    /// Creates the look of plain text.
    pub const fn new() -> Self {
        Self {
            color: None,
            bright: false,
            bold: false,
            dim: false,
            reverse: false,
        }
    }

    /// Sets the colour. Default: the terminal's.
    #[must_use]
    pub const fn color(mut self, color: Color) -> Self {
        self.color = Some(color);
        self
    }

    /// Uses the bright form of the colour.
    #[must_use]
    pub const fn bright(mut self) -> Self {
        self.bright = true;
        self
    }

    /// Makes the text bold.
    #[must_use]
    pub const fn bold(mut self) -> Self {
        self.bold = true;
        self
    }

    /// Makes the text faint.
    #[must_use]
    pub const fn dim(mut self) -> Self {
        self.dim = true;
        self
    }

    /// Swaps the colours of text and background.
    #[must_use]
    pub const fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Appends a text in this look, and resets the look after it.
    pub(crate) fn write(self, out: &mut String, text: &str) {
        if self == Self::new() || text.is_empty() {
            return out.push_str(text);
        }
        let mut codes = Vec::with_capacity(4);
        for (is_set, code) in [(self.bold, 1), (self.dim, 2), (self.reverse, 7)] {
            if is_set {
                codes.push(code);
            }
        }
        if let Some(color) = self.color {
            codes.push(color as u8 + if self.bright { 90 } else { 30 });
        }
        let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
        let _infallible = write!(out, "\x1b[{}m{text}\x1b[0m", codes.join(";"));
    }
}

/// The role of a text in the output, which a [`Theme`] maps to a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// Normal text.
    Plain,
    /// The title of a message of the user.
    User,
    /// The title of a message of the agent.
    Agent,
    /// The title of an action.
    Action,
    /// The title of a result.
    Result,
    /// The title of a success, an exit code of zero, a finished task.
    Success,
    /// The title of a warning, a task in progress.
    Warning,
    /// The title and text of an error, another exit code.
    Error,
    /// Less important text: times, notes, reasoning, names of fields.
    Quiet,
    /// A heading in Markdown.
    Heading,
    /// Code.
    Code,
    /// A command.
    Command,
    /// An added line of a diff.
    Added,
    /// A removed line of a diff.
    Removed,
    /// The position of a hunk in a diff.
    Hunk,
    /// A keyword of a programming language. This style and the next four need the feature
    /// `syntax`.
    Keyword,
    /// The name of a function or a type in code.
    Name,
    /// A text in code.
    String,
    /// A number or another constant in code.
    Number,
    /// A comment in code.
    Comment,
    /// A match of a highlight pattern.
    Highlight,
}

/// All styles, in the order of their declaration.
const STYLES: usize = Style::Highlight as usize + 1;

/// The look of each [`Style`].
///
/// ```
/// use oh_view::{Color, Paint, Style, Theme};
///
/// let theme = Theme::new().with(Style::Agent, Paint::new().color(Color::Cyan).bold());
/// # assert_ne!(theme, Theme::new());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    looks: [Paint; STYLES],
}

impl Theme {
    /// Creates the default theme. The theme uses the terminal's own colours, for light and dark
    /// backgrounds.
    pub fn new() -> Self {
        use Color::{Blue, Cyan, Green, Magenta, Red, Yellow};
        let paint = Paint::new();
        Self::monochrome()
            .with(Style::User, paint.color(Blue).bold())
            .with(Style::Agent, paint.color(Green).bold())
            .with(Style::Action, paint.color(Magenta).bold())
            .with(Style::Result, paint.color(Cyan))
            .with(Style::Success, paint.color(Green))
            .with(Style::Warning, paint.color(Yellow).bold())
            .with(Style::Error, paint.color(Red).bold())
            .with(Style::Code, paint.color(Cyan))
            .with(Style::Added, paint.color(Green))
            .with(Style::Removed, paint.color(Red))
            .with(Style::Hunk, paint.color(Cyan).dim())
            .with(Style::Keyword, paint.color(Magenta))
            .with(Style::Name, paint.color(Blue))
            .with(Style::String, paint.color(Yellow))
            .with(Style::Number, paint.color(Cyan))
    }

    /// Creates a theme without colours, only with bold, faint and reversed text.
    pub fn monochrome() -> Self {
        let paint = Paint::new();
        let mut theme = Self {
            looks: [paint; STYLES],
        };
        for style in [
            Style::User,
            Style::Agent,
            Style::Action,
            Style::Warning,
            Style::Error,
            Style::Heading,
            Style::Command,
            Style::Added,
        ] {
            theme = theme.with(style, paint.bold());
        }
        theme
            .with(Style::Quiet, paint.dim())
            .with(Style::Hunk, paint.dim())
            .with(Style::Comment, paint.dim())
            .with(Style::Highlight, paint.reverse())
    }

    /// Sets the look of a style.
    #[must_use]
    pub fn with(mut self, style: Style, paint: Paint) -> Self {
        self.looks[style as usize] = paint;
        self
    }

    /// Returns the look of a style.
    pub fn look(&self, style: Style) -> Paint {
        self.looks[style as usize]
    }
}

impl Default for Theme {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_set_and_reset() {
        let mut out = String::new();
        Paint::new().color(Color::Red).bold().write(&mut out, "a");
        Paint::new()
            .color(Color::Blue)
            .bright()
            .write(&mut out, "b");
        Paint::new().write(&mut out, "c");
        assert_eq!(out, "\x1b[1;31ma\x1b[0m\x1b[94mb\x1b[0mc");
    }
}
