//! peer

use crate::wire::chunk::Quirks;

/// The names of all faults.
pub fn fault_names() -> Vec<&'static str> {
    // Those of the relay itself are the peer's own.
    Quirks::names().chain(["times-smoothed", "batching"]).collect()
}
