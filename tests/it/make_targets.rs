//! The first steps of README.md: the scripts behind `make run`, and a cluster started step by step.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{
    Client, Output, Program, ProgramBuilder, SOON, TestDir, eventually, write_old,
};

/// Time limit of a whole run: eight programs, one after another.
const RUN: Duration = Duration::from_secs(120);

/// A checkout with files in `_FTPROOT` and the links that `make` creates.
struct Checkout(TestDir);

impl Checkout {
    fn new() -> Self {
        let this = Self(TestDir::new());
        write_old(&this.path("_FTPROOT/a.txt"), b"the first");
        write_old(&this.path("_FTPROOT/sub/b.txt"), b"the second");
        fs::create_dir_all(this.path("target/relais/tools")).unwrap();
        for program in ["ftpmaster", "ftpslave", "ftpclient"] {
            symlink(programs().join(program), this.path(program)).unwrap();
        }
        let under = this.path("target/relais/tools/under");
        let source = script("under.c");
        let words = [Path::new("cc"), Path::new("-o"), &under, &source];
        this.run(&words.map(|word| word.to_str().unwrap())).ok();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn setup(&self, words: &[&str]) -> ProgramBuilder {
        ProgramBuilder::of(words, self.0.path())
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> Output {
        Client::finish(&mut self.setup(words).start())
    }

    /// Starts what `make run` starts after the build.
    fn whole_run(&self) -> Program {
        let (run, programs) = (script("run.sh"), programs());
        let words = ["sh", run.to_str().unwrap(), programs.to_str().unwrap(), "target/relais"];
        self.setup(&words).start()
    }

    #[track_caller]
    fn tidied(&self) -> Output {
        let tidy = script("tidy.sh");
        self.run(&["sh", tidy.to_str().unwrap(), "target/relais", "_FTPROOT"])
    }

    /// Starts what `make master` and `make slave` start.
    #[track_caller]
    fn serve(&self, words: &[&str]) -> (Program, SocketAddr) {
        let serve = script("serve.sh");
        let words = [&["sh", serve.to_str().unwrap(), "target/relais/pids"], words].concat();
        let mut program = self.setup(&words).start();
        let addr = program.ready();
        (program, addr)
    }

    fn master(&self) -> (Program, SocketAddr) {
        let state = ["--state", "target/relais/cluster", "--listen", "127.0.0.1:0"];
        self.serve(&[&["./ftpmaster"][..], &state].concat())
    }

    fn slave(&self, master: SocketAddr) -> Program {
        self.tidied().ok();
        let key = "target/relais/cluster/cluster.key";
        let master = master.to_string();
        self.serve(&["./ftpslave", "0", "--cluster-key", key, "--master", &master]).0
    }

    /// Runs `./ftpmaster status` as README.md shows it.
    #[track_caller]
    fn status(&self, master: SocketAddr) -> Output {
        self.run(&["sh", "-c", &format!("./ftpmaster status --json --master {master}")])
    }

    #[track_caller]
    fn wait_in_service(&self, master: SocketAddr) {
        eventually(SOON, "a slave is in service", || {
            let said: Value = serde_json::from_str(&self.status(master).stdout).ok()?;
            (said["slaves"][0]["state"] == "in-service").then_some(())
        });
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/make").join(name)
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_ftpmaster")).parent().unwrap().to_owned()
}

#[test]
fn a_run_leaves_no_trace_for_a_later_cluster() {
    let checkout = Checkout::new();
    let done = Client::finish(&mut checkout.whole_run()).ok();
    assert!(done.stdout.contains("All files arrived and are equal"), "{done:?}");
    assert_eq!(fs::read(checkout.path("_CLIENTROOT/sub/b.txt")).unwrap(), b"the second");
    assert!(!checkout.path("_FTPROOT/.relais").exists(), "{done:?}");

    let (_master, addr) = checkout.master();
    let _slave = checkout.slave(addr);
    checkout.wait_in_service(addr);
    let client = Client::new(addr);
    client.command("mkdir x").ok();
    assert!(checkout.path("_FTPROOT/x").is_dir());
    let said = checkout.status(addr).ok();
    let slaves: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(slaves["slaves"].as_array().unwrap().len(), 1, "{said:?}");

    // A run during or after that cluster serves a copy.
    let done = Client::finish(&mut checkout.whole_run()).ok();
    assert!(done.stdout.contains("serves a copy"), "{done:?}");
    client.command("mkdir y").ok();
    assert!(checkout.path("_FTPROOT/y").is_dir());
    checkout.status(addr).ok();
}

#[test]
fn a_killed_run_is_cleaned_up() {
    let checkout = Checkout::new();
    let mut run = checkout.whole_run();
    run.stdout.wait_for(RUN, "files are fetched", |text| text.contains("a.txt").then_some(()));
    assert!(
        checkout.tidied().fails(1).stderr.contains("leave its prompt"),
        "the run is still active"
    );
    run.signal(Signal::SIGKILL);
    run.wait(SOON);
    assert!(checkout.path("_FTPROOT/.relais/slaves").is_dir());
    fs::create_dir_all(checkout.path("_FTPROOT/.relais/conflicts")).unwrap();
    write_old(&checkout.path("_FTPROOT/.relais/conflicts/kept"), b"a user's");
    // The kernel ends the servers. The next step waits for that and finds the folder like new.
    assert!(checkout.tidied().ok().stderr.contains("quarantined files are kept"));
    let (_master, addr) = checkout.master();
    let _slave = checkout.slave(addr);
    checkout.wait_in_service(addr);
    Client::new(addr).command("mkdir x").ok();
    let kept = fs::read(checkout.path("_FTPROOT/.relais/conflicts/kept")).unwrap();
    assert_eq!(kept, b"a user's");
}
