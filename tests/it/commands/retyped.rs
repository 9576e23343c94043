//! A put whose answer was lost, typed again: what an earlier command stored counts only while it is still there.

use std::fs;

use super::Lab;
use crate::harness::{Client, Fault, Proxy, content};

/// Large enough for a line of its own in the `.log`, also in a whole tree.
const LARGE: usize = 4 * 1024 * 1024 + 7;

/// A slave, and a client that reaches it over a line that can fail.
struct Rig {
    lab: Lab,
    line: Proxy,
    client: Client,
}

impl Rig {
    fn new() -> Self {
        let lab = Lab::new(&[]);
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        Self { lab, line, client }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        super::write(&self.client.folder().join(name), bytes);
    }

    /// Runs a command up to where its change is made, and kills the client before it hears of that.
    #[track_caller]
    fn killed_before_the_answer(&self, command: &str) {
        self.line.fault_at_answer(Fault::Stall);
        let mut program = self.client.start(&["--json", "-c", command]);
        self.line.wait_struck();
        program.kill();
        self.line.cut_all();
        self.line.disarm();
    }

    /// The version at a path.
    #[track_caller]
    fn version(&self, name: &str) -> String {
        self.lab.stat(name)["version"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_retyped_put_stores_what_is_not_there_any_more() {
    let rig = Rig::new();
    let (mine, other) = (content(1, LARGE), content(2, LARGE));
    rig.lab.says("mkdir d");
    rig.write("x", &mine);
    rig.lab.local("other", &other);
    rig.lab.local("same", &mine);
    // What becomes of it between the two commands.
    for (name, between) in [
        ("removed", &["rm removed"][..]),
        ("moved", &["mv moved elsewhere"]),
        ("replaced", &["put other -o replaced"]),
        ("equal", &["put same -o equal"]),
        ("d/with-its-folder", &["mv d e", "mkdir d"]),
        ("back", &["mv back away", "put other -o back", "rm away"]),
    ] {
        let put = format!("put x -o {name}");
        rig.killed_before_the_answer(&put);
        let first = rig.version(name);
        between.iter().for_each(|command| drop(rig.lab.says(command)));
        let json = rig.client.command(&put).ok().json();
        assert!(rig.lab.served(name) == mine, "{name}: {json}");
        assert_eq!(json["version"], rig.version(name).as_str(), "{name}");
        assert_ne!(json["version"], first.as_str(), "{name}: stored anew");
        assert!(!rig.client.folder().join(".log").exists(), "{name}");
    }
    // Where it is still there, nothing is stored twice.
    rig.killed_before_the_answer("put x -o stays");
    let first = rig.version("stays");
    let json = rig.client.command("put x -o stays").ok().json();
    assert_eq!((&json["version"], rig.version("stays")), (&first.as_str().into(), first.clone()));
}

#[test]
fn a_retyped_put_of_a_changed_file_works_at_once() {
    let rig = Rig::new();
    let (old, new) = (content(3, LARGE), content(4, LARGE));
    for (name, between) in [("plain", None), ("replaced", Some("put other -o replaced"))] {
        rig.lab.local("other", b"of another client");
        rig.write("x", &old);
        let put = format!("put x -o {name}");
        rig.killed_before_the_answer(&put);
        between.iter().for_each(|command| drop(rig.lab.says(command)));
        rig.write("x", &new);
        rig.client.command(&put).ok();
        assert!(rig.lab.served(name) == new, "{name}");
    }
    // Cut off in the middle, and replaced by another client since.
    rig.write("x", &old);
    rig.line.fault_at_data(1 << 20, Fault::Stall);
    let mut program = rig.client.start(&["-c", "put x -o half"]);
    rig.line.wait_struck();
    program.kill();
    rig.line.cut_all();
    rig.line.disarm();
    rig.lab.says("put other -o half");
    rig.client.command("put x -o half").ok();
    assert!(rig.lab.served("half") == old);
}

#[test]
fn retyped_commands_for_many_files_store_what_is_gone() {
    let rig = Rig::new();
    let bytes = content(5, LARGE);
    rig.lab.says("mkdir t");
    for (command, local, remote) in [
        ("put -r t", "t/large", "t/large"),
        ("mput 'many*'", "many", "many"),
        ("mirror -R t t", "t/large", "t/large"),
    ] {
        rig.write(local, &bytes);
        rig.killed_before_the_answer(command);
        // A folder that is made first has its own answer.
        if !rig.lab.serves(remote) {
            rig.killed_before_the_answer(command);
        }
        rig.lab.says(&format!("rm {remote}"));
        rig.client.command(command).ok();
        assert!(rig.lab.served(remote) == bytes, "{command}");
        assert!(!rig.client.folder().join(".log").exists(), "{command}");
        rig.lab.says(&format!("rm {remote}"));
        fs::remove_file(rig.client.folder().join(local)).unwrap();
    }
}
