//! The status page of a master: complete without a script, live with one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::driver::Browser;
use crate::harness::{Cluster, SOON, content, eventually};
use crate::site::ready;

/// Longest time after which the page tells that a slave was killed.
const NOTICED: Duration = Duration::from_secs(5);

/// A cluster whose master and slaves serve HTTP, and a browser.
struct StatusSite {
    cluster: Cluster,
    browser: Browser,
    http: SocketAddr,
}

impl StatusSite {
    #[track_caller]
    fn start(files: &[(&str, &[u8])]) -> Self {
        let mut builder = Cluster::of(2)
            .master_args(&["--http", "127.0.0.1:0"])
            .slave_args(&["--http", "127.0.0.1:0"]);
        for (name, bytes) in files {
            builder = builder.file(name, bytes);
        }
        let cluster = builder.start();
        cluster.wait_in_service(2);
        cluster.wait_hashed();
        let http = ready(&cluster.master, "http");
        Self { cluster, browser: Browser::start(), http }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    #[track_caller]
    fn open(&self) {
        self.browser.open(&self.url("/-/status"));
        self.browser.wait_for_text("Recent events");
    }

    /// Stores a picture for the documents, if they are wanted, with curves of some minutes.
    #[track_caller]
    fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("RELAIS_SCREENSHOTS") {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(150) {
                for _ in 0..begun.elapsed().as_secs() % 7 {
                    self.cluster.client().run(&["-c", "get large.bin"]).ok();
                }
                std::thread::sleep(Duration::from_secs(3));
            }
            self.browser.screenshot(&PathBuf::from(folder).join(name));
        }
    }
}

/// Returns the shown digits of the ids of all slaves.
fn ids(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status_json().unwrap();
    let id = |slave: &Value| slave["id"].as_str().unwrap()[..12].to_owned();
    status["slaves"].as_array().unwrap().iter().map(id).collect()
}

#[test]
fn the_status_is_complete_without_scripts() {
    let site = StatusSite::start(&[("a.txt", b"x")]);
    let browser = &site.browser;
    browser.block_scripts();
    site.open();
    let text = browser.text();
    for id in ids(&site.cluster) {
        assert!(text.contains(&id), "{id}: {text}");
    }
    for part in ["in-service", "removal records: 0 of", "is in service", "ftpslave 0.", "Free disk"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("Live"), "{text}");
    eventually(SOON, "a point of each curve", || {
        browser.reload();
        let drawn = "return [...document.querySelectorAll('svg path')]
            .filter((path) => path.getAttribute('d').startsWith('M')).length";
        (browser.run(drawn) == 4).then_some(())
    });
    let first = &ids(&site.cluster)[0];
    browser.click(&format!("nav a[href*='slave={first}']"));
    let chosen = browser.run("return document.querySelector('nav a[aria-current]').textContent");
    assert_eq!(chosen, first.as_str());
    // On a small screen nothing is cut off: each slave is a card.
    browser.resize(400, 900);
    let overflow =
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.run(overflow), 0);
}

#[test]
fn a_killed_slave_is_shown_live() {
    let mut site = StatusSite::start(&[("large.bin", &content(3, 5_000_000))]);
    site.open();
    site.browser.wait_for_text("Live");
    // The page stays the same one.
    site.browser.run("window.stays = true");
    for _ in 0..4 {
        site.cluster.client().run(&["-c", "get large.bin"]).ok();
    }
    let killed = Instant::now();
    site.cluster.slaves[1].program.signal_group(Signal::SIGKILL);
    let is_shown = || {
        let states = "return [...document.querySelectorAll('tbody')].map((slave) => \
                      slave.dataset.state).sort().join()";
        let is_down = site.browser.run(states) == "down,in-service";
        (is_down && site.browser.text().contains("left: it is out of service")).then_some(())
    };
    eventually(SOON, "the killed slave is shown", is_shown);
    assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
    site.cluster.slaves[1].program.kill();
    site.cluster.restart_slave(1);
    site.browser.wait_for_text("came back");
    site.browser.wait_until_gone("catching-up");
    eventually(SOON, "both slaves are in service", || {
        let up = "return document.querySelectorAll('tbody[data-state=in-service]').length";
        (site.browser.run(up) == 2).then_some(())
    });
    assert_eq!(site.browser.run("return window.stays"), true);
    assert_eq!(site.browser.console_errors(), Vec::<String>::new());
    site.browser.resize(1300, 1000);
    site.browser.prefer("light");
    site.picture("status-page.png");
}

#[test]
fn content_of_a_slave_cannot_reach_the_status() {
    let site = StatusSite::start(&[("a.txt", b"x")]);
    let status = site.url("/-/status");
    let attack = format!(
        "<!doctype html><title>harmless</title><p>shown</p><iframe src='{status}'></iframe>\
         <script>document.title = 'attacked'; fetch('{status}')</script>"
    );
    let slave = ready(&site.cluster.slaves[0].program, "http");
    std::fs::write(site.cluster.slaves[0].root.join("evil.html"), attack).unwrap();
    let browser = &site.browser;
    eventually(SOON, "the file is served", || {
        browser.open(&format!("http://{slave}/evil.html"));
        browser.text().contains("shown").then_some(())
    });
    assert_eq!(browser.run("return document.title"), "harmless");
    // Scripts of other sites cannot read the page or its events, frame it, or post its forms.
    browser.open("about:blank");
    let read = browser.run_async(&format!(
        "fetch('{status}', {{ credentials: 'include' }}).then((answer) => answer.text())
            .then((text) => done('read ' + text.length), () => done('refused'))"
    ));
    assert_eq!(read, "refused");
    let events = browser.run_async(&format!(
        "const events = new EventSource('{status}/events');
         events.addEventListener('status', () => done('read'));
         events.onerror = () => {{ events.close(); done('refused'); }};"
    ));
    assert_eq!(events, "refused");
    let framed = browser.run_async(&format!(
        "const frame = document.createElement('iframe');
         frame.onload = () => done(frame.contentDocument === null ? 'refused' : 'loaded');
         frame.src = '{status}'; document.body.append(frame);"
    ));
    assert_eq!(framed, "refused");
}
