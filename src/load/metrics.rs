//! What a run counted and measured so far, for Prometheus: text over HTTP, true histograms.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stats::{Metric, Stats};
use crate::record::load::Interval;

/// Upper bounds of the buckets, in microseconds.
const BOUNDS_US: &[u64] = &[
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// Scrapes at a time; who comes beyond is sent away.
const SCRAPES: usize = 16;
/// Bytes of a request.
const REQUEST: usize = 8192;
/// What a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The two spellings of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0: counters are named without `_total` where they are described, and the end is marked.
    OpenMetrics,
}

impl Dialect {
    fn content_type(self) -> &'static str {
        match self {
            Dialect::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Dialect::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All of a run until this second.
pub fn text(total: &Stats, row: &Interval, dialect: Dialect) -> String {
    let mut out = Text { out: String::new(), dialect };
    let c = &total.counts;
    let counters = [
        ("sessions_attempted", "Sessions begun.", c.attempted),
        ("sessions_started", "Sessions whose publish or play was confirmed.", c.started),
        ("sessions_ended", "Sessions that went on until we ended them.", c.ended),
        ("frames_sent", "Frames sent by publishers.", c.sent),
        ("frames_received", "Frames received by players.", c.received),
        ("frames_expected", "Frames that players expected, counted when they end.", c.expected),
        ("frames_lost", "Frames expected and never received, counted when players end.", c.lost),
        ("frames_duplicated", "Frames received again.", c.duplicated),
        ("frames_reordered", "Frames received behind a later one.", c.reordered),
        ("frames_corrupt", "Frames received with other bytes than were sent on their stream.", c.corrupt),
        ("frames_strayed", "Those of them that are of another of our streams.", c.strayed),
        ("frames_unplaced", "Frames received that stand for none that was planned.", c.unplaced),
        ("frames_foreign", "Frames of streams or runs that are not ours.", c.foreign),
        ("sent_bytes", "Bytes written.", c.bytes_sent),
        ("received_bytes", "Bytes read.", c.bytes_received),
    ];
    for (name, help, value) in counters {
        out.family(name, "counter", help);
        out.sample(&format!("{name}_total"), "", value);
    }
    out.family("sessions_failed", "counter", "Sessions that failed, by phase.");
    for (phase, failed) in total.failed_by_phase() {
        out.sample("sessions_failed_total", &format!("{{phase=\"{phase}\"}}"), failed.count);
    }
    out.family("sessions_up", "gauge", "Sessions that publish or play.");
    out.sample("sessions_up", "", row.sessions_up);
    out.family(
        "frames_missing",
        "gauge",
        "Frames that later ones overtook and that have not come, of the players there are.",
    );
    out.sample("frames_missing", "", row.missing);
    out.family("generator_limited", "gauge", "Whether we were the limit in the last second.");
    out.sample("generator_limited", "", u64::from(row.limited));
    for metric in Metric::ALL {
        if let Some(h) = total.histogram(metric) {
            out.histogram(metric.name(), h);
        }
    }
    if dialect == Dialect::OpenMetrics {
        out.out.push_str("# EOF\n");
    }
    out.out
}

struct Text {
    out: String,
    dialect: Dialect,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let total = if kind == "counter" && self.dialect == Dialect::Prometheus { "_total" } else { "" };
        // Writing to memory does not fail, here and below.
        let _ = writeln!(self.out, "# HELP rtmp_bench_{name}{total} {help}");
        let _ = writeln!(self.out, "# TYPE rtmp_bench_{name}{total} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.out, "rtmp_bench_{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, h: &Histogram<u64>) {
        let name = format!("{name}_seconds");
        self.family(&name, "histogram", "A latency, as the record describes it.");
        // The values are rounded to three digits; a bucket holds what is rounded to its bound or below.
        let (mut counts, mut sum) = (vec![0; BOUNDS_US.len()], 0.0);
        for v in h.iter_recorded() {
            let us = v.value_iterated_to();
            sum += h.median_equivalent(us) as f64 * v.count_at_value() as f64 / 1e6;
            let bound = BOUNDS_US.iter().position(|bound| us <= h.highest_equivalent(*bound));
            if let Some(count) = bound.and_then(|at| counts.get_mut(at)) {
                *count += v.count_at_value();
            }
        }
        let mut below = 0;
        for (bound, count) in BOUNDS_US.iter().zip(counts) {
            below += count;
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{}\"}}", *bound as f64 / 1e6), below);
        }
        self.sample(&format!("{name}_bucket"), "{le=\"+Inf\"}", h.len());
        self.sample(&format!("{name}_sum"), "", sum);
        self.sample(&format!("{name}_count"), "", h.len());
    }
}

/// Where it can be asked for: `GET /metrics`.
#[derive(Debug)]
pub struct Exposed {
    address: SocketAddr,
    texts: Arc<Mutex<[String; 2]>>,
    serving: tokio::task::AbortHandle,
}

impl Exposed {
    /// Listens, until it is dropped.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn start(address: SocketAddr) -> io::Result<Exposed> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let texts: Arc<Mutex<[String; 2]>> = Arc::default();
        let serving = tokio::spawn(serve(listener, texts.clone())).abort_handle();
        let exposed = Exposed { address, texts, serving };
        exposed.show(&Stats::default(), &Interval::default());
        Ok(exposed)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is told from now on.
    pub fn show(&self, total: &Stats, row: &Interval) {
        let texts = [Dialect::Prometheus, Dialect::OpenMetrics].map(|dialect| text(total, row, dialect));
        *self.texts.lock().unwrap_or_else(PoisonError::into_inner) = texts;
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, texts: Arc<Mutex<[String; 2]>>) {
    let mut scrapes = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while scrapes.try_join_next().is_some() {}
        match accepted {
            Ok((socket, _)) if scrapes.len() < SCRAPES => {
                let texts = texts.clone();
                scrapes.spawn(async move { timeout(PATIENCE, answer(socket, &texts)).await });
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One request, one answer.
async fn answer(mut socket: TcpStream, texts: &Mutex<[String; 2]>) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let n = socket.read(&mut buffer).await?;
        request.extend_from_slice(&buffer[..n]);
        if n == 0 || request.len() > REQUEST {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let dialect = if request.contains("application/openmetrics-text") {
        Dialect::OpenMetrics
    } else {
        Dialect::Prometheus
    };
    let path = request.strip_prefix("get ").and_then(|rest| rest.split([' ', '?']).next());
    let (status, body) = match path {
        Some("/" | "/metrics") => {
            ("200 OK", texts.lock().unwrap_or_else(PoisonError::into_inner)[dialect as usize].clone())
        }
        Some(_) => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
        None => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        dialect.content_type(),
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await?;
    socket.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::stats::Phase;

    fn stats() -> Stats {
        let mut stats = Stats::default();
        // 1 to 100 ms, and one above every bound.
        (1..=100).for_each(|ms| stats.record_us(Metric::Frame, ms * 1000));
        stats.record_us(Metric::Frame, 100_000_000);
        stats.fail(Phase::Connect, "refused".into());
        stats.counts.sent = 7;
        stats
    }

    #[test]
    fn a_histogram_is_cumulative_and_whole() {
        let text = text(&stats(), &Interval::default(), Dialect::Prometheus);
        for line in [
            "rtmp_bench_frame_seconds_bucket{le=\"0.0005\"} 0",
            "rtmp_bench_frame_seconds_bucket{le=\"0.001\"} 1",
            "rtmp_bench_frame_seconds_bucket{le=\"0.0025\"} 2",
            "rtmp_bench_frame_seconds_bucket{le=\"0.05\"} 50",
            "rtmp_bench_frame_seconds_bucket{le=\"0.1\"} 100",
            "rtmp_bench_frame_seconds_bucket{le=\"60\"} 100",
            "rtmp_bench_frame_seconds_bucket{le=\"+Inf\"} 101",
            "rtmp_bench_frame_seconds_count 101",
            "rtmp_bench_sessions_failed_total{phase=\"connect\"} 1",
            "# TYPE rtmp_bench_frames_sent_total counter",
            "rtmp_bench_frames_sent_total 7",
            "# TYPE rtmp_bench_frame_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let sum = text.lines().find_map(|l| l.strip_prefix("rtmp_bench_frame_seconds_sum ")).unwrap();
        assert!((sum.parse::<f64>().unwrap() - 105.05).abs() < 0.1, "{sum}");
        assert!(!text.contains("rtmp_bench_gap_seconds"), "no data is not 0");
    }

    #[test]
    fn the_other_dialect_differs_where_it_must() {
        let text = text(&stats(), &Interval::default(), Dialect::OpenMetrics);
        assert!(
            text.contains("# TYPE rtmp_bench_frames_sent counter\nrtmp_bench_frames_sent_total 7\n"),
            "{text}"
        );
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[tokio::test]
    async fn requests_are_answered_or_bounded() {
        let exposed = Exposed::start(([127, 0, 0, 1], 0).into()).await.expect("a port");
        exposed.show(&stats(), &Interval::default());
        let ask = async |request: &[u8]| {
            let mut socket = TcpStream::connect(exposed.address()).await.expect("it listens");
            let mut answer = Vec::new();
            // One that is sent away may be so before all was said.
            let _ = socket.write_all(request).await;
            let _ = socket.read_to_end(&mut answer).await;
            String::from_utf8(answer).expect("UTF-8")
        };
        let answer = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        let open = ask(b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;q=0.5\r\n\r\n").await;
        assert!(
            open.contains("Content-Type: application/openmetrics-text") && open.ends_with("# EOF\n"),
            "{open}"
        );
        assert!(ask(b"GET /x HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(b"POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert_eq!(ask(&[b'x'; 3 * REQUEST]).await, "");
    }
}
