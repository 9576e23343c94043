//! Log-outs: they end a cookie on all servers of a cluster, and stay after restarts.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::HttpTestClient;
use super::operating::{FAR, get, log_in, post, with_accounts};
use crate::ftp::ftp_address;
use crate::harness::{Cluster, SOON, eventually};

/// The addresses of both slaves and of the master.
fn servers(cluster: &Cluster) -> [SocketAddr; 3] {
    let slave = |n: usize| ftp_address(&cluster.slaves[n].program, "http");
    [slave(0), slave(1), ftp_address(&cluster.master, "http")]
}

/// The status of each server's answer to a request with a cookie.
fn statuses(servers: [SocketAddr; 3], cookie: &str) -> [u16; 3] {
    let [first, second, master] = servers;
    let slave = |addr| get(addr, "/", &[cookie]).status;
    [slave(first), slave(second), get(master, "/-/status", &[FAR, cookie]).status]
}

#[track_caller]
fn refused_everywhere(servers: [SocketAddr; 3], cookie: &str) {
    eventually(SOON, "the cookie is refused everywhere", || {
        (statuses(servers, cookie) == [401; 3]).then_some(())
    });
}

fn log_out(addr: SocketAddr, (cookie, token): &(String, String)) {
    let answer = post(addr, "/-/logout", &[cookie], &format!("csrf={token}"));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[test]
fn a_log_out_holds_on_all_servers() {
    let (mut cluster, _) = with_accounts();
    let addrs = servers(&cluster);
    let [first, second, master] = addrs;
    let [one, two, kept, away] = [(); 4].map(|()| log_in(first, "admin"));
    assert_eq!(statuses(addrs, &one.0), [200; 3]);
    // Connections that know the login.
    let mut client = HttpTestClient::connect(first);
    assert_eq!(client.request("GET /", &[&one.0], &[]).status, 200);
    log_out(second, &one);
    refused_everywhere(addrs, &one.0);
    assert_eq!(client.request("GET /", &[&one.0], &[]).status, 401);
    log_out(master, &two);
    refused_everywhere(addrs, &two.0);
    // A slave that is away learns of it later.
    assert_eq!(cluster.slaves[0].program.stop(Signal::SIGTERM), 0);
    log_out(second, &away);
    eventually(SOON, "the master knows", || {
        (get(master, "/-/status", &[FAR, &away.0]).status == 401).then_some(())
    });
    cluster.restart_slave(0);
    let addrs = servers(&cluster);
    for ended in [&one, &two, &away] {
        refused_everywhere(addrs, &ended.0);
    }
    eventually(SOON, "another login of the same user goes on", || {
        (statuses(addrs, &kept.0) == [200; 3]).then_some(())
    });
    assert_eq!(cluster.master.stop(Signal::SIGTERM), 0);
    log_out(second, &kept);
    cluster.restart_master();
    refused_everywhere(servers(&cluster), &kept.0);
}
