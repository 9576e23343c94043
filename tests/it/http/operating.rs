//! Operators' actions on the pages of a master: logins, rights, and what they do to slaves.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::{HttpAnswer, HttpTestClient};
use crate::accounts::{add, password, user};
use crate::cluster::helpers::report;
use crate::ftp::ftp_address;
use crate::harness::{Cluster, SOON, eventually};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
/// Makes a request one of a client on another host.
pub const FAR: &str = "X-Forwarded-For: 192.0.2.7";

/// A cluster with the accounts `admin` (admin) and `ann` (write), and the master's HTTP address.
pub fn with_accounts() -> (Cluster, SocketAddr) {
    let cluster = Cluster::of(2)
        .master_args(&["--http", "127.0.0.1:0"])
        .slave_args(&["--http", "127.0.0.1:0", "--workers", "2"])
        .start();
    let http = ftp_address(&cluster.master, "http");
    let state = cluster.dir.folder("master");
    add(&cluster.dir, &state, "admin", "admin", "/");
    add(&cluster.dir, &state, "ann", "write", "/");
    eventually(SOON, "the accounts are known", || {
        (get(http, "/-/status", &[FAR]).status == 401).then_some(())
    });
    (cluster, http)
}

pub fn get(addr: SocketAddr, target: &str, fields: &[&str]) -> HttpAnswer {
    HttpTestClient::connect(addr).request(&format!("GET {target}"), fields, &[])
}

pub fn post(addr: SocketAddr, target: &str, fields: &[&str], form: &str) -> HttpAnswer {
    let fields = [&[FORM], fields].concat();
    HttpTestClient::connect(addr).request(&format!("POST {target}"), &fields, form.as_bytes())
}

/// Logs in by the form of a server; returns the field with the cookie, and the token.
#[track_caller]
pub fn log_in(addr: SocketAddr, name: &str) -> (String, String) {
    let form = format!("user={name}&password={}", password(name).replace(' ', "+"));
    let answer = post(addr, "/-/login", &[], &form);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    (format!("Cookie: {cookie}"), answer.header("x-csrf-token").unwrap().to_owned())
}

#[test]
fn an_admin_drains_a_slave_by_the_page() {
    let (cluster, http) = with_accounts();
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    let (cookie, token) = log_in(http, "admin");
    let form = |token: &str| format!("slave={id}&confirm=yes&csrf={token}");
    let (reader, reader_token) = log_in(http, "ann");
    for (fields, token, status) in [
        (vec![&*reader], &*reader_token, 403),
        (vec![&*cookie], &*reader_token, 403),
        (vec![&*cookie, "Origin: http://evil.example"], &*token, 403),
        (vec![&*cookie, "Sec-Fetch-Site: cross-site"], &*token, 403),
        (vec![], &*token, 403),
    ] {
        let answer = post(http, "/-/status/drain", &fields, &form(token));
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text());
    }
    let mut rebound = HttpTestClient::connect(http);
    let body = form(&token);
    let head =
        format!("Host: evil.example\r\n{cookie}\r\n{FORM}\r\nContent-Length: {}", body.len());
    rebound.send(format!("POST /-/status/drain HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes());
    assert_eq!(rebound.answer(false).status, 421);
    assert_eq!(report(&cluster, 0)["state"], "in-service", "nothing has happened");

    let done = post(http, "/-/status/drain", &[&cookie], &form(&token));
    assert_eq!(done.status, 303, "{}", done.text());
    eventually(SOON, "status shows the drained slave", || {
        (report(&cluster, 0)["state"] == "draining").then_some(())
    });
    let line = format!("http: user admin drained slave {id} from 127.0.0.1");
    assert!(cluster.master.stderr.text().contains(&line), "{}", cluster.master.stderr.text());
    let page = get(http, "/-/status", &[&cookie, "Accept: text/html"]).text();
    assert!(page.contains(&line), "it is an event: {page}");
    let target = done.header("location").unwrap().to_owned();
    eventually(SOON, "the action has ended", || {
        get(http, &target, &[&cookie]).text().contains("done: it has no sessions").then_some(())
    });
    let ready = post(http, "/-/status/ready", &[&cookie], &format!("slave={id}&csrf={token}"));
    assert_eq!(ready.status, 303, "{}", ready.text());
    cluster.wait_in_service(2);
}

#[test]
fn contents_and_trees_are_verified_by_the_page() {
    let (cluster, http) = with_accounts();
    let (cookie, token) = log_in(http, "admin");
    for (action, result) in
        [("scrub", "the contents of 2 slaves are good"), ("diff", "2 slaves are the master's")]
    {
        let target = format!("/-/status/{action}");
        let started = post(http, &target, &[&cookie], &format!("csrf={token}"));
        assert_eq!(started.status, 303, "{}", started.text());
        let page = started.header("location").unwrap().to_owned();
        let text = eventually(SOON * 2, "the action has ended", || {
            let text = get(http, &page, &[&cookie]).text();
            (!text.ends_with("running\n")).then_some(text)
        });
        assert!(text.contains("done: ") && text.contains(result), "{text}");
        for slave in &[0, 1] {
            let id = report(&cluster, *slave)["id"].as_str().unwrap().to_owned();
            assert!(text.contains(&format!("slave {id}: ")), "{text}");
        }
    }
}

#[test]
fn a_removed_admin_and_a_log_out_end_the_login() {
    let (mut cluster, http) = with_accounts();
    let slave = ftp_address(&cluster.slaves[0].program, "http");
    let (cookie, token) = log_in(http, "admin");
    let (other, _) = log_in(http, "admin");
    assert_eq!(get(http, "/-/status", &[FAR, &cookie]).status, 200);
    // A cookie of the master is a login on its slaves too.
    assert_eq!(get(slave, "/", &[&cookie]).status, 200);
    assert_eq!(post(http, "/-/logout", &[&cookie], &format!("csrf={token}")).status, 204);
    assert_eq!(get(http, "/-/status", &[FAR, &cookie]).status, 401);
    let drain = post(http, "/-/status/drain", &[&cookie], &format!("confirm=yes&csrf={token}"));
    assert_eq!(drain.status, 403);
    assert_eq!(get(http, "/-/status", &[FAR, &other]).status, 200);
    user(&cluster.dir, &cluster.dir.folder("master"), &["remove", "admin"]).ok();
    eventually(SOON, "the login of the removed user has ended", || {
        (get(http, "/-/status", &[FAR, &other]).status == 401).then_some(())
    });
    eventually(SOON, "the slave refuses it too", || {
        (get(slave, "/", &[&other]).status == 401).then_some(())
    });
    assert_eq!(cluster.master.stop(Signal::SIGTERM), 0);
}
