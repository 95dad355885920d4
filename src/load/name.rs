//! Stream names and query tokens by pattern.

use std::fmt;
use std::str::FromStr;

/// A text with places for numbers: `{i}` of the stream, `{n}` of the session, `{1..20}` one after the other and over again; `{i:04}` with
/// zeros in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Number, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Stream,
    Session,
    /// From here so many.
    Of(u32, u32),
}

/// What stands between braces is no place for a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of '{text}': expected {{i}}, {{n}} or {{FROM..TO}}, with :0WIDTH if so wished")]
pub struct PatternError {
    text: String,
    column: usize,
}

impl Pattern {
    /// With these numbers of the stream and of the session.
    pub fn fill(&self, stream: u32, session: u32) -> String {
        let mut out = String::new();
        for part in &self.0 {
            let (number, width) = match part {
                Part::Text(text) => {
                    out += text;
                    continue;
                }
                Part::Place(Number::Stream, width) => (stream, width),
                Part::Place(Number::Session, width) => (session, width),
                Part::Place(Number::Of(from, count), width) => (from + stream % count, width),
            };
            out += &format!("{number:0width$}");
        }
        out
    }

    /// Whether it is the same text for all.
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let column = text[..text.len() - rest.len() + open].chars().count() + 1;
            let wrong = || PatternError { text: text.to_owned(), column };
            let len = rest[open..].find('}').ok_or_else(wrong)?;
            parts.push(Part::Text(rest[..open].to_owned()));
            parts.push(place(&rest[open + 1..open + len]).ok_or_else(wrong)?);
            rest = &rest[open + len + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Pattern(parts))
    }
}

fn place(text: &str) -> Option<Part> {
    let (number, width) = text.split_once(":0").unwrap_or((text, "0"));
    let number = match number {
        "i" => Number::Stream,
        "n" => Number::Session,
        _ => {
            let (from, to) = number.split_once("..")?;
            let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
            Number::Of(from, to.checked_sub(from)?.checked_add(1)?)
        }
    };
    Some(Part::Place(number, width.parse().ok().filter(|width| *width <= MAX_WIDTH)?))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Place(number, width) => {
                match number {
                    Number::Stream => write!(f, "{{i")?,
                    Number::Session => write!(f, "{{n")?,
                    Number::Of(from, count) => write!(f, "{{{from}..{}", from + count - 1)?,
                }
                if *width > 0 { write!(f, ":0{width}}}") } else { f.write_str("}") }
            }
        })
    }
}

/// Digits of a number, at most.
const MAX_WIDTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        for (pattern, stream, session, want) in [
            ("cam-{i}", 7, 0, "cam-7"),
            ("{i:04}/x", 7, 0, "0007/x"),
            ("a{n}b{i}", 1, 2, "a2b1"),
            ("c{3..5}", 0, 9, "c3"),
            ("c{3..5}", 4, 9, "c4"),
            ("c{8..8:02}", 4, 9, "c08"),
            ("plain", 4, 9, "plain"),
            ("", 4, 9, ""),
        ] {
            let parsed: Pattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.fill(stream, session), want, "{pattern}");
            assert_eq!(parsed.to_string(), pattern);
            assert_eq!(parsed.is_fixed(), !pattern.contains('{'));
        }
    }

    #[test]
    fn what_is_no_place_is_told_where() {
        for (pattern, column) in [
            ("ä{x}", 2),
            ("{", 1),
            ("a{i}{", 5),
            ("{5..3}", 1),
            ("{0..4294967295}", 1),
            ("{i:033}", 1),
            ("{}", 1),
        ] {
            let error = pattern.parse::<Pattern>().expect_err(pattern);
            assert_eq!(error.column, column, "{pattern}");
            assert!(error.to_string().contains("expected {i}"), "{error}");
        }
    }
}
