//! A headless Chromium, driven by ChromeDriver over W3C WebDriver.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{SOON, TestDir, eventually};

/// Longest time that the browser may take for one command.
const COMMAND_TIME: Duration = Duration::from_secs(120);
/// Key of element references in WebDriver (section 12.2 of the W3C recommendation).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window and a fresh profile.
pub struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
    _profile: TestDir,
}

/// An element of the present page.
#[derive(Debug, Clone)]
pub struct Element(String);

impl Browser {
    /// Starts Chromium; it accepts certificates of test servers.
    #[track_caller]
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips="])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port: u16 = output
            .find_map(|line| {
                let (_, rest) =
                    line.as_ref().unwrap().split_once("started successfully on port ")?;
                rest.split_once('.')?.0.parse().ok()
            })
            .unwrap();
        // A full pipe would stop the driver.
        std::thread::spawn(move || output.for_each(drop));
        let profile = TestDir::new();
        let mut browser = Self {
            driver,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            _profile: profile,
        };
        let folder = browser._profile.path().display();
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--window-size=1100,800", "--hide-scrollbars", "--force-prefers-reduced-motion",
            "--lang=en-GB", format!("--user-data-dir={folder}"),
        ]});
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "unhandledPromptBehavior": "accept",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let made = browser.request("POST", "/session", Some(&wanted));
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Loads the page again.
    #[track_caller]
    pub fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// Returns the text of the page as a user sees it.
    #[track_caller]
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Runs a script in the page, and returns its value.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script in the page that calls `done` with its value.
    #[track_caller]
    pub fn run_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Returns the elements that a CSS selector finds.
    #[track_caller]
    pub fn all(&self, css: &str) -> Vec<Element> {
        let found = self.post("/elements", &json!({ "using": "css selector", "value": css }));
        let id = |element: &Value| Element(element[ELEMENT].as_str().unwrap().to_owned());
        found.as_array().unwrap().iter().map(id).collect()
    }

    /// Waits for an element.
    #[track_caller]
    pub fn find(&self, css: &str) -> Element {
        eventually(SOON, css, || self.all(css).into_iter().next())
    }

    /// Waits for an element, and clicks it.
    #[track_caller]
    pub fn click(&self, css: &str) {
        let Element(id) = self.find(css);
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    /// Types into a field in place of what it has.
    #[track_caller]
    pub fn type_into(&self, css: &str, text: &str) {
        let Element(id) = self.find(css);
        self.post(&format!("/element/{id}/clear"), &json!({}));
        self.press(css, text);
    }

    /// Presses keys while an element has the focus; an input for files takes a path.
    #[track_caller]
    pub fn press(&self, css: &str, keys: &str) {
        let Element(id) = self.find(css);
        self.post(&format!("/element/{id}/value"), &json!({ "text": keys }));
    }

    /// Waits until the page has a text.
    #[track_caller]
    pub fn wait_for_text(&self, wanted: &str) {
        eventually(SOON, wanted, || self.text().contains(wanted).then_some(()));
    }

    /// Waits until the page does not have a text.
    #[track_caller]
    pub fn wait_until_gone(&self, unwanted: &str) {
        eventually(SOON, unwanted, || (!self.text().contains(unwanted)).then_some(()));
    }

    /// Sets the colours that the user prefers: `light` or `dark`.
    #[track_caller]
    pub fn prefer(&self, colours: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": colours }]);
        let command = json!({
            "cmd": "Emulation.setEmulatedMedia", "params": { "features": features },
        });
        self.post("/goog/cdp/execute", &command);
    }

    /// Returns the errors in the console since the last call.
    #[track_caller]
    pub fn console_errors(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let is_error = |entry: &&Value| entry["level"] == "SEVERE";
        let text = |entry: &Value| entry["message"].as_str().unwrap().to_owned();
        entries.as_array().unwrap().iter().filter(is_error).map(text).collect()
    }

    /// Loads no script of the server for the pages that are opened from now on.
    #[track_caller]
    pub fn block_scripts(&self) {
        let execute = |command: &str, params: Value| {
            self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }));
        };
        execute("Network.enable", json!({}));
        execute("Network.setBlockedURLs", json!({ "urls": ["*.js*"] }));
    }

    /// Sets the size of the window in pixels.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        self.post("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Stores a picture of the window as PNG.
    #[track_caller]
    pub fn screenshot(&self, to: &Path) {
        let picture = self.get("/screenshot");
        let decoded = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(to).unwrap())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(picture.as_str().unwrap().as_bytes())?;
                child.wait()
            });
        assert!(decoded.unwrap().success());
    }

    /// Deletes the session, which ends the browser.
    fn quit(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(SOON))?;
        let (session, addr) = (&self.session, self.addr);
        write!(stream, "DELETE /session/{session} HTTP/1.1\r\nHost: {addr}\r\n\r\n")?;
        // Its answer follows the end of the browser.
        stream.read_exact(&mut [0])
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.request("POST", &format!("/session/{}{path}", self.session), Some(body))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.request("GET", &format!("/session/{}{path}", self.session), None)
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.exchange(method, path, body);
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        value
    }

    #[track_caller]
    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(COMMAND_TIME)).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        // The driver keeps the connection, whatever the request says.
        let (mut answer, mut length) = (BufReader::new(stream), 0);
        for line in answer.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty())
        {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let text = String::from_utf8(body).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{method} {path}: {e}: {text}"))
    }
}

impl Drop for Browser {
    /// Ends the browser, also while a test fails: a second panic would abort it.
    fn drop(&mut self) {
        if let Err(e) = self.quit() {
            eprintln!("cannot end the browser: {e}");
        }
        if let Err(e) = self.driver.kill().and_then(|()| self.driver.wait()) {
            eprintln!("cannot end ChromeDriver: {e}");
        }
    }
}
