//! Faults in a configuration file, all of them, each at file:line:col with the source line and a caret. Shows no secret: a value on a
//! line that looks like a password is masked.

use std::cell::RefCell;
use std::ops::Range;

use crate::error::{Error, Result};

/// More than this many would scroll the first one away.
const MOST_SHOWN: usize = 40;

/// Collects what is wrong with one text. Shared by reference: every reader adds, `finish` empties it.
pub struct Faults<'a> {
    file: String,
    text: &'a str,
    list: RefCell<Vec<(Range<usize>, String)>>,
}

impl<'a> Faults<'a> {
    pub fn new(file: String, text: &'a str) -> Faults<'a> {
        Faults { file, text, list: RefCell::new(Vec::new()) }
    }

    pub fn add(&self, span: &Range<usize>, sentence: impl Into<String>) {
        self.list.borrow_mut().push((span.clone(), sentence.into()));
    }

    /// Where a missing section is reported: the end of the file.
    pub fn end(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        end..end
    }

    pub fn finish(&self) -> Result<()> {
        let mut list = self.list.take();
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by_key(|(span, _)| span.start);
        list.dedup();
        let more = list.len().saturating_sub(MOST_SHOWN);
        let mut shown: Vec<String> =
            list.iter().take(MOST_SHOWN).map(|(span, sentence)| render(&self.file, self.text, span, sentence)).collect();
        if more > 0 {
            shown.push(format!("{}: and {more} more", self.file));
        }
        Err(Error::config(shown.join("\n")))
    }
}

fn render(file: &str, text: &str, span: &Range<usize>, sentence: &str) -> String {
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let number = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;
    let line = mask(text[line_start..line_end].trim_end_matches('\r')).replace('\t', " ");
    let marked = text.get(start..span.end.clamp(start, line_end)).map_or(1, |part| part.chars().count());
    let width = marked.clamp(1, line.chars().count().saturating_sub(column - 1).max(1));
    let gutter = " ".repeat(number.to_string().len());
    let space = " ".repeat(column - 1);
    let carets = "^".repeat(width);
    format!("{file}:{number}:{column}: {sentence}\n  {number} | {line}\n  {gutter} | {space}{carets}")
}

/// Somebody writes the password itself into the file sooner or later: it must not reach a terminal log from there.
fn mask(line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else { return line.to_string() };
    let name = key.trim().to_ascii_lowercase();
    let looks_secret = ["password", "passwd", "secret"].iter().any(|word| name.contains(word));
    let is_path = value.trim_start().trim_start_matches(['"', '\'']).starts_with('/');
    if looks_secret && !is_path { format!("{key}= \"***\"") } else { line.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_column_and_caret() {
        fn check(text: &str, span: Range<usize>, expect: &str) {
            let faults = Faults::new("f.toml".to_string(), text);
            faults.add(&span, "bad");
            assert_eq!(faults.finish().unwrap_err().to_string(), expect);
        }
        check("a = 1\nbb = 2\n", 6..8, "f.toml:2:1: bad\n  2 | bb = 2\n    | ^^");
        check("a = 1\nbb = 2\n", 11..12, "f.toml:2:6: bad\n  2 | bb = 2\n    |      ^");
        check("a = 1", 5..5, "f.toml:1:6: bad\n  1 | a = 1\n    |      ^");
        check("x = [\n 1,\n 2]\n", 4..13, "f.toml:1:5: bad\n  1 | x = [\n    |     ^");
        check("é = \"ü\"\n", 5..9, "f.toml:1:5: bad\n  1 | é = \"ü\"\n    |     ^^^");
        check("password = \"hunter2\"\n", 0..8, "f.toml:1:1: bad\n  1 | password = \"***\"\n    | ^^^^^^^^");
        check("password_file = \"/a\"", 0..1, "f.toml:1:1: bad\n  1 | password_file = \"/a\"\n    | ^");
        check("", 9..12, "f.toml:1:1: bad\n  1 | \n    | ^");
    }

    #[test]
    fn all_at_once_in_file_order() {
        let faults = Faults::new("f".to_string(), "a\nb\n");
        faults.add(&(2..3), "second");
        faults.add(&(0..1), "first");
        let text = faults.finish().unwrap_err().to_string();
        assert!(text.find("f:1:1: first").unwrap() < text.find("f:2:1: second").unwrap(), "{text}");
    }
}
