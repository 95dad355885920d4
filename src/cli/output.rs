//! `-o FORMAT[:FILE]`: where results go.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;

use super::Failure;

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

impl Format {
    const ALL: [Format; 6] =
        [Format::Text, Format::Json, Format::Csv, Format::Hlog, Format::Junit, Format::Pcapng];

    const fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Hlog => "hlog",
            Format::Junit => "junit",
            Format::Pcapng => "pcapng:DIR",
        }
    }
}

/// Reads the name of a file that is written; stdout has the result, so it is none.
pub fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(named)
}

fn named(file: OsString) -> Result<PathBuf, &'static str> {
    if file == "-" {
        return Err("stdout is for the result; expected a file (./- for one of this name)");
    }
    Ok(file.into())
}

/// Reads `FORMAT[:FILE]` for a verb that has these formats.
pub fn one_of(formats: &'static [Format]) -> impl Fn(&str) -> Result<Output, String> + Clone {
    move |s| {
        let (name, file) = match s.split_once(':') {
            Some((_, "")) => return Err("expected a file behind the colon".into()),
            Some((name, file)) => (name, Some(named(file.into()).map_err(|e| e.to_string())?)),
            None => (s, None),
        };
        let named = |format: &&Format| format.name().split(':').next() == Some(name);
        match formats.iter().find(named) {
            Some(Format::Pcapng) if file.is_none() => Err("expected a folder: pcapng:DIR".into()),
            Some(format) => Ok(Output { format: *format, file }),
            None => {
                let known = Format::ALL.iter().any(|format| named(&format));
                let what = if known { "this verb has no format" } else { "unknown format" };
                let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
                Err(format!("{what} '{name}'; expected {}", listed(&names)))
            }
        }
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// What was asked for, with `text` on stdout unless another format took its place there.
pub fn resolve(asked: &[Output]) -> Result<Vec<Output>, String> {
    if asked.iter().filter(|o| o.file.is_none()).count() > 1 {
        return Err("two formats without a file: only one can be on stdout".into());
    }
    let mut all = asked.to_vec();
    if all.iter().all(|o| o.file.is_some()) {
        all.push(Output { format: Format::Text, file: None });
    }
    all.iter().try_for_each(Output::prepare)?;
    Ok(all)
}

/// Writes all results; one that cannot be written keeps no other from its place.
///
/// # Errors
/// Those of all that could not be written.
pub fn write_all(
    outputs: &[Output],
    write: impl FnMut(&Output) -> Result<(), String>,
) -> Result<(), Failure> {
    let failed: Vec<String> = outputs.iter().map(write).filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::internal(failed.join("; "))) }
}

/// The text on stdout; a reader that went away is no error.
///
/// # Errors
/// When it cannot be written.
pub fn say(text: &str) -> Result<(), Failure> {
    write_all(&[Output { format: Format::Text, file: None }], |stdout| stdout.write(text))
}

/// A record, or a part of it, as JSON.
///
/// # Errors
/// None that is known.
pub fn json(what: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(what).map(|text| text + "\n").map_err(|e| e.to_string())
}

/// One word of a shell's command.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Finds out whether a file can be written, and leaves what it holds.
///
/// # Errors
/// With the file's name in it.
pub fn prepare(file: &Path) -> Result<(), String> {
    let tried = fs::OpenOptions::new().append(true).create(true).open(file);
    tried.map(drop).map_err(|e| format!("{}: {e}", file.display()))
}

/// The files that results go to, named by their argument.
pub fn files(outputs: &[Output]) -> impl Iterator<Item = (&str, &Path)> {
    outputs.iter().filter_map(|output| Some(("-o", output.file.as_deref()?)))
}

/// Refuses to write over what is read, and two things to one file. Named by the arguments that say them.
///
/// # Errors
/// Which two are one file.
pub fn keep_apart<'a>(
    read: impl IntoIterator<Item = (&'a str, &'a Path)>,
    written: impl IntoIterator<Item = (&'a str, &'a Path)>,
) -> Result<(), String> {
    // Devices and pipes take everything.
    let same = |a: &Path, b: &Path| match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => a == b,
        _ => false,
    };
    let mut all: Vec<_> = read.into_iter().collect();
    for (name, path) in written {
        if let Some((other, _)) = all.iter().find(|(_, other)| same(other, path)) {
            return Err(format!("{}: {name} would write over {other}", path.display()));
        }
        all.push((name, path));
    }
    Ok(())
}

impl Output {
    /// Finds out before anything runs whether its place can be written.
    fn prepare(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        match self.format {
            Format::Pcapng => fs::create_dir_all(file).map_err(|e| format!("{}: {e}", file.display())),
            _ => prepare(file),
        }
    }

    /// Writes the whole text to its place.
    ///
    /// # Errors
    /// With the file's name in it. A reader of stdout that went away is none.
    pub fn write(&self, text: &str) -> Result<(), String> {
        self.write_by(|out| out.write_all(text.as_bytes()))
    }

    /// As [`Output::write`], piece by piece.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn write_by(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), String> {
        let buffered = |out: &mut dyn Write| {
            let mut out = BufWriter::new(out);
            fill(&mut out)?;
            out.flush()
        };
        let Some(file) = &self.file else {
            return match buffered(&mut io::stdout().lock()) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("stdout: {e}")),
                _ => Ok(()),
            };
        };
        File::create(file)
            .and_then(|mut out| buffered(&mut out))
            .map_err(|e| format!("{}: {e}", file.display()))
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
        let parse = one_of(&[Format::Text, Format::Json, Format::Junit, Format::Pcapng]);
        assert_eq!(parse("json"), Ok(Output { format: Format::Json, file: None }));
        assert_eq!(parse("junit:a:b"), Ok(Output { format: Format::Junit, file: Some("a:b".into()) }));
        assert!(parse("pcapng").unwrap_err().contains("pcapng:DIR"));
        assert_eq!(parse("pcapng:x").unwrap().format, Format::Pcapng);
        let names = "expected text, json, junit or pcapng:DIR";
        assert_eq!(parse("xml").unwrap_err(), format!("unknown format 'xml'; {names}"));
        assert_eq!(parse("csv:x").unwrap_err(), format!("this verb has no format 'csv'; {names}"));
        assert!(parse("json:").unwrap_err().contains("expected a file"));
        assert!(parse("json:-").unwrap_err().contains("stdout is for the result"));
        assert_eq!(parse("json:./-"), Ok(Output { format: Format::Json, file: Some("./-".into()) }));
    }

    #[test]
    fn nothing_is_written_over_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in"), "x").unwrap();
        fs::hard_link(at("in"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("in"), at("symlink")).unwrap();
        let input = at("in");
        let apart = |written: &[&Path]| {
            keep_apart([("the capture", input.as_path())], written.iter().map(|path| ("--flv", *path)))
        };
        for name in ["in", "link", "symlink"] {
            let said = apart(&[&at(name)]).unwrap_err();
            assert!(said.ends_with(&format!("{name}: --flv would write over the capture")), "{said}");
        }
        assert!(apart(&[&at("new"), &at("new")]).is_err());
        assert_eq!(apart(&[&at("new"), &at("newer"), "/dev/null".as_ref(), "/dev/null".as_ref()]), Ok(()));
    }

    #[test]
    fn text_stays_on_stdout_unless_another_takes_its_place() {
        let json = Output { format: Format::Json, file: None };
        let folder = tempfile::tempdir().unwrap();
        let filed = Output { format: Format::Json, file: Some(folder.path().join("x")) };
        assert_eq!(resolve(std::slice::from_ref(&json)).unwrap(), std::slice::from_ref(&json));
        let both = resolve(std::slice::from_ref(&filed)).unwrap();
        assert_eq!(both, [filed, Output { format: Format::Text, file: None }]);
        assert!(resolve(&[json.clone(), json]).is_err());
        let nowhere = Output { format: Format::Json, file: Some(folder.path().join("none/x")) };
        assert!(resolve(&[nowhere]).unwrap_err().contains("none/x: No such file"));
    }
}
