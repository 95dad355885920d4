//! peer

/// The names of all faults.
pub fn fault_names() -> Vec<&'static str> {
    Vec::new()
}
