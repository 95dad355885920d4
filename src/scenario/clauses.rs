//! `clauses.tsv`: the project's list of requirements, the only place where levels live.

use std::collections::BTreeMap;

/// How binding a requirement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// In capitals in the text.
    Must,
    /// Follows from a layout, a table or a flow chart.
    Implied,
    /// In capitals in the text.
    Should,
    /// In no text, but clients depend on it.
    Defacto,
    /// In capitals in the text.
    May,
}

impl Level {
    const ALL: [Level; 5] = [Level::Must, Level::Implied, Level::Should, Level::Defacto, Level::May];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Level::Must => "MUST",
            Level::Implied => "implied",
            Level::Should => "SHOULD",
            Level::Defacto => "defacto",
            Level::May => "MAY",
        }
    }
}

/// What not following a requirement harms; a later one is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Looks.
    Cosmetic,
    /// Others cannot work with it.
    Interop,
    /// Others are endangered.
    Security,
}

impl Severity {
    /// All of them, mildest first.
    pub const ALL: [Severity; 3] = [Severity::Cosmetic, Severity::Interop, Severity::Security];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Cosmetic => "cosmetic",
            Severity::Interop => "interop",
            Severity::Security => "security",
        }
    }
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// For example `rtmp/5.3.1.3/4`.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// `server` or `client`: the side under test.
    pub role: String,
    /// What not following it harms.
    pub severity: Severity,
    /// One sentence.
    pub requirement: String,
    /// `reason: …` where no scenario answers it.
    pub reason: Option<String>,
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

/// The requirements by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clauses {
    rows: BTreeMap<String, Clause>,
}

impl Clauses {
    /// Reads the file; `#` comments and empty lines are allowed.
    ///
    /// # Errors
    /// Each wrong line, with its number.
    pub fn parse(text: &str) -> Result<Clauses, Vec<String>> {
        let mut rows = BTreeMap::new();
        let mut errors = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') || line.starts_with("id\t") {
                continue;
            }
            match row(line) {
                Ok(clause) if rows.contains_key(&clause.id) => {
                    errors.push(format!("{number}: {} stands here twice", clause.id));
                }
                Ok(clause) => {
                    rows.insert(clause.id.clone(), clause);
                }
                Err(why) => errors.push(format!("{number}: {why}")),
            }
        }
        if errors.is_empty() { Ok(Clauses { rows }) } else { Err(errors) }
    }

    /// The requirement of this id.
    pub fn get(&self, id: &str) -> Option<&Clause> {
        self.rows.get(id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Clause> {
        self.rows.values()
    }
}

fn row(line: &str) -> Result<Clause, String> {
    let mut fields = line.split('\t');
    let mut field = |name: &str| {
        fields.next().map(str::trim).ok_or_else(|| format!("expected {name}, the line ends before it"))
    };
    let (id, level, role, severity) = (field("id")?, field("level")?, field("role")?, field("severity")?);
    let requirement = field("requirement")?;
    let answer = field("answer").unwrap_or("");
    let level = Level::ALL.into_iter().find(|l| l.name() == level);
    let level = level.ok_or("expected MUST, SHOULD, MAY, implied or defacto in the second column")?;
    let severity = Severity::ALL.into_iter().find(|s| s.name() == severity);
    let severity = severity.ok_or("expected security, interop or cosmetic in the fourth column")?;
    if !matches!(role, "server" | "client") {
        return Err(format!("expected server or client in the third column, found '{role}'"));
    }
    let reason = match answer.strip_prefix("reason:") {
        Some(reason) if !reason.trim().is_empty() => Some(reason.trim().to_owned()),
        _ if answer.is_empty() => None,
        _ => return Err(format!("expected nothing or 'reason: …' in the last column, found '{answer}'")),
    };
    Ok(Clause {
        id: id.to_owned(),
        level,
        role: role.to_owned(),
        severity,
        requirement: requirement.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_their_mistakes() {
        let good = "# comment\n\nrtmp/5/1\tMUST\tserver\tinterop\tIt works.\nx/1\tdefacto\tserver\tsecurity\tNo.\treason: later\n";
        let clauses = Clauses::parse(good).unwrap();
        assert_eq!(clauses.iter().count(), 2);
        assert!(clauses.get("rtmp/5/1").is_some_and(|c| c.may_fail() && c.reason.is_none()));
        assert!(clauses.get("x/1").is_some_and(|c| c.may_fail() && c.reason.as_deref() == Some("later")));
        let table = [
            ("a\tMUST\n", "1: expected role"),
            ("a\tMUSTN\tserver\tinterop\tx\n", "1: expected MUST"),
            ("a\tMUST\tpeer\tinterop\tx\n", "1: expected server or client"),
            ("a\tMUST\tserver\thigh\tx\n", "1: expected security"),
            ("a\tMUST\tserver\tinterop\tx\tlater\n", "1: expected nothing or 'reason: …'"),
            ("a\tMUST\tserver\tinterop\tx\na\tMUST\tserver\tinterop\tx\n", "2: a stands here twice"),
        ];
        for (text, want) in table {
            let errors = Clauses::parse(text).expect_err(text);
            assert!(errors[0].starts_with(want), "{errors:?}");
        }
    }
}
