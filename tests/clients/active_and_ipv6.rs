//! Active mode and IPv6, by curl and lftp.

use std::fs;

use crate::harness::content;
use crate::site::{Login, Site, Tls, assert_same, file, ready, succeed, words};

#[test]
fn active_mode_by_port_and_eprt() {
    let site = Site::start(Login::Account);
    for options in [&["-P", "-"][..], &["-P", "-", "--disable-eprt"]] {
        crate::curl::curl(&site, Tls::Clear, &[options, &["-o", "got"]].concat(), "large.bin");
        assert_same(&fs::read(site.local("got")).unwrap(), &file("large.bin"), "active");
        site.write_local("sent", b"sent in active mode");
        crate::curl::curl(&site, Tls::Clear, &[options, &["-T", "sent"]].concat(), "sent");
        assert_eq!(site.served("sent"), b"sent in active mode");
    }
}

#[test]
fn active_mode_by_tls() {
    let site = Site::start(Login::Account);
    let sent = content(95, 300_000);
    site.write_local("sent", &sent);
    for tls in [Tls::Clear, Tls::Explicit, Tls::Implicit] {
        let script = format!("set ftp:passive-mode off; get large.bin -o got-{tls:?}; put sent");
        crate::lftp::lftp(&site, tls, &script);
        let got = fs::read(site.local(&format!("got-{tls:?}"))).unwrap();
        assert_same(&got, &file("large.bin"), "active");
        assert_same(&site.served("sent"), &sent, "active");
    }
}

#[test]
fn ipv6_passive_and_active() {
    let site = Site::start_as(
        Login::Anonymous,
        &["--listen", "::1", "--ftp", "[::1]:0", "--ftps", "[::1]:0"],
    );
    let addr = ready(&site.slave.program, "ftp");
    assert!(addr.is_ipv6());
    let url = format!("ftp://{addr}/large.bin");
    for options in [&["-o", "got"][..], &["-P", "-", "-o", "got"]] {
        let args = [&["-sS", "-g"], options, &[&url]].concat();
        let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
        succeed("curl", &args, site.local.path());
        assert_same(&fs::read(site.local("got")).unwrap(), &file("large.bin"), "IPv6");
    }
    let script = format!("open ftp://{addr}; get large.bin -o lftp");
    succeed("lftp", &words(["--norc", "-c", &script]), site.local.path());
    assert_same(&fs::read(site.local("lftp")).unwrap(), &file("large.bin"), "lftp by IPv6");
}
