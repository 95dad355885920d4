//! A checked scenario: what the syntax makes and the engine runs.
