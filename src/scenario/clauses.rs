//! `clauses.tsv`: every requirement, and what answers it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::ast::Scenario;
use crate::notation::error::Error;
use crate::notation::expr::Pos;

const COLUMNS: &str = "id\tlevel\trole\tseverity\trequirement\tanswer";

/// How binding a requirement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Level {
    Must,
    Should,
    May,
    /// Follows from the text, or nothing works without it.
    Implied,
    /// What peers do though no text says so.
    Defacto,
}

/// What breaking a requirement harms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Severity {
    Cosmetic,
    Interop,
    Security,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// `rtmp/5.3.1.3/4`: text, section, number.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// `server` or `client`: who has to follow it.
    pub role: String,
    /// What breaking it harms.
    pub severity: Severity,
    /// One sentence.
    pub requirement: String,
    /// Why no scenario answers it; `None`: scenarios do.
    pub reason: Option<String>,
    /// Its line in the file, counted from 1.
    pub line: u32,
}

/// All requirements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clauses {
    rows: Vec<Clause>,
    index: BTreeMap<String, usize>,
}

static BUILT_IN: LazyLock<Clauses> = LazyLock::new(|| {
    // A wrong row fails a test; what can be read is there all the same.
    let (clauses, _) = read(include_str!("../../scenarios/clauses.tsv"));
    clauses
});

impl Level {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
            Level::May => "MAY",
            Level::Implied => "implied",
            Level::Defacto => "defacto",
        }
    }
}

impl Severity {
    /// All of them, mildest first.
    pub const ALL: [Severity; 3] = [Severity::Cosmetic, Severity::Interop, Severity::Security];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Cosmetic => "cosmetic",
            Severity::Interop => "interop",
            Severity::Security => "security",
        }
    }
}

impl Clause {
    /// Whether the level allows `fail`: only MUST, implied, and defacto where security is at stake.
    pub fn may_fail(&self) -> bool {
        match self.level {
            Level::Must | Level::Implied => true,
            Level::Defacto => self.severity == Severity::Security,
            Level::Should | Level::May => false,
        }
    }
}

impl Clauses {
    /// The rows of this program.
    pub fn built_in() -> &'static Clauses {
        &BUILT_IN
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Every row that is wrong.
    pub fn parse(text: &str) -> Result<Clauses, Vec<Error>> {
        match read(text) {
            (clauses, errors) if errors.is_empty() => Ok(clauses),
            (_, errors) => Err(errors),
        }
    }

    /// The row of this id.
    pub fn get(&self, id: &str) -> Option<&Clause> {
        self.index.get(id).map(|index| &self.rows[*index])
    }

    /// All rows, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Clause> + Clone {
        self.rows.iter()
    }

    /// What is wrong between the rows and the scenarios that cite them: rows that nothing answers, and reasons for no scenario where there is one.
    pub fn answers<'a>(&self, scenarios: impl IntoIterator<Item = &'a Scenario>) -> Vec<Error> {
        let mut cited: BTreeMap<&str, &str> = BTreeMap::new();
        for scenario in scenarios {
            scenario.clauses.iter().for_each(|id| _ = cited.entry(id).or_insert(&scenario.id));
        }
        let wrong = |clause: &Clause| {
            let message = match (cited.get(clause.id.as_str()), &clause.reason) {
                (None, None) => format!("nothing answers {}: {}", clause.id, clause.requirement),
                (Some(scenario), Some(_)) => {
                    format!("{} has a reason not to be tested, and {scenario} cites it", clause.id)
                }
                _ => return None,
            };
            Some(Error::new(Pos { line: clause.line, column: 1 }, message))
        };
        self.rows.iter().filter_map(wrong).collect()
    }
}

fn read(text: &str) -> (Clauses, Vec<Error>) {
    let (mut clauses, mut errors) = (Clauses::default(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') || line == COLUMNS {
            continue;
        }
        match row(number, line) {
            Ok(clause) if clauses.index.contains_key(&clause.id) => {
                errors
                    .push(Error::new(Pos { line: number, column: 1 }, format!("a second row {}", clause.id)));
            }
            Ok(clause) => {
                clauses.index.insert(clause.id.clone(), clauses.rows.len());
                clauses.rows.push(clause);
            }
            Err(error) => errors.push(error),
        }
    }
    (clauses, errors)
}

fn row(line: u32, text: &str) -> Result<Clause, Error> {
    let cells: Vec<&str> = text.split('\t').collect();
    // The place of a cell, in characters.
    let pos = |index: usize| {
        let before: usize = cells[..index].iter().map(|cell| cell.chars().count() + 1).sum();
        Pos { line, column: u32::try_from(before + 1).unwrap_or(u32::MAX) }
    };
    let (id, level, role, severity, requirement, answer) = match cells[..] {
        [id, level, role, severity, requirement] => (id, level, role, severity, requirement, ""),
        [id, level, role, severity, requirement, answer] => (id, level, role, severity, requirement, answer),
        _ => {
            let columns = COLUMNS.replace('\t', ", ");
            return Err(Error::new(
                pos(0),
                format!("expected {columns} between tabs, found {} cells", cells.len()),
            ));
        }
    };
    if id.split('/').count() < 2 || id.split('/').any(str::is_empty) {
        return Err(Error::new(pos(0), format!("'{id}' is no id like rtmp/5.3.1.3/4")));
    }
    if requirement.is_empty() {
        return Err(Error::new(pos(4), "expected a sentence"));
    }
    let reason = match answer.strip_prefix("reason: ") {
        Some(reason) if !reason.trim().is_empty() => Some(reason.to_owned()),
        None if answer.is_empty() => None,
        _ => {
            return Err(Error::new(pos(5), "expected nothing, or 'reason: ' and why no scenario answers it"));
        }
    };
    let levels = [Level::Must, Level::Should, Level::May, Level::Implied, Level::Defacto];
    Ok(Clause {
        id: id.to_owned(),
        level: one(pos(1), "level", level, levels.map(|level| (level.name(), level)))?,
        role: one(pos(2), "role", role, [("server", "server"), ("client", "client")])?.to_owned(),
        severity: one(
            pos(3),
            "severity",
            severity,
            Severity::ALL.map(|severity| (severity.name(), severity)),
        )?,
        requirement: requirement.to_owned(),
        reason,
        line,
    })
}

fn one<T: Copy, const N: usize>(
    pos: Pos,
    what: &str,
    found: &str,
    known: [(&str, T); N],
) -> Result<T, Error> {
    match known.iter().find(|(name, _)| *name == found) {
        Some((_, value)) => Ok(*value),
        None => Err(Error::unknown(pos, what, found, known.map(|(name, _)| name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rows_are_right() {
        let (clauses, errors) = read(include_str!("../../scenarios/clauses.tsv"));
        assert_eq!(errors, []);
        assert!(clauses.iter().count() > 100);
    }

    #[test]
    fn wrong_rows() {
        let rows = [
            (
                "rtmp/1/1\tMUST\tserver\tinterop",
                "2:1: expected id, level, role, severity, requirement, answer between tabs, found 4 cells",
            ),
            ("rtmp\tMUST\tserver\tinterop\tIt does.\t", "2:1: 'rtmp' is no id like rtmp/5.3.1.3/4"),
            (
                "rtmp/1/1\tMUSTS\tserver\tinterop\tIt does.\t",
                "2:10: unknown level 'MUSTS'; did you mean 'MUST'?",
            ),
            (
                "rtmp/1/1\tMUST\tsever\tinterop\tIt does.\t",
                "2:15: unknown role 'sever'; did you mean 'server'?",
            ),
            (
                "rtmp/1/1\tMUST\tserver\thigh\tIt does.\t",
                "2:22: unknown severity 'high'; expected one of cosmetic interop security",
            ),
            ("rtmp/1/1\tMUST\tserver\tinterop\t\t", "2:30: expected a sentence"),
            (
                "rtmp/1/1\tMUST\tserver\tinterop\tIt does.\tlater",
                "2:39: expected nothing, or 'reason: ' and why no scenario answers it",
            ),
        ];
        for (row, message) in rows {
            let errors = Clauses::parse(&format!("{COLUMNS}\n{row}\n")).unwrap_err();
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [message]);
        }
        let twice = format!("{COLUMNS}\n{0}\n{0}\n", "rtmp/1/1\tMAY\tclient\tcosmetic\tIt does.\treason: no");
        assert_eq!(Clauses::parse(&twice).unwrap_err()[0].to_string(), "3:1: a second row rtmp/1/1");
    }

    #[test]
    fn each_row_is_answered_once() {
        let text = format!(
            "{COLUMNS}\n{}\n{}\n{}\n",
            "rtmp/1/1\tMUST\tserver\tinterop\tFirst.\t",
            "rtmp/1/2\tMUST\tserver\tinterop\tSecond.\treason: nobody sees it",
            "rtmp/1/3\tMUST\tserver\tinterop\tThird.\t",
        );
        let clauses = Clauses::parse(&text).unwrap();
        let scenario = |clause: &str| {
            let text = format!("scenario \"x\"\nclause {clause}\nalive\n");
            crate::scenario::syntax::parse("a/b", &text).unwrap()
        };
        let errors = clauses.answers(&[scenario("rtmp/1/2"), scenario("rtmp/1/3")]);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "2:1: nothing answers rtmp/1/1: First.",
                "3:1: rtmp/1/2 has a reason not to be tested, and a/b cites it"
            ]
        );
    }

    #[test]
    fn levels_that_fail() {
        let may_fail = |level: &str, severity: &str| {
            let text = format!("a/1\t{level}\tserver\t{severity}\tIt does.\n");
            Clauses::parse(&text).unwrap().get("a/1").unwrap().may_fail()
        };
        assert!(
            may_fail("MUST", "cosmetic") && may_fail("implied", "interop") && may_fail("defacto", "security")
        );
        assert!(
            !may_fail("SHOULD", "security")
                && !may_fail("MAY", "security")
                && !may_fail("defacto", "interop")
        );
    }
}
