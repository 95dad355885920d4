//! Captures: packets out of files, streams out of packets, RTMP sessions out of streams.
//!
//! One pass and streaming: [`pcap`] lends packets, [`frame`] strips their headers, [`stream`] puts TCP back in order and hands bytes
//! on as soon as they are in order, [`session`] reads RTMP from them. [`read`] joins the four.

pub mod anonymise;
pub mod frame;
mod lint;
mod media;
pub mod pcap;
pub mod replay;
pub mod script;
pub mod secrets;
pub mod session;
mod shake;
pub mod stream;
pub mod write;

use std::io::Read;
use std::path::Path;

use crate::record::inspect::{Inspect, Spooled};
use frame::Unwrapper;
use pcap::{Error, Source};
use secrets::Place;
use session::{Sessions, Watch};
use stream::Streams;

/// Reads a capture to its end, or as far as it can be read: what is wrong then stands in [`Inspect::damage`]. `watch` hears every
/// message with its time while it is read. Secrets are masked unless `show_secrets`. Of sessions that ended nothing is held in memory.
///
/// # Errors
/// When nothing can be read: no such file, no capture, or damaged before the first packet. When what was found cannot be kept.
pub fn read_spooled(path: &Path, show_secrets: bool, watch: &mut dyn Watch) -> Result<Spooled, Error> {
    spool(pcap::open(path)?, show_secrets, watch)
}

/// As [`read_spooled`], with every session in memory.
///
/// # Errors
/// As [`read_spooled`].
pub fn read(path: &Path, show_secrets: bool, watch: &mut dyn Watch) -> Result<Inspect, Error> {
    read_source(pcap::open(path)?, show_secrets, watch)
}

/// As [`read`], from what was opened already.
///
/// # Errors
/// As [`read`].
pub fn read_source(source: Source, show_secrets: bool, watch: &mut dyn Watch) -> Result<Inspect, Error> {
    Ok(spool(source, show_secrets, watch)?.load()?)
}

fn spool(source: Source, show_secrets: bool, watch: &mut dyn Watch) -> Result<Spooled, Error> {
    match source {
        Source::Packets(reader) => read_packets(reader, show_secrets, watch),
        Source::Raw(bytes) => read_raw(bytes, Sessions::new(show_secrets, watch)),
    }
}

fn read_packets(
    mut reader: pcap::Reader,
    show_secrets: bool,
    watch: &mut dyn Watch,
) -> Result<Spooled, Error> {
    let mut unwrapper = Unwrapper::default();
    let mut streams = Streams::new(Sessions::new(show_secrets, watch));
    let mut packets = 0u64;
    let damage = loop {
        match reader.packet() {
            _ if streams.handler.is_over() => break None,
            Ok(Some(packet)) => {
                packets += 1;
                if let Some(segment) = unwrapper.segment(packet) {
                    streams.segment(&segment);
                }
            }
            Ok(None) => break None,
            Err(e) if packets == 0 => return Err(e),
            Err(e) => break Some(e.to_string()),
        }
    };
    streams.finish_all();
    unwrapper.finish();
    let mut facts = reader.facts();
    if !show_secrets {
        facts.comments.iter_mut().for_each(|text| *text = secrets::shown(text, Place::Other));
    }
    let tcp_connections = streams.connections();
    Ok(Inspect {
        format: facts.format.into(),
        packets: facts.packets,
        dropped_packets: facts.dropped,
        passed_over: unwrapper.passed_over().iter().map(|(what, n)| ((*what).to_string(), *n)).collect(),
        comments: facts.comments,
        damage,
        tcp_connections,
        ..streams.handler.finish()?
    })
}

fn read_raw(mut bytes: Box<dyn Read + Send>, mut sessions: Sessions<'_>) -> Result<Spooled, Error> {
    let mut buffer = vec![0; 64 << 10];
    let mut raw = None;
    let mut have = 0;
    let damage = loop {
        if sessions.is_over() {
            break None;
        }
        let read = bytes.read(&mut buffer[have..]);
        let got = *read.as_ref().unwrap_or(&0);
        if got == 0 && have == 0 {
            match read {
                Err(e) if raw.is_none() => return Err(e.into()),
                read => break read.err().map(|e| e.to_string()),
            }
        }
        have += got;
        if got == 0 || raw.is_some() || have == buffer.len() {
            // The first 64 KiB show which direction it is.
            let raw = raw.get_or_insert_with(|| session::Raw::new(&buffer[..have]));
            sessions.raw(raw, &buffer[..have]);
            have = 0;
        }
        if let Err(e) = read {
            break Some(e.to_string());
        }
    };
    if let Some(raw) = raw {
        sessions.end_raw(raw);
    }
    Ok(Inspect { format: "raw".into(), damage, ..sessions.finish()? })
}
