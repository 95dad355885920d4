//! What holds for any value, any split of the bytes and any bytes at all.

mod chunk;
mod codec;
mod notation;
