//! Markdown of messages as HTML, without anything that a page could load or execute.

use pulldown_cmark::{Alignment, CodeBlockKind, Event, Options, Parser, Tag, TagEnd, html};

use super::escape;
use crate::syntax::Syntax;

/// Addresses that a link may have. A click opens them; nothing is loaded before.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// Appends Markdown as HTML. HTML in the text is shown as text, an image as its description, and a
/// link of another scheme, such as `javascript:`, as its text.
pub(super) fn render(out: &mut String, markdown: &str) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    // Whether each open link has an allowed address.
    let mut links = Vec::new();
    // The language of an open code block, if known.
    let mut code: Option<Syntax> = None;
    let events = Parser::new_ext(markdown, options).filter_map(|event| {
        Some(match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(ref language))) => {
                code = Some(Syntax::of_language(language)).filter(Syntax::is_known);
                event
            }
            Event::End(TagEnd::CodeBlock) => {
                code = None;
                event
            }
            Event::Text(text) => match &mut code {
                Some(syntax) => Event::Html(colored(&text, syntax).into()),
                None => Event::Text(text),
            },
            Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
            Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
            Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
            Event::Start(Tag::Image { .. }) => Event::Text("[image] ".into()),
            Event::End(TagEnd::Image) => return None,
            Event::Start(Tag::Link { ref dest_url, .. }) => {
                let address = dest_url.to_ascii_lowercase();
                let is_allowed = SCHEMES.iter().any(|scheme| address.starts_with(scheme));
                links.push(is_allowed);
                return is_allowed.then_some(event);
            }
            Event::End(TagEnd::Link) => return links.pop().unwrap_or(false).then_some(event),
            // An alignment would be an inline style, which the policy of the page forbids.
            Event::Start(Tag::Table(columns)) => {
                Event::Start(Tag::Table(vec![Alignment::None; columns.len()]))
            }
            event => event,
        })
    });
    html::push_html(out, events);
}

/// Returns lines of a code block as HTML.
fn colored(text: &str, syntax: &mut Syntax) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        escape::code(&mut out, line, syntax, &[]);
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(markdown: &str) -> String {
        let mut out = String::new();
        render(&mut out, markdown);
        out
    }

    #[test]
    fn markdown_becomes_html() {
        assert_eq!(
            rendered("# a\n\n*b* `c<d`"),
            "<h1>a</h1>\n<p><em>b</em> <code>c&lt;d</code></p>\n"
        );
        let table = rendered("|a|\n|:-:|\n|b|\n");
        assert!(
            table.contains("<td>b</td>") && !table.contains("style"),
            "{table}"
        );
    }

    #[cfg(feature = "syntax")]
    #[test]
    fn code_has_the_colours_of_its_language_and_is_escaped() {
        let html = rendered("```rust\nlet a = \"<script>\";\n// <b>\n```\n\n<i>");
        assert!(
            html.contains("<span class=\"keyword\">let</span>"),
            "{html}"
        );
        assert!(html.contains("<span class=\"comment\">"), "{html}");
        assert!(
            html.contains("&lt;script&gt;") && html.contains("&lt;b&gt;"),
            "{html}"
        );
        assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains("<i>"));
    }

    #[test]
    fn nothing_is_loaded_or_executed() {
        for (markdown, html) in [
            (
                "<script>x</script>",
                "<p>&lt;script&gt;x&lt;/script&gt;</p>\n",
            ),
            (
                "a <img src=x onerror=y>",
                "<p>a &lt;img src=x onerror=y&gt;</p>\n",
            ),
            ("![b](http://h/i)", "<p>[image] b</p>\n"),
            ("[a](javascript:x)", "<p>a</p>\n"),
            ("[a](data:text/html,x)", "<p>a</p>\n"),
            ("[a](https://h/)", "<p><a href=\"https://h/\">a</a></p>\n"),
            ("[![b](http://h/i)](JAVASCRIPT:x)", "<p>[image] b</p>\n"),
            (
                "[a](https://h/\"onclick=x)",
                "<p><a href=\"https://h/%22onclick=x\">a</a></p>\n",
            ),
        ] {
            assert_eq!(rendered(markdown), html, "{markdown}");
        }
    }
}
