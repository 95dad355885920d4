//! The resident memory of a process and its children, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// Resident memory of `pid` and everything it started, in bytes; `None` when it cannot be read.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let own = rss(pid)?;
    let parents = parents();
    let mut family = vec![pid];
    let mut total = own;
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        at += 1;
        for (child, _) in
            parents.iter().filter(|(child, of)| **of == parent && !family.contains(child)).collect::<Vec<_>>()
        {
            family.push(*child);
            total += rss(*child).unwrap_or(0);
        }
    }
    Some(total)
}

fn rss(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

/// Each process and its parent.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        // proc(5): the command's name stands in parentheses and may hold anything; state and parent follow the last one.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent))
    };
    pids.filter_map(parent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_seen_and_grows() {
        let before = resident_bytes(std::process::id()).unwrap();
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = resident_bytes(std::process::id()).unwrap();
        assert!(after >= before + (32 << 20), "{before} {after} {}", held.len());
        assert_eq!(resident_bytes(u32::MAX), None);
    }

    #[test]
    fn children_count() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of_ours = parents().get(&child.id()).copied();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_ours, Some(std::process::id()));
    }
}
