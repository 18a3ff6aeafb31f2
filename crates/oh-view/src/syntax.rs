//! Finds keywords, names, texts, numbers and comments in source code.

/// The role of a piece of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "syntax"),
    allow(dead_code, reason = "only constructed with a parser")
)]
pub(crate) enum Word {
    Keyword,
    Name,
    Text,
    Number,
    Comment,
}

/// A parser of the lines of one source text.
pub(crate) struct Syntax {
    #[cfg(feature = "syntax")]
    parser: Option<parser::Parser>,
}

impl Syntax {
    /// Creates a parser of a language, such as `rust` or `py`. If the language is unknown or the
    /// feature `syntax` is not enabled, no piece has a role.
    #[cfg_attr(
        not(feature = "syntax"),
        allow(unused_variables, reason = "without a parser")
    )]
    pub(crate) fn of_language(language: &str) -> Self {
        Self {
            #[cfg(feature = "syntax")]
            parser: parser::Parser::of_language(language),
        }
    }

    /// Creates a parser of a file's language. The name of the file decides.
    #[cfg_attr(
        not(feature = "syntax"),
        allow(unused_variables, reason = "without a parser")
    )]
    pub(crate) fn of_file(path: &str) -> Self {
        Self {
            #[cfg(feature = "syntax")]
            parser: parser::Parser::of_file(path),
        }
    }

    /// Returns whether pieces can have roles.
    pub(crate) fn is_known(&self) -> bool {
        #[cfg(feature = "syntax")]
        return self.parser.is_some();
        #[cfg(not(feature = "syntax"))]
        false
    }

    /// Splits the next line, without its line feed, into pieces.
    pub(crate) fn pieces<'a>(&mut self, line: &'a str) -> Vec<(Option<Word>, &'a str)> {
        #[cfg(feature = "syntax")]
        if let Some(parser) = &mut self.parser {
            return parser.pieces(line);
        }
        vec![(None, line)]
    }
}

#[cfg(feature = "syntax")]
mod parser {
    use std::sync::LazyLock;

    use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet};

    use super::Word;

    /// A longer line is not parsed, because it is hardly source code.
    const MAX_LINE: usize = 1000;
    /// The length of a text after which the rest is not parsed, in bytes.
    const MAX_TEXT: usize = 64 * 1024;

    static SYNTAXES: LazyLock<SyntaxSet> = LazyLock::new(two_face::syntax::extra_newlines);

    /// The roles of scopes. The first one that matches any scope of a piece decides.
    static ROLES: LazyLock<Vec<(Scope, Option<Word>)>> = LazyLock::new(|| {
        let roles = [
            ("comment", Some(Word::Comment)),
            ("string", Some(Word::Text)),
            ("constant", Some(Word::Number)),
            ("keyword.operator", None),
            ("keyword", Some(Word::Keyword)),
            ("storage", Some(Word::Keyword)),
            ("entity.name", Some(Word::Name)),
            ("support.function", Some(Word::Name)),
            ("variable.function", Some(Word::Name)),
        ];
        let roles = roles.into_iter();
        roles
            .filter_map(|(scope, word)| Some((Scope::new(scope).ok()?, word)))
            .collect()
    });

    pub(super) struct Parser {
        state: ParseState,
        scopes: ScopeStack,
        left: usize,
    }

    impl Parser {
        pub(super) fn of_language(language: &str) -> Option<Self> {
            // The language of a fence can be followed by other words.
            let language = language.split([' ', ',', '{']).next()?;
            // Patches have their own colours.
            if language == "diff" {
                return None;
            }
            Self::new(SYNTAXES.find_syntax_by_token(language)?)
        }

        pub(super) fn of_file(path: &str) -> Option<Self> {
            let name = path.rsplit(['/', '\\']).next()?;
            let ending = name.rsplit('.').next()?;
            let of_name = SYNTAXES.find_syntax_by_extension(name);
            Self::new(of_name.or_else(|| SYNTAXES.find_syntax_by_extension(ending))?)
        }

        fn new(syntax: &SyntaxReference) -> Option<Self> {
            let is_plain = syntax.name == SYNTAXES.find_syntax_plain_text().name;
            (!is_plain).then(|| Self {
                state: ParseState::new(syntax),
                scopes: ScopeStack::new(),
                left: MAX_TEXT,
            })
        }

        pub(super) fn pieces<'a>(&mut self, line: &'a str) -> Vec<(Option<Word>, &'a str)> {
            self.left = self.left.saturating_sub(line.len());
            if self.left == 0 || line.len() > MAX_LINE {
                return vec![(None, line)];
            }
            let Ok(changes) = self.state.parse_line(&format!("{line}\n"), &SYNTAXES) else {
                self.left = 0;
                return vec![(None, line)];
            };
            let (mut pieces, mut at) = (Vec::new(), 0);
            let end = (line.len(), None);
            let changes = changes.iter().map(|(at, change)| (*at, Some(change)));
            for (next, change) in changes.chain([end]) {
                let next = next.min(line.len());
                if at < next {
                    let word = role(&self.scopes);
                    match pieces.last_mut() {
                        // A scope can begin inside another one of the same role.
                        Some((last, _, end)) if *last == word => *end = next,
                        _ => pieces.push((word, at, next)),
                    }
                    at = next;
                }
                let is_wrong = change.is_some_and(|change| self.scopes.apply(change).is_err());
                if is_wrong {
                    self.left = 0;
                }
            }
            let pieces = pieces.into_iter();
            pieces
                .filter_map(|(word, at, end)| Some((word, line.get(at..end)?)))
                .collect()
        }
    }

    fn role(scopes: &ScopeStack) -> Option<Word> {
        let has = |prefix: &Scope| {
            scopes
                .as_slice()
                .iter()
                .any(|scope| prefix.is_prefix_of(*scope))
        };
        ROLES.iter().find(|(prefix, _)| has(prefix))?.1
    }
}

#[cfg(all(test, feature = "syntax"))]
mod tests {
    use super::*;

    fn words(mut syntax: Syntax, text: &str) -> Vec<(Word, String)> {
        let mut words: Vec<(Word, String)> = Vec::new();
        for line in text.lines() {
            let pieces = syntax.pieces(line);
            let whole: String = pieces.iter().map(|(_, piece)| *piece).collect();
            assert_eq!(whole, line);
            for (word, piece) in pieces {
                match (word, words.last_mut()) {
                    (Some(word), Some((last, text))) if *last == word => text.push_str(piece),
                    (Some(word), _) => words.push((word, piece.to_owned())),
                    (None, _) => {}
                }
            }
        }
        words
    }

    #[test]
    fn the_words_of_code_have_roles() {
        use Word::{Comment, Keyword, Name, Number, Text};
        let rust = words(Syntax::of_file("src/main.rs"), "fn f() { 1; \"a\" } // b");
        let has = |word, text: &str| {
            let found = rust
                .iter()
                .any(|(is, piece)| *is == word && piece.contains(text));
            assert!(found, "{word:?} {text} in {rust:?}");
        };
        has(Keyword, "fn");
        has(Name, "f");
        has(Number, "1");
        has(Text, "\"a\"");
        has(Comment, "// b");
        let python = words(Syntax::of_language("python"), "\"\"\"a\nb\"\"\"\n");
        // The text of a documentation over several lines.
        assert_eq!(python, [(Comment, "\"\"\"ab\"\"\"".to_owned())]);
        for known in ["rs", "json", "ts", "toml", "Bash", "rust,no_run"] {
            assert!(Syntax::of_language(known).is_known(), "{known}");
        }
        for known in ["Dockerfile", "a/Makefile", "a.tsx", "b/a.yaml"] {
            assert!(Syntax::of_file(known).is_known(), "{known}");
        }
        for unknown in ["", "nothing", "txt"] {
            assert!(!Syntax::of_language(unknown).is_known(), "{unknown}");
            assert!(!Syntax::of_file(unknown).is_known(), "{unknown}");
        }
    }

    #[test]
    fn long_code_is_plain() {
        let mut syntax = Syntax::of_language("rust");
        let long = "fn ".repeat(400);
        assert_eq!(syntax.pieces(&long), [(None, &*long)]);
        let line = "fn ".repeat(300);
        let parsed = (0..200).filter(|_| syntax.pieces(&line).len() > 1).count();
        assert!((60..80).contains(&parsed), "{parsed}");
    }
}
