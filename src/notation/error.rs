//! What is wrong with a text, where, and what was expected.

use super::expr::Pos;

/// As many words are listed where none of them is near.
const MAX_LISTED: usize = 8;
/// Characters of a line that are shown, and of these before the place.
const MAX_SHOWN: usize = 300;
const MAX_BEFORE: usize = 200;

/// A mistake at a place in a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {message}", pos.line, pos.column)]
pub struct Error {
    /// Where.
    pub pos: Pos,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Error {
    pub(crate) fn new(pos: Pos, message: impl Into<String>) -> Error {
        Error { pos, message: message.into() }
    }

    /// `unknown word 'hexx'; did you mean 'hex'?`
    pub(crate) fn unknown<'a>(
        pos: Pos,
        what: &str,
        found: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Error {
        let known: Vec<&str> = known.into_iter().collect();
        let message = match nearest(found, known.iter().copied()) {
            Some(near) => format!("unknown {what} '{found}'; did you mean '{near}'?"),
            None if (1..=MAX_LISTED).contains(&known.len()) => {
                format!("unknown {what} '{found}'; expected one of {}", known.join(" "))
            }
            None => format!("unknown {what} '{found}'"),
        };
        Error::new(pos, message)
    }

    /// The message with its file, the line it is about and a caret below the place.
    pub fn render(&self, file: &str, text: &str) -> String {
        let line = text.lines().nth(self.pos.line.saturating_sub(1) as usize).unwrap_or("");
        let column = self.pos.column.saturating_sub(1) as usize;
        let from = column.saturating_sub(MAX_BEFORE);
        let shown: String = line.chars().skip(from).take(MAX_SHOWN).collect();
        let before = shown.chars().take(column - from);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{file}:{self}\n  {shown}\n  {indent}^\n")
    }
}

/// The known word that a misspelt one most likely stands for.
pub(crate) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = (found.chars().count() / 3).clamp(1, 4);
    let begins = |word: &str| found.len() > 2 && word.starts_with(found);
    let distance = |word: &str| match begins(word) {
        true => 1,
        false => strsim::damerau_levenshtein(&found.to_lowercase(), &word.to_lowercase()),
    };
    let (near, word) = known.into_iter().map(|word| (distance(word), word)).min_by_key(|(d, _)| *d)?;
    (near <= close).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}hexx{}", "a".repeat(50_000), "b".repeat(50_000));
        let shown = Error::new(Pos { line: 1, column: 50_001 }, "unknown").render("x.scn", &text);
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some("x.scn:1:50001: unknown"));
        let (line, caret) = (lines.next().expect("the line"), lines.next().expect("the caret"));
        assert!(line.len() <= 2 + MAX_SHOWN, "{}", line.len());
        let at = caret.find('^').expect("a caret");
        assert_eq!(&line[at..at + 4], "hexx");
    }
}
