//! Data of `/proc` about running programs: children, memory and sockets.

use std::fs;
use std::net::SocketAddr;

use nix::unistd::Pid;

/// Returns the fields of `/proc/PID/stat` after the name: state, parent, group, …
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn all_pids() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
}

/// Returns whether the process exists and is no zombie.
pub fn alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

/// Returns whether the process exists, possibly as a zombie.
pub fn exists(pid: Pid) -> bool {
    stat(pid).is_some()
}

/// Lists the running child processes, ordered by id.
pub fn children(parent: Pid) -> Vec<Pid> {
    let mut found: Vec<Pid> = all_pids()
        .filter(|pid| {
            stat(*pid)
                .is_some_and(|f| f[1] == parent.to_string() && !matches!(f[0].as_str(), "Z" | "X"))
        })
        .collect();
    found.sort();
    found
}

/// Returns the anonymous memory of a process in bytes.
pub fn anonymous_memory(pid: Pid) -> u64 {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// Returns the number of bytes that a process has read from files.
#[track_caller]
pub fn read_bytes(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let read = text.lines().find_map(|line| line.strip_prefix("rchar:")?.trim().parse().ok());
    read.unwrap()
}

/// Lists the running processes of a group.
pub fn group_of(group: Pid) -> Vec<Pid> {
    let is_in = |pid: &Pid| {
        stat(*pid).is_some_and(|f| f[2] == group.to_string() && !matches!(f[0].as_str(), "Z" | "X"))
    };
    all_pids().filter(is_in).collect()
}

/// Returns the anonymous memory of a process group in bytes.
pub fn group_memory(group: Pid) -> u64 {
    group_of(group).into_iter().map(anonymous_memory).sum()
}

/// Returns which of `candidates` holds the server's end of a TCP connection.
pub fn socket_owner(server: SocketAddr, client: SocketAddr, candidates: &[Pid]) -> Option<Pid> {
    let (server, client) = (format!(":{:04X}", server.port()), format!(":{:04X}", client.port()));
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&server) && fields.get(2)?.ends_with(&client))
            .then(|| fields.get(9).map(|i| (*i).to_owned()))?
    })?;
    let wanted = format!("socket:[{inode}]");
    candidates.iter().copied().find(|pid| {
        let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
            .any(|link| link.to_str() == Some(wanted.as_str()))
    })
}
