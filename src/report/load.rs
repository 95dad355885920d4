//! A record of `load` for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::count;
use crate::record::load::{Find, Interval, Latency, Load, Slo};
use crate::record::{Outcome, Record};

/// What was done, what came of it, and whether the numbers are the target's.
pub fn screen(record: &Record) -> String {
    let mut out = String::new();
    if let Some(target) = &record.target {
        let embedded =
            if target.embedded { "  (embedded server, same cores: not a server's figure)" } else { "" };
        let _ = writeln!(out, "target    {}{embedded}", target.url);
    }
    let Some(load) = &record.load else {
        let why = record.why.as_deref().unwrap_or("it is of another verb");
        let _ = writeln!(out, "nothing was measured: {why}");
        return out;
    };
    plan(&mut out, load);
    sessions(&mut out, load);
    frames(&mut out, load, record.duration_ms);
    slow(&mut out, load);
    let _ = writeln!(out, "\n{}", latencies(load));
    generator(&mut out, load);
    let late = load.sessions.unfinished_by_phase.values().map(|of| of.late).sum();
    for slo in &load.slo {
        promise(&mut out, slo, late);
    }
    if let Some(find) = &load.find {
        search(&mut out, find);
    }
    if record.outcome == Outcome::Interrupted {
        out.push_str("\ninterrupted: this is of what ran until then\n");
    }
    if let Some(target) = &record.target {
        super::death(&mut out, target);
    }
    out
}

fn plan(out: &mut String, load: &Load) {
    let plan = &load.plan;
    let read = match plan.tick_ms {
        _ if plan.players == 0 => String::new(),
        Some(ms) => format!("; players sweep every {ms} ms: latencies are up to that much longer"),
        None => format!("; players read at once{}", receipt(load)),
    };
    let sent = format!(
        " of {} ({} of it audio) at {} fps",
        bits(plan.bitrate_bps as f64),
        bits(plan.audio_bps as f64),
        plan.fps
    );
    let _ = writeln!(
        out,
        "plan      {}{}, {}{read}; {}",
        count(plan.publishers.into(), "publisher"),
        if plan.publishers > 0 { &sent } else { "" },
        count(plan.players.into(), "player"),
        count(plan.shards.into(), "event loop")
    );
    let mut ways = Vec::new();
    let who = if plan.players == 0 { "publishers" } else { "players" };
    ways.extend(plan.churn_per_s.map(|rate| format!("{rate} {who} a second leave and come back")));
    ways.extend(plan.late_join.then(|| "players come at random places between two key frames".to_owned()));
    ways.extend(plan.burst_ms.map(|ms| {
        format!("publishers send once in {ms} ms what fell due (bursts): latency counts from there")
    }));
    ways.extend((!plan.sources.is_empty()).then(|| format!("from {}", plan.sources.join(", "))));
    if !ways.is_empty() {
        let _ = writeln!(out, "          {}", ways.join("; "));
    }
    if let Some(media) = &plan.media {
        let tracks = [&media.video, &media.audio].into_iter().flatten().map(|track| {
            let by = match track.frames - track.stamped {
                0 => "stamped".to_owned(),
                n if n == track.frames => "told by their content".to_owned(),
                n => format!("{n} of them told by their content"),
            };
            format!("{} of {} {by}", count(track.frames, "frame"), track.codecs.join(" and "))
        });
        let tracks: Vec<String> = tracks.collect();
        let seconds = media.round_ms as f64 / 1000.0;
        let _ =
            writeln!(out, "media     {}, {seconds:.2} s over and over: {}", media.file, tracks.join("; "));
    }
}

/// What told when frames came.
fn receipt(load: &Load) -> String {
    let (ours, all) = (load.frames.user_clock, load.frames.received);
    match load.plan.receipt_clock.as_str() {
        "mixed" => {
            let share = ours as f64 * 100.0 / all.max(1) as f64;
            format!(", receipt by the kernel clock but for {ours} of {all} frames ({share:.2} %)")
        }
        _ if all == 0 => String::new(),
        clock => format!(", receipt by the {clock} clock"),
    }
}

fn sessions(out: &mut String, load: &Load) {
    let s = &load.sessions;
    let failed: u64 = s.failed_by_phase.values().map(|failed| failed.count).sum();
    let _ = writeln!(
        out,
        "sessions  {} planned, {} attempted, {} started, {} kept to the end, {failed} failed",
        s.planned, s.attempted, s.started, s.ended
    );
    if let Some(n) = s.planned.checked_sub(s.attempted).filter(|n| *n > 0) {
        let _ = writeln!(
            out,
            "          {n} never begun: the run was over before them, or what they were to play was gone"
        );
    }
    for (phase, failed) in &s.failed_by_phase {
        let _ = writeln!(out, "          {} in {phase}, for example: {}", failed.count, failed.sample);
    }
    for (phase, of) in &s.unfinished_by_phase {
        let late =
            if of.late > 0 { format!(", {} of them for 2 s or longer", of.late) } else { String::new() };
        let longest = of.longest_ms as f64 / 1000.0;
        let _ = writeln!(
            out,
            "          {} unfinished: in {phase} when the run was over, {longest:.2} s at most{late}",
            of.count
        );
    }
    for (said, of) in &s.silent_by_status {
        let longest = of.longest_ms as f64 / 1000.0;
        let said = match said.as_str() {
            "nothing" => "that their stream is over was not said".to_owned(),
            said => format!("the target said {said}"),
        };
        let _ = writeln!(
            out,
            "          {} of those kept got nothing more for up to {longest:.2} s before their end; {said}",
            of.count
        );
    }
}

/// What is counted apart.
fn slow(out: &mut String, load: &Load) {
    let Some(slow) = &load.slow else { return };
    let (rate, f) = (bits(slow.rate_bps as f64), &slow.frames);
    let _ = writeln!(
        out,
        "slow      {} % of the players read {rate} at most and are in no other line but sessions and bytes: {} kept to the end, {} ended by the \
         target; {} received, {} expected, {} lost",
        slow.per_cent,
        slow.ended,
        slow.dropped,
        count(f.received, "frame"),
        f.expected,
        number(f.lost)
    );
}

fn frames(out: &mut String, load: &Load, duration_ms: u64) {
    let f = &load.frames;
    let _ = write!(out, "frames    {} sent, {} received; ", f.sent, f.received);
    let counts =
        [(f.lost, "lost"), (f.duplicated, "duplicated"), (f.reordered, "reordered"), (f.corrupt, "corrupt")];
    let known = counts.iter().filter_map(|(count, what)| Some(format!("{} {what}", (*count)?)));
    let _ = match known.collect::<Vec<_>>() {
        none if none.is_empty() => writeln!(out, "none expected, nothing is known of losses"),
        known => writeln!(out, "{} expected: {}", f.expected, known.join(", ")),
    };
    let more = [
        (f.join_burst, "from before the play (join burst)"),
        (f.foreign, "not ours, without latency"),
        (f.strayed, "of the corrupt are frames of another stream of ours"),
        (f.unplaced.saturating_sub(f.strayed), "of those received stand for no frame that can be told"),
    ];
    for (count, what) in more.iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(out, "          {count} {what}");
    }
    let back = &load.timestamps_back;
    if back.video + back.audio > 0 {
        let _ = writeln!(
            out,
            "times     step back {} in video, {} in audio",
            count(back.video, "time"),
            back.audio
        );
    }
    let joins = &load.joins;
    if joins.players > joins.at_key_frame {
        let _ = writeln!(
            out,
            "joins     {} of {} players' video does not begin with a key frame: {} came before one",
            joins.players - joins.at_key_frame,
            joins.players,
            count(joins.frames_before_key, "frame")
        );
    }
    for (name, seen) in &load.departures {
        let _ = writeln!(
            out,
            "departs   {} from {} ({name}), for example: {}",
            count(seen.count, "time"),
            seen.clause,
            seen.sample
        );
    }
    // What is waited for behind the planned end is no time of sending.
    let planned_ms = load.plan.stages.iter().map(|(ms, _)| ms).sum();
    let rate = |bytes: u64| bits(bytes as f64 * 8000.0 / duration_ms.min(planned_ms).max(1) as f64);
    let _ = writeln!(
        out,
        "bytes     {} sent ({} on average), {} received ({})",
        load.bytes.sent,
        rate(load.bytes.sent),
        load.bytes.received,
        rate(load.bytes.received)
    );
}

/// A count of which there may be no data.
fn number(count: Option<u64>) -> String {
    count.map_or("no data how many".to_owned(), |n| n.to_string())
}

/// In the order in which a session meets them.
const ORDER: &[&str] = &[
    "tcp",
    "tls",
    "handshake",
    "connect",
    "create_stream",
    "publish_start",
    "play_start",
    "first_frame",
    "first_keyframe",
    "frame",
    "frame_raw",
    "gap",
    "av_skew",
    "key_age",
    "lag",
];

fn latencies(load: &Load) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ms", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "max", ""]);
    for (name, l) in ORDER.iter().filter_map(|name| Some((*name, load.latency.get(*name)?))) {
        let ms = |us: u64| format!("{:.2}", us as f64 / 1000.0);
        let note = if name == "frame" { beside(load, l) } else { String::new() };
        table.add_row([
            name.to_owned(),
            l.count.to_string(),
            ms(l.min_us),
            format!("{:.2}", l.mean_us / 1000.0),
            ms(l.p50_us),
            ms(l.p90_us),
            ms(l.p99_us),
            ms(l.p999_us),
            ms(l.max_us),
            note,
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(8) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What stands beside the latency of frames: those that are in it by their age only, or not at all.
fn beside(load: &Load, frame: &Latency) -> String {
    let failed: u64 = load.sessions.failed_by_phase.values().map(|failed| failed.count).sum();
    let censored = frame.censored.filter(|n| *n > 0);
    let censored = censored.map(|n| format!(", {n} of them here with their age at the end"));
    let failed = count(failed, "session");
    format!("{} lost{}, {failed} failed", number(load.frames.lost), censored.unwrap_or_default())
}

fn generator(out: &mut String, load: &Load) {
    let g = &load.generator;
    let percent = |p: Option<f64>| p.map_or("unknown".to_owned(), |p| format!("{p:.0} %"));
    let memory = |b: Option<u64>| {
        b.map_or("unknown memory".to_owned(), |b| format!("{:.1} MiB", b as f64 / 1_048_576.0))
    };
    let lag = g.lag_p99_us.map_or("unknown".to_owned(), |us| format!("{:.2} ms", us as f64 / 1000.0));
    let _ = writeln!(
        out,
        "\nourselves {} of a core, {}, the machine {} busy, own lateness p99 {lag}",
        percent(g.cpu_pct),
        memory(load.intervals.iter().filter_map(|row| row.rss_bytes).max()),
        percent(g.machine_pct)
    );
    if let Some(w) = &load.watched {
        let rss = memory(w.rss_bytes);
        let _ = writeln!(out, "watched   process {}: {} of a core, {rss}", w.pid, percent(w.cpu_pct));
    }
    if g.limited {
        let _ = writeln!(out, "generator-limited: {}", g.reasons.join("; "));
    }
}

/// A promise, in a run that cut off so many late sessions.
fn promise(out: &mut String, slo: &Slo, late: u64) {
    let mut value = measured(slo.value, &slo.unit);
    if late > 0 && slo.expr.starts_with("failed") {
        let _ = write!(value, " ({late} of them unfinished, for 2 s or longer)");
    }
    let _ = match slo {
        Slo { held: None, .. } => {
            writeln!(out, "no data   {}: nothing in this run could be measured for it", slo.expr)
        }
        Slo { limited: true, .. } => {
            writeln!(out, "no answer {}: {value}, but we were the limit (see generator-limited)", slo.expr)
        }
        Slo { held: Some(true), .. } => writeln!(out, "held      {}: {value}", slo.expr),
        Slo { .. } => writeln!(out, "MISSED    {}: {value}", slo.expr),
    };
}

fn measured(value: Option<f64>, unit: &str) -> String {
    match (value, unit) {
        (None, _) => "no data".to_owned(),
        (Some(us), "us") => format!("{:.2} ms", us / 1000.0),
        (Some(n), "percent") => format!("{n:.3} %"),
        (Some(n), _) => format!("{n}"),
    }
}

fn search(out: &mut String, find: &Find) {
    let _ = writeln!(out, "\nsearched the most {} with {}:", find.of, find.slo);
    for step in &find.steps {
        let value = measured(step.value, &find.unit);
        let missed = || step.missed.join(", ");
        let what = match (step.held, step.limited) {
            (true, false) => "held".to_owned(),
            (true, true) => "held, but we were the limit".to_owned(),
            (false, true) if step.missed.is_empty() => "no answer: we were the limit".to_owned(),
            (false, true) => format!("missed {}, but we were the limit", missed()),
            (false, false) => format!("MISSED {}", missed()),
        };
        let _ = writeln!(out, "{:>9} {what} ({value})", step.sessions);
    }
    let one = find.of.trim_end_matches('s');
    let most = find.most.map_or(format!("none of the {}", find.of), |most| count(most.into(), one));
    let why = match find.bound.as_deref() {
        Some("target") if find.most.is_none() => "the target does not keep it".to_owned(),
        Some("generator") if find.most.is_none() => our_limit(find),
        Some("target") => "with more the target does not keep it".to_owned(),
        Some("generator") => format!("at least: with more {}", our_limit(find)),
        Some(_) => "no more were allowed".to_owned(),
        None => "the search was not finished".to_owned(),
    };
    let _ = writeln!(out, "most      {most} ({why})");
}

/// What is known of the fewest sessions beyond the most, where we were the limit: nothing of the target, whatever was missed.
fn our_limit(find: &Find) -> String {
    let beyond = find.steps.iter().rev().filter(|step| !step.held && Some(step.sessions) > find.most);
    let missed = beyond.min_by_key(|step| step.sessions).map_or(&[][..], |step| &step.missed);
    match missed {
        [] => "we were the limit; what the target bears is not known".to_owned(),
        missed => format!("{} was missed, but we were a limit too: by whom is not known", missed.join(", ")),
    }
}

/// One second in a line, while the run goes on: rates and latencies of the second, losses and failures until then.
pub fn second(row: &Interval, lost: u64, failed: u64) -> String {
    let rate = |bytes: u64| bits(bytes as f64 * 8.0);
    // What must not be cut off stands first.
    let mut out = format!("{} s", row.start_ms / 1000 + 1);
    if let Some(why) = &row.limited_why {
        let _ = write!(out, " (generator-limited: {why})");
    }
    let _ = write!(out, ": {} up, {lost} lost, {failed} failed", row.sessions_up);
    if let Some(frame) = row.latency.get("frame") {
        let ms = |us: u64| us as f64 / 1000.0;
        let _ = write!(out, ", frame p50 {:.1} p99 {:.1} ms", ms(frame.p50_us), ms(frame.p99_us));
    }
    // The frames that a stalled server holds back are in no latency yet.
    if let Some(us) = row.oldest_outstanding_us.filter(|us| *us >= 1_000_000) {
        let _ = write!(out, ", the oldest outstanding frame is {:.1} s late", us as f64 / 1e6);
    }
    let _ = write!(out, ", {} out, {} in", rate(row.bytes_sent), rate(row.bytes_received));
    out
}

/// The seconds as lines of comma-separated values.
pub fn csv(record: &Record) -> String {
    lines(record.load.as_ref().map_or(&[], |load| &load.intervals))
}

fn lines(rows: &[Interval]) -> String {
    let mut out =
        "start_ms,sessions_up,attempted,failed,frames_sent,frames_received,frames_missing,bytes_sent,\
                   bytes_received,oldest_outstanding_us,full_sweeps,cpu_pct,machine_pct,rss_bytes,watched_cpu_pct,watched_rss_bytes,limited,limited_why"
            .to_owned();
    for name in ORDER {
        let _ = write!(out, ",{name}_p50_us,{name}_p99_us,{name}_max_us");
    }
    out.push('\n');
    rows.iter().for_each(|row| line(&mut out, row));
    out
}

fn line(out: &mut String, row: &Interval) {
    let percent = |p: Option<f64>| p.map(|p| format!("{p:.1}")).unwrap_or_default();
    let Interval { start_ms, sessions_up, attempted, failed, sent, received, missing, .. } = row;
    let Interval { bytes_sent, bytes_received, full_sweeps, .. } = row;
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let oldest = number(row.oldest_outstanding_us);
    let _ = write!(
        out,
        "{start_ms},{sessions_up},{attempted},{failed},{sent},{received},{missing},{bytes_sent},{bytes_received},{oldest},{full_sweeps},{},{},{},{},{},{},{}",
        percent(row.cpu_pct),
        percent(row.machine_pct),
        number(row.rss_bytes),
        percent(row.watched_cpu_pct),
        number(row.watched_rss_bytes),
        row.limited,
        row.limited_why.as_deref().unwrap_or_default()
    );
    for name in ORDER {
        match row.latency.get(*name) {
            Some(l) => {
                let _ = write!(out, ",{},{},{}", l.p50_us, l.p99_us, l.max_us);
            }
            None => out.push_str(",,,"),
        }
    }
    out.push('\n');
}

fn bits(per_second: f64) -> String {
    match per_second {
        n if n >= 1e9 => format!("{:.2} Gbit/s", n / 1e9),
        n if n >= 1e6 => format!("{:.2} Mbit/s", n / 1e6),
        n => format!("{:.0} kbit/s", n / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::load::{Brief, FindStep, Silent, Unfinished};

    #[test]
    fn a_second_says_what_went_wrong_beside_what_went_well() {
        let mut row = Interval { start_ms: 9000, sessions_up: 12, ..Interval::default() };
        (row.bytes_sent, row.bytes_received) = (125_000, 1_250_000);
        assert_eq!(second(&row, 3, 1), "10 s: 12 up, 3 lost, 1 failed, 1.00 Mbit/s out, 10.00 Mbit/s in");
        row.latency.insert("frame".into(), Brief { p50_us: 1500, p99_us: 42_000, max_us: 50_000 });
        (row.limited_why, row.oldest_outstanding_us) = (Some("a and b".into()), Some(2_340_000));
        let want = "10 s (generator-limited: a and b): 12 up, 0 lost, 0 failed, frame p50 1.5 p99 42.0 ms, \
                    the oldest outstanding frame is 2.3 s late, 1.00 Mbit/s out, 10.00 Mbit/s in";
        assert_eq!(second(&row, 0, 0), want);
    }

    #[test]
    fn the_plan_says_nothing_of_who_is_not_there() {
        let text = |publishers, players| {
            let mut load = Load::default();
            (load.plan.publishers, load.plan.players, load.plan.shards) = (publishers, players, 1);
            (load.plan.churn_per_s, load.plan.tick_ms) = (Some(2.0), Some(20));
            let mut out = String::new();
            plan(&mut out, &load);
            out
        };
        let publishing = text(2, 0);
        assert!(
            publishing.contains("0 players; 1 event loop\n") && !publishing.contains("sweep"),
            "{publishing}"
        );
        assert!(publishing.contains("2 publishers a second leave"), "{publishing}");
        let playing = text(0, 1);
        assert!(
            playing.starts_with("plan      0 publishers, 1 player; players sweep every 20 ms"),
            "{playing}"
        );
        assert!(playing.contains("2 players a second leave"), "{playing}");
    }

    #[test]
    fn what_a_second_holds_is_a_column() {
        let row = Interval {
            missing: 7,
            oldest_outstanding_us: Some(8),
            cpu_pct: Some(9.0),
            machine_pct: Some(10.0),
            ..Interval::default()
        };
        let fields = serde_json::to_value(&row).expect("JSON");
        let text = lines(&[row]);
        let [head, line] = [0, 1].map(|i| text.lines().nth(i).expect("a line").split(','));
        let columns: BTreeMap<_, _> = head.zip(line).collect();
        for (name, value) in fields.as_object().expect("fields").iter().filter(|(name, _)| *name != "latency")
        {
            let column = columns.get(&**name).or(columns.get(&*format!("frames_{name}")));
            let column = column.unwrap_or_else(|| panic!("{name} is in none of {:?}", columns.keys()));
            assert_eq!(*column, value.to_string(), "{name}");
        }
    }

    #[test]
    fn a_search_says_whose_limit_it_found() {
        let step = |sessions, held, limited, missed: &[&str]| FindStep {
            sessions,
            held,
            limited,
            value: Some(1500.0),
            missed: missed.iter().map(|s| (*s).to_owned()).collect(),
        };
        let steps = vec![
            step(8, true, false, &[]),
            step(16, false, false, &["lost = 0"]),
            step(12, true, true, &[]),
            step(10, false, true, &["lost = 0"]),
            step(9, false, true, &[]),
        ];
        let text = |most, bound: Option<&str>| {
            let (slo, unit, of) = ("frame.p99 < 1s".into(), "us".into(), "players".into());
            let mut out = String::new();
            search(
                &mut out,
                &Find { slo, unit, of, steps: steps.clone(), most, bound: bound.map(Into::into) },
            );
            out
        };
        let said = text(Some(8), Some("generator"));
        for line in [
            "        8 held (1.50 ms)",
            "       16 MISSED lost = 0 (1.50 ms)",
            "       12 held, but we were the limit (1.50 ms)",
            "       10 missed lost = 0, but we were the limit (1.50 ms)",
            "        9 no answer: we were the limit (1.50 ms)",
            "most      8 players (at least: with more we were the limit; what the target bears is not known)",
        ] {
            assert!(said.lines().any(|l| l == line), "{said}");
        }
        let none = text(None, Some("generator"));
        assert!(none.ends_with("(we were the limit; what the target bears is not known)\n"), "{none}");
        let missed = text(Some(9), Some("generator"));
        let why = "at least: with more lost = 0 was missed, but we were a limit too: by whom is not known";
        assert!(missed.ends_with(&format!("9 players ({why})\n")), "{missed}");
        assert!(text(None, Some("target")).ends_with("none of the players (the target does not keep it)\n"));
        assert!(text(Some(8), None).contains("8 players (the search was not finished)"));
    }

    #[test]
    fn sessions_that_never_began_are_said() {
        let text = |attempted| {
            let mut load = Load::default();
            (load.sessions.planned, load.sessions.attempted) = (25, attempted);
            let mut out = String::new();
            sessions(&mut out, &load);
            out
        };
        assert!(text(17).contains("8 never begun") && !text(25).contains("never begun"));
    }

    #[test]
    fn a_limit_of_ours_is_said_with_the_reasons() {
        let text = |reasons: &[&str]| {
            let mut load = Load::default();
            load.generator.limited = !reasons.is_empty();
            load.generator.reasons = reasons.iter().map(|s| (*s).to_owned()).collect();
            let mut out = String::new();
            generator(&mut out, &load);
            out
        };
        let said = text(&["a", "in 1 of 3 seconds: b"]);
        assert!(said.ends_with("\ngenerator-limited: a; in 1 of 3 seconds: b\n"), "{said}");
        assert!(!text(&[]).contains("limited"));
    }

    #[test]
    fn who_was_cut_off_or_got_nothing_more_is_said() {
        let (mut load, mut text) = (Load::default(), String::new());
        let [one, two] = [(1, 0, 40), (9, 7, 6210)];
        for (phase, (count, late, longest_ms)) in [("connect", one), ("handshake", two)] {
            let of = Unfinished { count, late, longest_ms };
            load.sessions.unfinished_by_phase.insert(phase.into(), of);
        }
        for (word, count, longest_ms) in [("nothing", 3, 58_200), ("Stream EOF", 1, 500)] {
            load.sessions.silent_by_status.insert(word.into(), Silent { count, longest_ms });
        }
        sessions(&mut text, &load);
        promise(
            &mut text,
            &Slo { held: Some(false), expr: "failed = 0".into(), value: Some(8.0), ..Slo::default() },
            7,
        );
        for line in [
            "          1 unfinished: in connect when the run was over, 0.04 s at most",
            "          9 unfinished: in handshake when the run was over, 6.21 s at most, 7 of them for 2 s or longer",
            "          3 of those kept got nothing more for up to 58.20 s before their end; that their stream is over was not said",
            "          1 of those kept got nothing more for up to 0.50 s before their end; the target said Stream EOF",
            "MISSED    failed = 0: 8 (7 of them unfinished, for 2 s or longer)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }

    #[test]
    fn frames_that_count_for_nothing_else_are_said() {
        let text = |strayed, unplaced| {
            let (mut load, mut out) = (Load::default(), String::new());
            (load.frames.corrupt, load.frames.strayed, load.frames.unplaced) = (Some(12), strayed, unplaced);
            frames(&mut out, &load, 1000);
            out
        };
        let said = text(9, 12);
        for line in [
            "          9 of the corrupt are frames of another stream of ours",
            "          3 of those received stand for no frame that can be told",
        ] {
            assert!(said.lines().any(|l| l == line), "{line}: {said}");
        }
        assert!(!text(0, 0).contains(" of the"), "{}", text(0, 0));
    }

    #[test]
    fn a_promise_is_kept_or_missed_or_there_is_no_answer() {
        let text = |held: Option<bool>, limited| {
            let (expr, unit, unmeasurable) = ("frame.p99 < 1s".into(), "us".into(), held.is_none());
            let mut out = String::new();
            promise(&mut out, &Slo { expr, held, value: Some(1500.0), unit, unmeasurable, limited }, 2);
            out
        };
        assert_eq!(text(Some(true), false), "held      frame.p99 < 1s: 1.50 ms\n");
        assert_eq!(text(Some(false), false), "MISSED    frame.p99 < 1s: 1.50 ms\n");
        assert!(text(None, false).starts_with("no data   frame.p99 < 1s: nothing"));
        assert!(text(Some(false), true).starts_with("no answer frame.p99 < 1s: 1.50 ms, but we were"));
    }

    #[test]
    fn losses_and_failures_stand_beside_the_frames() {
        let mut load = Load::default();
        load.frames.lost = Some(5);
        let frame = Latency { count: 9, censored: Some(4), p99_us: 7_500_000, ..Latency::default() };
        load.latency = [("frame".to_owned(), frame.clone()), ("frame_raw".to_owned(), frame)].into();
        let table = latencies(&load).to_string();
        let line =
            |name: &str| table.lines().find(|l| l.trim_start().starts_with(name)).expect("a line").to_owned();
        assert!(line("frame ").contains("7500.00"), "{table}");
        assert!(
            line("frame ").contains("5 lost, 4 of them here with their age at the end, 0 sessions failed"),
            "{table}"
        );
        assert!(
            table
                .lines()
                .skip_while(|l| !l.contains(" lost"))
                .nth(1)
                .is_some_and(|l| l.contains("frame_raw"))
        );
    }
}
