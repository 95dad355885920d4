//! Captures: packets out of files, streams out of packets, RTMP sessions out of streams.
//!
//! One pass and streaming: [`pcap`] lends packets, [`frame`] strips their headers, [`stream`] puts TCP back in order and hands bytes
//! on as soon as they are in order, [`session`] reads RTMP from them. [`read`] joins the four.

pub mod frame;
pub mod pcap;
pub mod stream;
pub mod write;
