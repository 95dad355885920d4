//! AMF3 values, to and from bytes: as much as message types 15, 16 and 17 carry.

/// One AMF3 value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Marker 0x00.
    Undefined,
    /// Marker 0x01.
    Null,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The bytes end inside a value.
    #[error("ends inside {0}")]
    Truncated(&'static str),
}
