//! A connection over an in-memory pipe: what it logs, and how it ends. Time is simulated.

use std::time::Duration;

use bytes::Bytes;
use rtmp_bench::net::conn::{Conn, Direction, Entry, How, Io, Origin, Seen};
use rtmp_bench::net::pipe::{Pipe, pipe};
use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
use rtmp_bench::wire::message::type_id;
use rtmp_bench::wire::session::{Config, Goal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn open(capacity: usize) -> (Conn, Pipe, Origin) {
    let (ours, theirs) = pipe(capacity);
    let origin = Origin::default();
    (Conn::start(Box::new(ours), Config::default(), origin.clone()), theirs, origin)
}

fn count(conn: &Conn, is: impl Fn(&Entry) -> bool) -> usize {
    conn.log(|log| log.iter().filter(|entry| is(entry)).count())
}

fn simulated(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work);
}

/// S0, S1 and S2, then messages of 50 000 bytes.
fn server_bytes(messages: usize) -> Vec<u8> {
    let mut out = vec![3; 1 + 2 * 1536];
    let mut writer = ChunkWriter::default();
    let header = MessageHeader { csid: 6, timestamp: 0, len: 0, type_id: type_id::VIDEO, msid: 1 };
    for _ in 0..messages {
        writer.write(&mut out, header, &[0x17; 50_000], None);
    }
    out
}

#[test]
fn what_we_write_is_decoded_in_any_pieces() {
    simulated(async {
        let (conn, theirs, _) = open(1 << 20);
        let (_read, _write) = tokio::io::split(theirs);
        let mut bytes = vec![3; 1 + 2 * 1536];
        let header = MessageHeader { csid: 4, timestamp: 40, len: 0, type_id: type_id::AUDIO, msid: 1 };
        ChunkWriter::default().write(&mut bytes, header, &[0xAF; 300], None);
        bytes.extend_from_slice(&[0xC5, 1, 2, 3]);
        for piece in bytes.chunks(7) {
            conn.write(Bytes::copy_from_slice(piece)).await;
        }
        assert_eq!(conn.sent(), bytes.len() as u64);
        let is_audio =
            |e: &Entry| matches!(&e.seen, Seen::Message(h, p) if h.timestamp == 40 && p.len() == 300);
        assert_eq!(count(&conn, |e| is_audio(e) && e.direction == Direction::Sent), 1);
        assert_eq!(
            count(&conn, |e| matches!(e.seen, Seen::Version(3) | Seen::Hello(_) | Seen::Answer(_))),
            3
        );
        // A type 3 chunk on a chunk stream without a header: shown as it is.
        assert!(count(&conn, |e| matches!(&e.seen, Seen::Bytes(b) if !b.is_empty())) > 0);
    });
}

#[test]
fn fin_and_rst_are_told_apart() {
    simulated(async {
        let (conn, theirs, _) = open(1 << 16);
        drop(theirs);
        sleep(SECOND).await;
        assert_eq!(count(&conn, |e| e.seen == Seen::Closed(How::Fin)), 1);
        let (conn, mut theirs, _) = open(1 << 16);
        theirs.reset().unwrap();
        drop(theirs);
        sleep(SECOND).await;
        assert_eq!(count(&conn, |e| e.seen == Seen::Closed(How::Rst)), 1);
        // A write to the dead returns.
        conn.write(Bytes::from_static(&[0; 9])).await;
        assert_eq!(conn.sent(), 0);
    });
}

#[test]
fn our_ends_are_seen_by_the_peer() {
    simulated(async {
        for (close, want) in
            [(Conn::close as fn(&Conn), Ok(2)), (Conn::half_close, Ok(2)), (Conn::reset, Err(()))]
        {
            let (conn, mut theirs, _) = open(1 << 16);
            conn.write(Bytes::from_static(b"hi")).await;
            close(&conn);
            sleep(SECOND).await;
            let mut all = Vec::new();
            let read = theirs.read_to_end(&mut all).await.map_err(|_| ());
            assert_eq!(read, want);
        }
        // After a half-close what comes is still read.
        let (conn, mut theirs, _) = open(1 << 16);
        conn.half_close();
        sleep(SECOND).await;
        theirs.write_all(&[3]).await.unwrap();
        sleep(SECOND).await;
        assert_eq!(count(&conn, |e| e.seen == Seen::Version(3)), 1);
        // The last handle closes.
        drop(conn);
        sleep(SECOND).await;
        assert!(theirs.write_all(&[3; 9000]).await.is_err());
    });
}

#[test]
fn a_peer_that_reads_nothing_is_stuck() {
    simulated(async {
        let (conn, _theirs, _) = open(1000);
        let began = Instant::now();
        conn.write(Bytes::from(vec![3; 5000])).await;
        assert!(conn.is_deaf_to_us() && conn.sent() == 1000);
        assert_eq!(count(&conn, |e| e.seen == Seen::Stuck), 1);
        // Further ones do not wait.
        conn.write(Bytes::from(vec![3; 5000])).await;
        assert!(began.elapsed() < 5 * SECOND);
    });
}

#[test]
fn nothing_is_read_while_reading_is_off() {
    simulated(async {
        let (conn, mut theirs, _) = open(1 << 16);
        conn.read_on(false);
        theirs.write_all(&[3]).await.unwrap();
        sleep(SECOND).await;
        assert_eq!(conn.received(), 0);
        conn.read_on(true);
        sleep(SECOND).await;
        assert_eq!(conn.received(), 1);
    });
}

#[test]
fn a_log_that_is_full_reads_no_more() {
    simulated(async {
        let (conn, theirs, _) = open(1 << 16);
        let (_read, mut write) = tokio::io::split(theirs);
        let bytes = server_bytes(2_000);
        let flood = tokio::spawn(async move { write.write_all(&bytes).await });
        sleep(10 * SECOND).await;
        assert!(!flood.is_finished());
        assert!(conn.received() < 48 << 20, "{}", conn.received());
        assert_eq!(count(&conn, |e| e.seen == Seen::Full), 1);
        flood.abort();
    });
}

#[test]
fn behind_what_cannot_be_read_little_is_taken() {
    simulated(async {
        let (conn, theirs, _) = open(1 << 16);
        let (_read, mut write) = tokio::io::split(theirs);
        let mut bytes = vec![3; 1 + 2 * 1536];
        bytes.extend_from_slice(&[0xC5; 16 << 20]);
        let flood = tokio::spawn(async move { write.write_all(&bytes).await });
        sleep(10 * SECOND).await;
        assert!(!flood.is_finished() && conn.received() < 8 << 20, "{}", conn.received());
        assert_eq!(count(&conn, |e| matches!(e.seen, Seen::Broken(_))), 1);
        flood.abort();
    });
}

#[test]
fn an_arrival_between_look_and_wait_is_not_missed() {
    simulated(async {
        let (conn, mut theirs, origin) = open(1 << 16);
        let arrival = origin.arrival();
        theirs.write_all(&[3]).await.unwrap();
        sleep(SECOND).await;
        assert_eq!(conn.reached(), Goal::Open);
        tokio::time::timeout(SECOND, arrival).await.expect("it was logged after the call");
    });
}
