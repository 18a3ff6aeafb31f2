//! The rules. Each one takes a text and returns what is wrong with it.

/// Maximum length of a sentence in words. Code and links count as one word each. Most sentences
/// should have fewer than 20 words.
const MAX_WORDS: usize = 30;

/// Words that must not begin a documentation comment, because they name nothing.
const FIRST_WORDS: &[&str] = &[
    "He", "Him", "It", "Its", "Neither", "Nobody", "None", "One", "Ones", "She", "So", "Somebody",
    "That", "Their", "Theirs", "Them", "These", "They", "This", "Those", "What", "Whatever", "Who",
    "Whoever",
];

/// Words that must not begin a later paragraph or a list item of a documentation comment: the noun
/// is too far away.
const PRONOUNS: &[&str] = &[
    "He", "Him", "It", "Its", "She", "That", "Their", "Theirs", "Them", "These", "They", "This",
    "Those",
];

/// Phrases that slow readers down. The second field is what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("all the same", "nevertheless, still"),
    ("anew", "again"),
    ("at hand", "available"),
    ("beside", "next to, in addition to"),
    ("branch on", "match on"),
    ("by then", "a definite time"),
    ("came by", "where it came from"),
    ("come by", "where it comes from"),
    ("does not read", "cannot be decoded, is not valid"),
    ("do not read", "cannot be decoded, are not valid"),
    ("doomed", "to be removed"),
    ("for good", "permanently"),
    ("grave", "severe"),
    ("heed", "follow, observe"),
    ("is none", "is not valid, is not a …"),
    ("is no url", "is not a URL"),
    ("is to be had", "is available"),
    ("know no", "do not have"),
    ("knows no", "does not have"),
    ("lest", "so that … not"),
    ("make room", "free some space"),
    ("no more than", "at most"),
    ("of its own", "separate, its"),
    ("of life", "the thing"),
    ("of their own", "separate, their"),
    ("stands for", "represents, means"),
    ("tells", "reports, returns, shows"),
    ("the like", "the things"),
    ("to be had", "available"),
    ("told", "reported, notified, received"),
    ("trouble", "the error, the problem"),
    ("whatever", "a condition, or leave it out"),
    ("whoever", "the caller, the program"),
];

/// Words that must not be part of an identifier. The second field is what to write instead.
const NAME_WORDS: &[(&str, &str)] = &[
    ("anew", "again"),
    ("doomed", "what removes it, and when"),
    ("lest", "the condition"),
    ("obey", "handle, apply"),
    ("ponder", "wait"),
    ("told", "reported, notified, received"),
    ("trouble", "last_error, error"),
    ("unheard", "unreported, queued"),
    ("unsaid", "no_response"),
    ("untold", "not_returned"),
    ("whatever", "the condition"),
    ("whoever", "the caller"),
];

/// Words that make the name of a test a riddle.
const TEST_WORDS: &[&str] = &[
    "anew", "lest", "tell", "tells", "told", "what", "whatever", "whoever",
];

/// Words that must not begin the name of a test.
const TEST_FIRST_WORDS: &[&str] = &[
    "it", "its", "nobody", "of", "one", "so", "that", "them", "they", "those", "who",
];

/// Returns forbidden phrases of the text, with a better wording.
pub(super) fn phrases(text: &str) -> Vec<String> {
    let text = plain(text).to_lowercase();
    PHRASES
        .iter()
        .filter(|(phrase, _)| has_words(&text, phrase))
        .map(|(phrase, better)| format!("\"{phrase}\": say {better}"))
        .collect()
}

/// Checks the first word of a documentation comment.
pub(super) fn first_word(text: &str) -> Option<String> {
    let word = leading_word(text);
    FIRST_WORDS
        .contains(&word)
        .then(|| format!("begins with \"{word}\": name the thing"))
}

/// Checks the first word of a later paragraph or of a list item of a documentation comment.
pub(super) fn pronoun(text: &str) -> Option<String> {
    let word = leading_word(text);
    PRONOUNS
        .contains(&word)
        .then(|| format!("a paragraph begins with \"{word}\": name the thing"))
}

/// Checks that the documentation of a function begins with a verb in the third person.
pub(super) fn verb(text: &str) -> Option<String> {
    let mut word = leading_word(text);
    if ["Also", "Never"].contains(&word) {
        word = leading_word(&text.trim_start()[word.len()..]);
    }
    let verb = word.is_empty() || (word.ends_with('s') && !word.ends_with("ss"));
    (!verb).then(|| {
        format!("begins with \"{word}\": say what the function does (\"Returns…\", \"Starts…\")")
    })
}

/// Returns the sentences that are too long.
pub(super) fn long_sentences(text: &str) -> Vec<String> {
    let plain = plain(text);
    let mut long = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    for word in plain.split_whitespace() {
        words.push(word);
        let end = word.trim_end_matches([')', '"', '*', '”']);
        if end.ends_with(['.', '!', '?', ':', ';']) && !ABBREVIATIONS.contains(&end) {
            long.extend(too_long(&words));
            words.clear();
        }
    }
    long.extend(too_long(&words));
    long
}

/// Words that end with a full stop inside of a sentence.
const ABBREVIATIONS: &[&str] = &["e.g.", "i.e.", "vs.", "etc."];

fn too_long(words: &[&str]) -> Option<String> {
    let count = words.iter().filter(|word| is_word(word)).count();
    (count > MAX_WORDS).then(|| {
        let begin = words[..8].join(" ");
        format!("\"{begin}…\": a sentence of {count} words, at most {MAX_WORDS}")
    })
}

/// Checks the message of an error: lower case, without a full stop.
pub(super) fn error_message(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut letters = text.chars();
    let capital = letters.next().is_some_and(char::is_uppercase);
    // An abbreviation or a name with capitals, such as `HTTP` or `SIGTERM`, stays as it is.
    if capital && letters.next().is_some_and(char::is_lowercase) {
        found.push(format!("error \"{text}\": begin with a lower-case letter"));
    }
    if text.ends_with('.') && !text.ends_with("..") {
        found.push(format!("error \"{text}\": end without a full stop"));
    }
    found
}

/// Checks an identifier in snake case or in camel case.
pub(super) fn name(name: &str) -> Option<String> {
    let mut word = String::new();
    let mut words = Vec::new();
    for letter in name.chars() {
        let begins = letter == '_' || (letter.is_uppercase() && word.ends_with(char::is_lowercase));
        if begins && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter != '_' {
            word.push(letter);
        }
    }
    words.push(word);
    let odd = |word: &String| {
        let word = word.to_lowercase();
        NAME_WORDS.iter().find(|(odd, _)| *odd == word)
    };
    let (odd, better) = words.iter().find_map(odd)?;
    Some(format!("name {name}: \"{odd}\": say {better}"))
}

/// Checks the name of a test: a statement of what holds, without riddles.
pub(super) fn test_name(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    let mut statement = words.as_slice();
    if let ["soak", rest @ ..] = statement {
        statement = rest;
    }
    if let ["pitfall", number, rest @ ..] = statement
        && number.chars().all(|digit| digit.is_ascii_digit())
    {
        statement = rest;
    }
    let mut found: Vec<String> = statement
        .iter()
        .filter(|word| TEST_WORDS.contains(word))
        .map(|word| format!("test {name}: \"{word}\" is a riddle; name the thing"))
        .collect();
    if let Some(first) = statement
        .first()
        .filter(|word| TEST_FIRST_WORDS.contains(word))
    {
        found.push(format!("test {name}: begins with \"{first}\""));
    }
    if statement.len() < 3 {
        found.push(format!(
            "test {name}: must be a statement with a subject and a verb"
        ));
    }
    found
}

fn leading_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text
        .find(|letter: char| !letter.is_alphanumeric() && letter != '\'')
        .unwrap_or(text.len());
    &text[..end]
}

fn is_word(word: &str) -> bool {
    word.chars().any(char::is_alphanumeric)
}

/// Replaces code with `x`, and removes the targets of links.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        plain.push_str(if index % 2 == 0 { part } else { "x" });
    }
    while let Some(begin) = plain.find("](") {
        let Some(length) = plain[begin..].find(')') else {
            break;
        };
        plain.replace_range(begin..=begin + length, "");
    }
    plain
}

/// Returns whether `text` has `phrase` between the boundaries of words. "There is none" is plain.
fn has_words(text: &str, phrase: &str) -> bool {
    let within = |letter: Option<char>| {
        letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == '-')
    };
    text.match_indices(phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + phrase.len()..].chars().next();
        let there = phrase == "is none" && text[..at].ends_with("there ");
        !within(before) && !within(after) && !there
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_as_whole_words_outside_of_code() {
        assert_eq!(phrases("Whoever waits.").len(), 1);
        assert_eq!(phrases("The server is told, for good.").len(), 2);
        assert!(phrases("There is none.").is_empty());
        assert!(phrases("An engraved, aggravated celesta.").is_empty());
        assert!(phrases("The field `whatever` and a link](whoever).").is_empty());
    }

    #[test]
    fn documentation_begins_with_a_noun_or_a_verb() {
        assert!(first_word("It returns.").is_some());
        assert!(first_word("Its name.").is_some());
        assert!(first_word("This returns.").is_some());
        assert!(first_word("These names.").is_some());
        assert!(first_word("Items of a list.").is_none());
    }

    #[test]
    fn later_paragraphs_of_documentation_begin_with_a_noun_or_a_verb() {
        assert!(pronoun("Its replay interleaves.").is_some());
        assert!(pronoun("This returns.").is_some());
        assert!(pronoun("One of the items.").is_none());
        assert!(pronoun("Items of a list.").is_none());
    }

    #[test]
    fn documentation_of_functions_begins_with_a_verb_in_the_third_person() {
        assert!(verb("The name.").is_some());
        assert!(verb("Return the name.").is_some());
        assert!(verb("Returns the name.").is_none());
        assert!(verb("Also returns the name.").is_none());
    }

    #[test]
    fn sentences_have_a_maximum_length() {
        let long = "word ".repeat(MAX_WORDS) + "end.";
        assert_eq!(long_sentences(&long).len(), 1);
        let short = "word ".repeat(MAX_WORDS - 1) + "end.";
        assert!(long_sentences(&short).is_empty());
        assert!(long_sentences(&format!("{short} {short}")).is_empty());
        let code = format!("{} `{}`.", "word ".repeat(MAX_WORDS - 1), "a ".repeat(9));
        assert!(long_sentences(&code).is_empty());
    }

    #[test]
    fn messages_of_errors_are_in_lower_case_without_a_full_stop() {
        assert_eq!(error_message("Cannot start.").len(), 2);
        assert!(error_message("cannot start: see the log").is_empty());
        assert!(error_message("HTTP is required").is_empty());
        assert!(error_message("waiting...").is_empty());
    }

    #[test]
    fn names_are_searched_word_by_word() {
        for odd in [
            "told", "was_told", "TOLD", "Told", "wasTold", "toldOf", "_told",
        ] {
            assert!(name(odd).is_some(), "{odd}");
        }
        for plain in ["oldest", "tolden", "telltale", "remove_at_end", "u8", ""] {
            assert!(name(plain).is_none(), "{plain}");
        }
    }

    #[test]
    fn names_of_tests_are_statements() {
        assert!(test_name("pitfall_15_run_does_not_approve_an_action").is_empty());
        assert!(test_name("soak_pitfall_01_events_are_kept").is_empty());
        assert_eq!(test_name("what_waits_is_known").len(), 1);
        assert_eq!(test_name("the_reader_is_told").len(), 1);
        assert_eq!(test_name("of_a_mock").len(), 1);
        assert_eq!(test_name("an_unknown").len(), 1);
    }
}
