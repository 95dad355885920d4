//! What a run of `load` will need of this machine, looked at before anything is sent.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::load::SPARE_DESCRIPTORS;

/// What one of our sessions takes, with its socket in the kernel.
const CLIENT_BYTES: u64 = 16 << 10;
/// What a connection of the embedded server takes.
const SERVER_BYTES: u64 = 64 << 10;
/// What a message takes of a core, in nanoseconds: mostly the system call and the wake-up.
const MESSAGE_NS: u64 = 5000;
/// The same of one that is read in a sweep.
const SWEPT_NS: u64 = 1500;
/// Per cent of what there is above which it may be the limit.
const CLOSE: u64 = 70;

/// What a run needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Publishers and players at a time, at most.
    pub publishers: u64,
    /// Players at a time, at most.
    pub players: u64,
    /// Sessions that make room for others in a minute.
    pub churned_per_min: u64,
    /// Frames a second of one stream.
    pub frames_per_s: u64,
    /// Players read in sweeps.
    pub swept: bool,
    /// The server is our own.
    pub embedded: bool,
    /// Addresses that connections come from.
    pub addresses: u64,
}

/// What there is; `None`: not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    /// Descriptors that may be open.
    pub soft: Option<u64>,
    /// To which the same can be raised.
    pub hard: Option<u64>,
    /// Ports for outgoing connections, of one address to one target.
    pub ports: Option<u64>,
    /// Processors.
    pub cores: u64,
    /// Memory that can be had without swapping.
    pub available_bytes: Option<u64>,
}

/// What is to be done and said before the run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Descriptors to which the limit is to be raised.
    pub raise: Option<u64>,
    /// What may be the limit.
    pub warnings: Vec<String>,
}

impl Machine {
    /// This one, now.
    pub fn look() -> Machine {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).ok();
        Machine {
            soft: limit.map(|(soft, _)| soft),
            hard: limit.map(|(_, hard)| hard),
            ports: ports(),
            cores: std::thread::available_parallelism().map_or(1, usize::from) as u64,
            available_bytes: available(),
        }
    }
}

/// Whether it can be.
///
/// # Errors
/// When it cannot: what is missing and how it can be had.
pub fn check(needs: &Needs, machine: &Machine) -> Result<Cleared, String> {
    let mut cleared = Cleared { raise: descriptors(needs, machine)?, ..Cleared::default() };
    cleared.warnings.extend(local_ports(needs, machine)?);
    cleared.warnings.extend(memory(needs, machine)?);
    cleared.warnings.extend(cores(needs, machine));
    Ok(cleared)
}

/// Whether what the arguments name is there: the process and the addresses.
///
/// # Errors
/// What is not.
pub fn present(pid: Option<u32>, sources: &[IpAddr]) -> Result<(), String> {
    if let Some(pid) = pid.filter(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        return Err(format!("--watch-pid {pid}: no such process"));
    }
    sources.iter().try_for_each(|ip| {
        let bound = UdpSocket::bind((*ip, 0)).map(drop);
        bound.map_err(|e| format!("--source-ip {ip}: expected an address of this machine: {e}"))
    })
}

/// Raises the limit of descriptors.
///
/// # Errors
/// When the kernel does not.
pub fn raise(descriptors: u64) -> Result<(), String> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, descriptors, hard))
        .map_err(|e| format!("the limit of file descriptors cannot be raised to {descriptors}: {e}"))
}

/// What is needed of what there is.
enum Share {
    Little,
    /// So many per cent.
    Close(u64),
    More,
}

fn share(needed: u64, of: u64) -> Share {
    match needed * 100 / of.max(1) {
        _ if needed > of => Share::More,
        percent if percent > CLOSE => Share::Close(percent),
        _ => Share::Little,
    }
}

fn sessions(needs: &Needs) -> u64 {
    needs.publishers + needs.players
}

/// Each session takes a descriptor, and one more where the server is our own.
fn descriptors(needs: &Needs, machine: &Machine) -> Result<Option<u64>, String> {
    let sockets = sessions(needs) * if needs.embedded { 2 } else { 1 };
    let needed = sockets + SPARE_DESCRIPTORS;
    let (Some(soft), Some(hard)) = (machine.soft, machine.hard) else { return Ok(None) };
    match (needed <= soft, needed <= hard) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(needed)),
        (false, false) => Err(format!(
            "{sockets} sockets need {needed} file descriptors and no more than {hard} can be had: raise the hard limit (ulimit -Hn)"
        )),
    }
}

fn local_ports(needs: &Needs, machine: &Machine) -> Result<Option<String>, String> {
    let Some(ports) = machine.ports.map(|ports| ports * needs.addresses.max(1)) else { return Ok(None) };
    let (sessions, churned) = (sessions(needs), needs.churned_per_min);
    let ways = "widen net.ipv4.ip_local_port_range or connect from more addresses";
    Ok(match share(sessions, ports) {
        Share::More => {
            return Err(format!(
                "{sessions} sessions to one target need as many local ports and there are {ports}: {ways}"
            ));
        }
        Share::Close(percent) => Some(format!(
            "{sessions} sessions take {percent} % of the {ports} local ports to one target, those of others not counted: {ways} if connections fail"
        )),
        // tcp(7): the port of a connection that we closed stays taken for a minute.
        Share::Little if sessions + churned > ports => Some(format!(
            "{churned} sessions a minute leave as many local ports in TIME_WAIT and there are {ports}: {ways} if connections fail"
        )),
        Share::Little => None,
    })
}

fn memory(needs: &Needs, machine: &Machine) -> Result<Option<String>, String> {
    let each = CLIENT_BYTES + if needs.embedded { SERVER_BYTES } else { 0 };
    let (needed, mib) = (sessions(needs) * each, |bytes: u64| bytes >> 20);
    let Some(available) = machine.available_bytes else { return Ok(None) };
    let said = || {
        let own = if needs.embedded { " and the embedded server" } else { "" };
        format!("sessions{own} take about {} MiB and {} MiB are available", mib(needed), mib(available))
    };
    Ok(match share(needed, available) {
        Share::More => return Err(format!("{}: fewer sessions, or another machine", said())),
        Share::Close(_) => Some(said()),
        Share::Little => None,
    })
}

fn cores(needs: &Needs, machine: &Machine) -> Option<String> {
    let read = if needs.swept { SWEPT_NS } else { MESSAGE_NS };
    let ours = needs.frames_per_s * (needs.publishers * MESSAGE_NS + needs.players * read);
    // The server reads what is published and writes what is played.
    let all = ours + if needs.embedded { needs.frames_per_s * sessions(needs) * MESSAGE_NS } else { 0 };
    let percent = all / 10_000_000;
    let (cores, server) = (machine.cores, if needs.embedded { ", the server's share included" } else { "" });
    (percent > CLOSE * cores).then(|| {
        format!("about {percent} % of a core is needed{server} and there are {cores} cores: this machine may be the limit")
    })
}

fn ports() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_whitespace().map(|word| word.parse::<u64>().ok());
    let (first, last) = (words.next()??, words.next()??);
    (last + 1).checked_sub(first)
}

fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        soft: Some(1024),
        hard: Some(20_000),
        ports: Some(28_232),
        cores: 2,
        available_bytes: Some(8 << 30),
    };

    fn needs(publishers: u64, players: u64) -> Needs {
        Needs { publishers, players, frames_per_s: 73, addresses: 1, ..Needs::default() }
    }

    #[test]
    fn descriptors_are_raised_where_they_can_be() {
        assert_eq!(check(&needs(1, 10), &MACHINE), Ok(Cleared::default()));
        assert_eq!(check(&needs(0, 960), &MACHINE).unwrap().raise, None);
        assert_eq!(check(&needs(0, 961), &MACHINE).unwrap().raise, Some(1025));
        let embedded = Needs { embedded: true, ..needs(0, 961) };
        assert_eq!(check(&embedded, &MACHINE).unwrap().raise, Some(1986));
        let why = check(&needs(0, 19_937), &MACHINE).unwrap_err();
        assert!(why.contains("20001 file descriptors and no more than 20000 can be had"), "{why}");
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_is_close_is_said() {
        let many = Machine { soft: Some(1 << 20), cores: 1000, available_bytes: Some(64 << 30), ..MACHINE };
        let small = Machine { available_bytes: Some(64 << 20), ..many };
        let embedded = |needs: Needs| Needs { embedded: true, ..needs };
        let table: [(Needs, Machine, Result<&str, &str>); 10] = [
            (
                needs(0, 28_233),
                many,
                Err("28233 sessions to one target need as many local ports and there are 28232"),
            ),
            (needs(0, 28_232), many, Ok("100 % of the 28232 local ports")),
            (Needs { addresses: 2, ..needs(0, 28_233) }, many, Ok("")),
            (Needs { churned_per_min: 30_000, ..needs(0, 100) }, many, Ok("30000 sessions a minute leave")),
            (needs(0, 4097), small, Err("about 64 MiB and 64 MiB are available")),
            (needs(0, 3000), small, Ok("take about 46 MiB and 64 MiB")),
            (embedded(needs(0, 3000)), small, Err("and the embedded server take about 234 MiB")),
            (
                needs(0, 4000),
                Machine { cores: 2, ..many },
                Ok("about 146 % of a core is needed and there are 2 cores"),
            ),
            (Needs { swept: true, ..needs(0, 4000) }, Machine { cores: 2, ..many }, Ok("")),
            (embedded(needs(10, 2000)), Machine { cores: 2, ..many }, Ok("the server's share included")),
        ];
        for (needs, machine, want) in table {
            match (check(&needs, &machine), want) {
                (Ok(cleared), Ok("")) => assert_eq!(cleared.warnings, [""; 0], "{needs:?}"),
                (Ok(cleared), Ok(want)) => {
                    assert!(cleared.warnings.len() == 1 && cleared.warnings[0].contains(want), "{cleared:?}");
                }
                (Err(why), Err(want)) => assert!(why.contains(want), "{why}"),
                (got, _) => panic!("{needs:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::look();
        assert!(machine.soft > Some(0) && machine.hard >= machine.soft && machine.cores > 0, "{machine:?}");
        assert!(machine.ports > Some(0) && machine.available_bytes > Some(0), "{machine:?}");
    }
}
