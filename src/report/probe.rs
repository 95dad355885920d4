//! What calibration found of a target, on one screen.

use comfy_table::{Table, presets};

use crate::record::{Baseline, Record, Target};

/// One row a property that was found out.
pub fn screen(record: &Record) -> String {
    let Some(Target { url, fingerprint: Some(print), .. }) = &record.target else {
        return "nothing was found out\n".to_owned();
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: Option<String>| {
        table.add_row([name.to_owned(), value.unwrap_or_else(|| "not found out".to_owned())]);
    };
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    row("target", Some(url.clone()));
    row("reach", Some(print.reach.clone()));
    if print.refusal.is_some() {
        row("refusal", print.refusal.clone());
    }
    if !print.ends.is_empty() {
        let milestones: Vec<_> = print.ends.iter().map(|milestone| milestone.name()).collect();
        row("ends sessions", Some(format!("of whoever is {}", milestones.join(" or "))));
    }
    row("server", print.server.clone());
    row("handshake", print.handshake.clone());
    row("signed handshake", print.signed_handshake.clone());
    row("chunk size", print.chunk_size.map(|n| format!("{n} bytes")));
    row("window ack size", print.window_ack_size.map(|n| format!("{n} bytes")));
    let limit = match print.peer_bandwidth_limit {
        Some(0) => " hard",
        Some(1) => " soft",
        Some(2) => " dynamic",
        _ => "",
    };
    row("peer bandwidth", print.peer_bandwidth.map(|n| format!("{n} bytes{limit}")));
    row("acknowledges", print.acks.map(yes));
    let deaf = if print.answers_publisher == Some(false) { ", not to a publisher" } else { "" };
    row("sentinel", print.sentinel.as_ref().map(|sentinel| format!("{sentinel}{deaf}")));
    row("publish", print.publish.map(yes));
    row("play", print.play.map(yes));
    row("relay", print.relay.clone());
    row("streams a connection", print.streams.clone());
    row("name taken", print.taken.clone());
    row("name missing", print.missing.clone());
    row("enhanced RTMP", print.ertmp.map(yes));
    row("AMF3", print.amf3.map(yes));
    row("one connection only", print.one_shot.map(yes));
    row("idle latency", latencies(&print.baseline));
    let mut out: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    for note in &print.notes {
        out.push_str(&format!(" note: {note}\n"));
    }
    out
}

fn latencies(b: &Baseline) -> Option<String> {
    let all = [
        ("tcp", b.tcp_us),
        ("handshake", b.handshake_us),
        ("connect", b.connect_us),
        ("sentinel", b.sentinel_us),
        ("publish", b.publish_start_us),
        ("play", b.play_start_us),
        ("relay", b.relay_us),
    ];
    let known: Vec<String> = all
        .iter()
        .filter_map(|(name, us)| us.map(|us| format!("{name} {:.1} ms", us as f64 / 1000.0)))
        .collect();
    (!known.is_empty()).then(|| known.join(", "))
}
