//! `check`: scenario files read, nothing sent.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Failure, output, warn};
use crate::net::peer::fault_names;
use crate::notation::error::Error;
use crate::report::count;
use crate::scenario::ast::Scenario;
use crate::scenario::check::{Known, read};
use crate::scenario::clauses::Clauses;
use crate::scenario::suite::text_of;

/// The file with the requirements, in the folder that is checked.
const CLAUSES: &str = "clauses.tsv";

/// Checks scenario files and sends nothing.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

/// Says what is wrong, with places, or how much was right.
///
/// # Errors
/// When a path cannot be read or holds no scenario.
pub fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let (mut scenarios, mut wrong) = (Vec::new(), 0);
    for path in &args.paths {
        wrong += check(path, &mut scenarios)?;
    }
    if wrong > 0 {
        warn(&format!("{}\n", count(wrong as u64, "mistake")));
        return Ok(Exit::Usage);
    }
    let cases: usize = scenarios.iter().map(|scenario| scenario.cases.len()).sum();
    let [scenarios, cases] =
        [(scenarios.len(), "scenario"), (cases, "case")].map(|(n, what)| count(n as u64, what));
    output::say(&format!("{scenarios}, {cases} checked\n"))?;
    Ok(Exit::Clean)
}

/// Checks one path, collects what is right and returns how many mistakes there are.
fn check(path: &Path, scenarios: &mut Vec<Scenario>) -> Result<usize, Failure> {
    let mut files = Vec::new();
    if path.is_dir() {
        find(path, &mut files)?;
    } else {
        files.push(path.to_owned());
    }
    if files.is_empty() {
        return Err(Failure::usage(format!("{}: no file ends with .scn", path.display())));
    }
    let own = path.join(CLAUSES);
    let own_text = if own.is_file() { Some(load(&own)?) } else { None };
    let (own_clauses, mut wrong) = match own_text.as_deref().map(Clauses::parse).transpose() {
        Ok(clauses) => (clauses, 0),
        Err(errors) => (None, tell(&own, own_text.as_deref().unwrap_or_default(), &errors)),
    };
    let clauses = own_clauses.as_ref().unwrap_or(Clauses::built_in());
    let faults = fault_names();
    let known = Known { clauses, faults: &faults };
    let before = scenarios.len();
    for file in files {
        let text = load(&file)?;
        let below = file.strip_prefix(path).ok().filter(|below| !below.as_os_str().is_empty());
        let id = below.unwrap_or(&file).with_extension("");
        match read(&id.to_string_lossy().replace('\\', "/"), &text, known) {
            Ok(scenario) => scenarios.push(scenario),
            Err(errors) => wrong += tell(&file, &text, &errors),
        }
    }
    // A scenario that cannot be read may be the answer to any row.
    if let Some(clauses) = own_clauses.filter(|_| wrong == 0) {
        wrong += tell(&own, own_text.as_deref().unwrap_or_default(), &clauses.answers(&scenarios[before..]));
    }
    Ok(wrong)
}

fn tell(file: &Path, text: &str, errors: &[Error]) -> usize {
    errors.iter().for_each(|error| warn(&error.render(&file.to_string_lossy(), text)));
    errors.len()
}

fn load(file: &Path) -> Result<String, Failure> {
    text_of(file).map_err(Failure::usage)
}

/// The files below a folder, in the order of their names.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::usage(format!("{}: {error}", folder.display()));
    let mut entries =
        fs::read_dir(folder).and_then(|all| all.collect::<Result<Vec<_>, _>>()).map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "scn") {
            files.push(path);
        }
    }
    Ok(())
}
