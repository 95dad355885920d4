//! RTMP itself: bytes and values. No sockets, no clock, no files.

pub mod amf0;
pub mod amf3;
pub mod chunk;
pub mod flv;
pub mod handshake;
pub mod media;
pub mod message;
pub mod note;
pub mod sample;
pub mod session;
pub mod shared_object;
pub mod time;
