//! Chromium: the web pages of slaves and masters, used as people do.
//!
//! With `RELAIS_SCREENSHOTS=DIR` the tests store the pictures of the documents there.

mod driver;
mod hostile_content;
mod logins;
mod operating;
mod page;
mod status_page;
mod uploads;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use crate::harness::{SOON, Standalone, TestDir, eventually, write_old};
use crate::site::ready;

use driver::Browser;

/// A standalone slave with a web page, and a browser.
struct PageSite {
    slave: Standalone,
    browser: Browser,
    http: SocketAddr,
}

impl PageSite {
    /// Starts a slave that serves these files.
    #[track_caller]
    fn start(files: &[(&str, &[u8])]) -> Self {
        let dir = TestDir::new();
        let root = dir.folder("root");
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_old(&path, bytes);
        }
        Self::start_in(dir, root)
    }

    #[track_caller]
    fn start_in(dir: TestDir, root: PathBuf) -> Self {
        // The address stays the same when the slave is started again.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let slave = Standalone::start_in(dir, root, &["--http", &free.to_string()], &[]);
        let http = ready(&slave.program, "http");
        Self { slave, browser: Browser::start(), http }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Opens a page, and waits until it shows a text.
    #[track_caller]
    fn open(&self, path: &str, text: &str) {
        eventually(SOON, text, || {
            self.browser.open(&self.url(path));
            self.browser.text().contains(text).then_some(())
        });
    }

    /// Stores a picture for the documents, if they are wanted.
    #[track_caller]
    fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("RELAIS_SCREENSHOTS") {
            self.browser.screenshot(&PathBuf::from(folder).join(name));
        }
    }
}
