//! What `rtmp-bench load` costs beside the cheapest programs that do the same, and whether its numbers are true.
//!
//! `cargo run --release --manifest-path benches/load/Cargo.toml -- run` prints the table of all rows.

mod floor;
mod lab;
mod rows;
mod stub;
mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use lab::Lab;
use rows::{Judged, ROWS, Round, Row};

#[derive(Debug, Parser)]
enum Args {
    /// A server that costs next to nothing.
    Stub(stub::StubArgs),
    /// Players and publishers that cost as little as can be.
    Floor(floor::FloorArgs),
    /// Measure and print the table.
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Rows by name; none: all.
    rows: Vec<String>,
    /// Fewer sessions, one short round: shows that it works, measures little.
    #[arg(long)]
    quick: bool,
    /// Rounds of a row that are not void, of at most twice as many; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sessions, in place of each row's own number.
    #[arg(long)]
    n: Option<u64>,
    #[arg(long, default_value = "target/release/rtmp-bench")]
    tool: PathBuf,
    #[arg(long, default_value = "0")]
    server_core: String,
    #[arg(long, default_value = "1")]
    generator_core: String,
}

fn main() -> io::Result<()> {
    match Args::parse() {
        Args::Stub(args) => stub::run(args),
        Args::Floor(args) => floor::run(args),
        Args::Run(args) => run(args),
    }
}

fn run(args: RunArgs) -> io::Result<()> {
    let unknown = args.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name));
    if let Some(name) = unknown {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(io::Error::other(format!("no row '{name}'; there are {}", names.join(", "))));
    }
    let lab = Lab {
        tool: args.tool.canonicalize()?,
        me: std::env::current_exe()?,
        server_core: args.server_core,
        generator_core: args.generator_core,
        window: Duration::from_secs(if args.quick { 2 } else { 6 }),
    };
    println!("| row | | N | ours | held against | | must | goal | |\n|---|---|---|---|---|---|---|---|---|");
    let wanted =
        ROWS.iter().filter(|row| args.rows.is_empty() || args.rows.iter().any(|name| name == row.name));
    for row in wanted {
        let n = args.n.unwrap_or(if args.quick { row.n.1 } else { row.n.0 });
        match rounds(&lab, row, n, if args.quick { 1 } else { args.rounds }) {
            Ok(rounds) => print(row, n, &rounds),
            Err(e) => println!("| {} | {} | {n} | {e} | | | | | error |", row.name, row.what),
        }
    }
    Ok(())
}

fn rounds(lab: &Lab, row: &Row, n: u64, wanted: usize) -> io::Result<Vec<Round>> {
    let mut rounds: Vec<Round> = Vec::new();
    while rounds.len() < 2 * wanted && rounds.iter().filter(|round| round.void.is_none()).count() < wanted {
        rounds.push((row.round)(lab, n)?);
    }
    Ok(rounds)
}

fn print(row: &Row, n: u64, rounds: &[Round]) {
    let good: Vec<&Round> = rounds.iter().filter(|round| round.void.is_none()).collect();
    for round in rounds {
        let Round { ours, against, void, remark } = round;
        let void = void.as_ref().map_or(String::new(), |why| format!("; void: {why}"));
        eprintln!("{}: {ours:.3} {against:.3} {} {remark}{void}", row.name, row.unit);
    }
    let median = |value: fn(&Round) -> f64| {
        let mut values: Vec<f64> = good.iter().map(|round| value(round)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (ours, against) = (median(|round| round.ours), median(|round| round.against));
    let (judged, unit) = match row.judged {
        Judged::Ratio => (ours / against, "x".to_owned()),
        Judged::Ours => (ours, format!(" {}", row.unit)),
        Judged::Difference => ((ours - against).abs(), format!(" {}", row.unit)),
        Judged::PerCent => ((ours / against - 1.0).abs() * 100.0, " %".to_owned()),
    };
    let verdict = match judged {
        _ if good.is_empty() => "void",
        j if j <= row.goal => "goal",
        j if j <= row.must => "must",
        _ => "missed",
    };
    let unit = &unit;
    let show = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.3} {}", row.unit) };
    println!(
        "| {} | {} | {n} | {} | {} | {judged:.3}{unit} | {}{unit} | {}{unit} | {verdict}, {} of {} rounds |",
        row.name,
        row.what,
        show(ours),
        show(against),
        row.must,
        row.goal,
        good.len(),
        rounds.len()
    );
}
