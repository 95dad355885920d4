//! `-o FORMAT[:FILE]`: where results go.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;

/// A format and, where given, the file (for `pcapng` the folder) it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What is written.
    pub format: Format,
    /// Where; `None` is stdout.
    pub file: Option<PathBuf>,
}

/// The formats of the verbs; each verb says which of them it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Text,
    Json,
    Csv,
    Hlog,
    Junit,
    Pcapng,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(s: &str) -> Result<Output, String> {
        let (name, file) = match s.split_once(':') {
            Some((_, "")) => return Err("expected a file behind the colon".into()),
            Some((name, file)) => (name, Some(PathBuf::from(file))),
            None => (s, None),
        };
        let format = match name {
            "text" => Format::Text,
            "json" => Format::Json,
            "csv" => Format::Csv,
            "hlog" => Format::Hlog,
            "junit" => Format::Junit,
            "pcapng" if file.is_none() => return Err("expected a folder: pcapng:DIR".into()),
            "pcapng" => Format::Pcapng,
            _ => {
                return Err(format!(
                    "unknown format '{name}'; expected text, json, csv, hlog, junit or pcapng:DIR"
                ));
            }
        };
        Ok(Output { format, file })
    }
}

/// What was asked for, with `text` on stdout unless another format took its place there.
pub fn resolve(asked: &[Output], allowed: &[Format]) -> Result<Vec<Output>, String> {
    if let Some(other) = asked.iter().find(|o| !allowed.contains(&o.format)) {
        return Err(format!(
            "this verb has no output format '{}'",
            format!("{:?}", other.format).to_lowercase()
        ));
    }
    if asked.iter().filter(|o| o.file.is_none()).count() > 1 {
        return Err("two formats without a file: only one can be on stdout".into());
    }
    let mut all = asked.to_vec();
    if all.iter().all(|o| o.file.is_some()) {
        all.push(Output { format: Format::Text, file: None });
    }
    Ok(all)
}

impl Output {
    /// Writes the whole text to its place.
    ///
    /// # Errors
    /// With the file's name in it. A reader of stdout that went away is none.
    pub fn write(&self, text: &str) -> Result<(), String> {
        let Some(file) = &self.file else {
            return match io::stdout().lock().write_all(text.as_bytes()) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("stdout: {e}")),
                _ => Ok(()),
            };
        };
        fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// Whether it may be coloured: a terminal, and `NO_COLOR` not set.
    pub fn colour(&self) -> bool {
        self.file.is_none()
            && io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_files() {
        let parse = |s: &str| s.parse::<Output>();
        assert_eq!(parse("json"), Ok(Output { format: Format::Json, file: None }));
        assert_eq!(parse("junit:a:b"), Ok(Output { format: Format::Junit, file: Some("a:b".into()) }));
        assert!(parse("pcapng").unwrap_err().contains("pcapng:DIR"));
        assert!(parse("xml").unwrap_err().contains("unknown format 'xml'"));
        assert!(parse("json:").unwrap_err().contains("expected a file"));
    }

    #[test]
    fn text_stays_on_stdout_unless_another_takes_its_place() {
        let all = [Format::Text, Format::Json];
        let json: Output = "json".parse().unwrap();
        let filed: Output = "json:x".parse().unwrap();
        assert_eq!(resolve(std::slice::from_ref(&json), &all).unwrap(), std::slice::from_ref(&json));
        let both = resolve(std::slice::from_ref(&filed), &all).unwrap();
        assert_eq!(both, [filed, Output { format: Format::Text, file: None }]);
        assert!(resolve(&[json.clone(), json], &all).is_err());
        assert!(resolve(&["junit".parse().unwrap()], &all).is_err());
    }
}
