//! A network namespace with an address other than loopback.

use std::process::{Child, Command, Stdio};

use super::SOON;
use super::process::Capture;

/// A network namespace that a process keeps open. Programs are started in it.
pub struct Network {
    keeper: Child,
}

impl Network {
    /// The address of the namespace.
    pub const ADDRESS: &str = "10.77.0.1";

    #[track_caller]
    pub fn new() -> Self {
        let script = format!(
            "ip link set lo up && ip address add {}/32 dev lo && echo up && exec cat",
            Self::ADDRESS
        );
        let mut keeper = Command::new("unshare")
            .args(["-rn", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("this test needs unshare: {e}"));
        let (stdout, stderr) = (
            Capture::of(keeper.stdout.take().unwrap()),
            Capture::of(keeper.stderr.take().unwrap()),
        );
        stdout.wait_for(SOON, "a network in a namespace", |text| {
            let ended = keeper.try_wait().unwrap();
            assert!(ended.is_none(), "this test needs unshare -rn and ip: {}", stderr.text());
            text.contains("up").then_some(())
        });
        Self { keeper }
    }

    /// Returns the command line that executes a program in the namespace.
    pub fn under(&self) -> Vec<String> {
        [
            "nsenter",
            "--target",
            &self.keeper.id().to_string(),
            "--user",
            "--net",
            "--preserve-credentials",
            "--",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
