//! The ways in which the reference server can misbehave, one name each.

use std::str::FromStr;

use crate::wire::chunk::Quirks;

macro_rules! faults {
    ($($variant:ident = $name:literal, $text:literal;)*) => {
        /// One misbehaviour of the reference server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $text] $variant),* }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant),*];

            /// The name that scenarios and `--fault` use.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name),* }
            }

            /// What it does, for people.
            pub const fn text(self) -> &'static str {
                match self { $(Fault::$variant => $text),* }
            }
        }
    };
}

// One row a fault: name and what it does.
faults! {
    NoAcks = "no-acks", "never acknowledges what it received";
    TimesSmoothed = "times-smoothed", "a step of more than 250 ms is relayed as 10 ms";
    Batching = "batching", "media is relayed eight messages at a time";
}

/// A set of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u128);

impl Faults {
    /// Whether the fault is on.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    /// Whether any of these is on.
    pub fn any(self, faults: &[Fault]) -> bool {
        faults.iter().any(|&fault| self.has(fault))
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<T: IntoIterator<Item = Fault>>(faults: T) -> Faults {
        Faults(faults.into_iter().fold(0, |set, fault| set | (1 << fault as u32)))
    }
}

/// No fault has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is named '{given}'{}", .near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default())]
pub struct UnknownFault {
    given: String,
    near: Option<&'static str>,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(given: &str) -> Result<Fault, UnknownFault> {
        Fault::ALL.iter().copied().find(|fault| fault.name() == given).ok_or_else(|| {
            let distance = |name: &&str| strsim::damerau_levenshtein(name, given);
            let near = fault_names().into_iter().min_by_key(distance).filter(|name| distance(name) <= 3);
            UnknownFault { given: given.to_owned(), near }
        })
    }
}

/// The names of all faults: how the server misbehaves, and how it reads and writes chunks wrongly.
pub fn fault_names() -> Vec<&'static str> {
    Fault::ALL.iter().map(|fault| fault.name()).chain(Quirks::names()).collect()
}
