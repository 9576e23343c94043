//! A network of its own, in which a machine has an address that is not loopback.

use std::process::{Child, Command, Stdio};

use super::SOON;
use super::process::Capture;

/// A network with one machine, kept open by a process. Programs are started into it.
pub struct Network {
    keeper: Child,
}

impl Network {
    /// The machine's address there.
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
        let (said, wrong) = (
            Capture::of(keeper.stdout.take().unwrap()),
            Capture::of(keeper.stderr.take().unwrap()),
        );
        said.wait_for(SOON, "a network in a name space", |text| {
            let ended = keeper.try_wait().unwrap();
            assert!(ended.is_none(), "this test needs unshare -rn and ip: {}", wrong.text());
            text.contains("up").then_some(())
        });
        Self { keeper }
    }

    /// What a program is started by that shall be in it.
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
