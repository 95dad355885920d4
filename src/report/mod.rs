//! Pure views of a record: functions from a record to text.

pub mod inspect;
pub mod junit;
pub mod load;
pub mod probe;
pub mod replay;
pub mod table;

use std::fmt::Write;

use crate::record::Target;

/// So many of what has this name.
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A target that we started and that ended by itself: how, and the last it wrote.
fn death(out: &mut String, target: &Target) {
    let Some((died, lines)) = target.death() else { return };
    let again = match target.spawned.as_ref().and_then(|spawned| spawned.restarts) {
        Some(n) => format!("; it was started again {}, this is of the first", count(n.into(), "time")),
        None => String::new(),
    };
    let _ = writeln!(out, "\nthe target ended by itself during the run: {died}{again}");
    for line in lines {
        let _ = writeln!(out, "  | {line}");
    }
}
