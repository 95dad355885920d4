//! Differential tests: the same bytes read by this crate and by unrelated ones, and the bytes that those write read by us.

#[cfg(test)]
mod amf0;
#[cfg(test)]
mod chunk;
