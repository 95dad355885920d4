//! Pure views of a record: functions from a record to text.

pub mod inspect;
pub mod junit;
pub mod load;
pub mod probe;
pub mod replay;
pub mod table;
