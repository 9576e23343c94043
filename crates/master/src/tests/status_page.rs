//! The status page of a master, with slaves that only link.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use relais_auth::Rights;

use super::http::{ask, get, with_http};
use super::logins::{add, file, reload};
use super::*;

/// A slave that beats until it is dropped.
struct Reporting {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reporting {
    /// Registers a slave that reports what `metrics` returns for its heartbeats, and an error.
    fn start(
        master: &Running,
        n: u8,
        metrics: impl Fn(u64) -> Metrics + Send + 'static,
        last_error: &str,
    ) -> Self {
        let mut link = try_slave(master, n, with_http(n)).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (is_over, last_error) = (Arc::clone(&ended), last_error.to_owned());
        let thread = std::thread::spawn(move || {
            let LinkMessage::Heartbeat(usual) = heartbeat() else { unreachable!() };
            for beat in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let metrics = metrics(beat).with(metric::WORKERS, 1);
                let last_error = last_error.clone();
                let message = Heartbeat { metrics, last_error, ..usual.clone() };
                link.queue_link(&LinkMessage::Heartbeat(message));
                link.flush().unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads the page until it has a text.
fn page_with(master: &Running, part: &str) -> String {
    let begun = Instant::now();
    loop {
        let page = get(master, "/-/status").body;
        if page.contains(part) {
            return page;
        }
        assert!(begun.elapsed() < PATIENCE, "no {part} in {page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An open event stream.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(master: &Running, target: &str) -> Self {
        Self::open_with(master, target, "")
    }

    fn open_with(master: &Running, target: &str, fields: &str) -> Self {
        let mut stream = TcpStream::connect(master.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = master.http;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").unwrap();
        let mut events = Self(BufReader::new(stream));
        let head: Vec<String> =
            std::iter::from_fn(|| Some(events.line()).filter(|line| !line.is_empty())).collect();
        assert_eq!(head[0], "HTTP/1.1 200 OK");
        assert!(head.contains(&"Content-Type: text/event-stream".to_owned()), "{head:?}");
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Returns the next message with its event.
    fn next(&mut self) -> (String, serde_json::Value) {
        let mut event = String::new();
        loop {
            let line = self.line();
            match line.split_once(": ") {
                Some(("event", name)) => event = name.to_owned(),
                Some(("data", data)) => return (event, serde_json::from_str(data).unwrap()),
                _ => {}
            }
        }
    }
}

#[test]
fn hostile_values_of_a_slave_are_inert() {
    let master = Running::start();
    let hostile = "</span><script>alert(1)</script>\u{202e}\"'";
    let _slave =
        Reporting::start(&master, 1, |_| Metrics::default().with("relais_new", 7), hostile);
    let page = page_with(&master, "last error");
    assert!(
        page.contains("&lt;/span&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}&quot;&#39;")
    );
    assert!(!page.contains("<script>alert") && !page.contains('\u{202e}'), "{page}");
    // An unknown metric is shown as it is.
    assert!(page.contains("relais_new: 7"), "{page}");
    let answer = get(&master, "/-/status");
    let policy = answer.field("Content-Security-Policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let asset = ask(&master, "GET", "/-/assets/status.js", "");
    assert_eq!((asset.status(), asset.field("X-Content-Type-Options")), (200, "nosniff"));
}

#[test]
fn the_page_has_the_texts_that_its_stream_sends() {
    let master = Running::start();
    let metrics = Metrics::default()
        .with(metric::SESSIONS, 3)
        .with(metric::SESSIONS_HTTP, 2)
        .with(metric::SESSIONS_NATIVE, 1)
        .with(metric::UNAPPLIED, 4)
        .with(metric::DISK_FREE, 1 << 30)
        .with(metric::DISK_SIZE, 1 << 31);
    let _slave = Reporting::start(&master, 1, move |_| metrics.clone(), "");
    let page = page_with(&master, "native 1, http 2");
    for part in [">in-service</span>", "1.0 GiB", "of 2.0 GiB", "disk refuses it: 4 paths"] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    let (event, message) = Events::open(&master, "/-/status/events").next();
    assert_eq!(event, "status");
    let texts = message["texts"].as_object().unwrap();
    assert_eq!(page.matches("data-live=").count(), texts.len());
    for name in texts.keys() {
        assert!(page.contains(&format!("data-live=\"{name}\"")), "no {name} in {page}");
    }
    assert_eq!(
        message["events"].as_array().unwrap().len(),
        page.matches("<li data-level").count() - 1
    );
    assert!(page.contains(&format!("data-layout=\"{}\"", message["layout"].as_str().unwrap())));
}

#[test]
fn a_stream_tells_that_a_slave_has_left() {
    let master = Running::start();
    let slave = Reporting::start(&master, 1, |_| Metrics::default(), "");
    page_with(&master, "is in service");
    let mut events = Events::open(&master, "/-/status/events");
    let (_, first) = events.next();
    drop(slave);
    let begun = Instant::now();
    let layout = loop {
        let (_, message) = events.next();
        let is_left = |event: &serde_json::Value| {
            event["text"].as_str().unwrap().ends_with("left: it is out of service")
        };
        if message["events"].as_array().unwrap().iter().any(is_left) {
            break message["layout"].clone();
        }
    };
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_ne!(layout, first["layout"]);
}

#[test]
fn messages_come_at_most_once_a_second() {
    let master = Running::start();
    let files = |beat| Metrics::default().with(metric::FILES, beat);
    let _slave = Reporting::start(&master, 1, files, "");
    let mut events = Events::open(&master, "/-/status/events");
    events.next();
    let begun = Instant::now();
    let mut messages = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        events.next();
        messages += 1;
    }
    assert!((2..=begun.elapsed().as_secs() + 1).contains(&messages), "{messages}");
}

#[test]
fn only_so_many_streams_are_open() {
    let master = Running::start();
    let streams: Vec<Events> = (0..32).map(|_| Events::open(&master, "/-/status/events")).collect();
    let refused = get(&master, "/-/status/events");
    assert_eq!((refused.status(), refused.field("Retry-After")), (503, "10"));
    assert_eq!(get(&master, "/-/status").status(), 200);
    drop(streams);
    let begun = Instant::now();
    while get_status(&master, "/-/status/events") != 200 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stream_ends_with_the_rights_of_its_login() {
    let master = Running::start();
    add(&master, "admin", Rights::Admin, "");
    // `admin:secret` in Base64, from another host.
    let fields = "Authorization: Basic YWRtaW46c2VjcmV0\r\nX-Forwarded-For: 192.0.2.7\r\n";
    let mut events = Events::open_with(&master, "/-/status/events", fields);
    assert_eq!(events.next().0, "status");
    file(&master).change(|accounts| accounts.remove("admin")).unwrap();
    reload(&master);
    while events.next().0 != "end" {}
    assert_eq!(events.0.read_line(&mut String::new()).unwrap(), 1, "a blank line ends a message");
    assert_eq!(events.0.read_line(&mut String::new()).unwrap(), 0, "the connection ends");
    let page = page_with(&master, "was removed");
    assert!(page.contains("account &quot;admin&quot; was removed"), "{page}");
}

/// Returns the status of an answer whose content does not end.
fn get_status(master: &Running, target: &str) -> u16 {
    let mut stream = TcpStream::connect(master.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", master.http).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_status_has_a_json_form_with_the_fields_of_ftpmaster() {
    let master = Running::start();
    let missing = |_| Metrics::default().with(metric::MISSING, 5);
    let _slave = Reporting::start(&master, 1, missing, "");
    page_with(&master, "not there yet: 5 files");
    let answer = ask(&master, "GET", "/-/status", "Accept: application/json\r\n");
    assert_eq!(answer.field("Content-Type"), "application/json");
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let slave = &json["slaves"][0];
    assert_eq!((&slave["state"], &slave["missing"]), (&"in-service".into(), &5.into()));
    assert_eq!((slave["lag_seconds"].as_u64(), json["removals"].as_u64()), (Some(0), Some(0)));
    assert!(json["master"]["certificate_expiry"].as_u64().is_some_and(|end| end > 1_700_000_000));
    assert!(json["events"].as_array().unwrap().iter().any(|event| event["level"] == "info"));
}

#[test]
fn other_methods_slaves_and_pages_are_refused() {
    let master = Running::start();
    let status = |method, target| ask(&master, method, target, "").status();
    assert_eq!(status("POST", "/-/status/events"), 405);
    assert_eq!(status("HEAD", "/-/status/events"), 405);
    assert_eq!(status("HEAD", "/-/status"), 200);
    assert_eq!(status("GET", "/-/status?slave=x"), 400);
    let unknown = format!("/-/status?slave={}", "ab".repeat(16));
    assert_eq!(ask(&master, "GET", &unknown, "").status(), 200);
    assert_eq!(status("GET", "/-/status/other"), 404);
}
