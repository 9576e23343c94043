//! A put typed again after its answer was lost: the earlier result counts only while its file
//! exists.

use std::fs;

use super::CommandFixture;
use crate::harness::{Client, Fault, Proxy, content};

/// Large enough for its own line in the `.log`, also in a tree.
const LARGE: usize = 4 * 1024 * 1024 + 7;

/// A slave, and a client behind a proxy that fails on demand.
struct RetypedPutFixture {
    direct: CommandFixture,
    proxy: Proxy,
    client: Client,
}

impl RetypedPutFixture {
    fn new() -> Self {
        let direct = CommandFixture::new(&[]);
        let proxy = Proxy::to(direct.slave.addr);
        let client = Client::new(proxy.addr());
        Self { direct, proxy, client }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        super::write(&self.client.folder().join(name), bytes);
    }

    /// Runs a command until its change is made, and kills the client before the answer.
    #[track_caller]
    fn killed_before_the_answer(&self, command: &str) {
        self.proxy.fault_at_answer(Fault::Stall);
        let mut program = self.client.start(&["--json", "-c", command]);
        self.proxy.wait_struck();
        program.kill();
        self.proxy.cut_all();
        self.proxy.disarm();
    }

    /// Returns the version at a path.
    #[track_caller]
    fn version(&self, name: &str) -> String {
        self.direct.stat(name)["version"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_retyped_put_stores_what_is_not_there_any_more() {
    let fixture = RetypedPutFixture::new();
    let (mine, other) = (content(1, LARGE), content(2, LARGE));
    fixture.direct.says("mkdir d");
    fixture.write("x", &mine);
    fixture.direct.local("other", &other);
    fixture.direct.local("same", &mine);
    // Commands of another client between the two puts.
    for (name, between) in [
        ("removed", &["rm removed"][..]),
        ("moved", &["mv moved elsewhere"]),
        ("replaced", &["put other -o replaced"]),
        ("equal", &["put same -o equal"]),
        ("d/with-its-folder", &["mv d e", "mkdir d"]),
        ("back", &["mv back away", "put other -o back", "rm away"]),
    ] {
        let put = format!("put x -o {name}");
        fixture.killed_before_the_answer(&put);
        let first = fixture.version(name);
        between.iter().for_each(|command| drop(fixture.direct.says(command)));
        let json = fixture.client.command(&put).ok().json();
        assert!(fixture.direct.served(name) == mine, "{name}: {json}");
        assert_eq!(json["version"], fixture.version(name).as_str(), "{name}");
        assert_ne!(json["version"], first.as_str(), "{name}: not stored again");
        assert!(!fixture.client.folder().join(".log").exists(), "{name}");
    }
    // If the file still exists, it is not stored twice.
    fixture.killed_before_the_answer("put x -o stays");
    let first = fixture.version("stays");
    let json = fixture.client.command("put x -o stays").ok().json();
    assert_eq!(
        (&json["version"], fixture.version("stays")),
        (&first.as_str().into(), first.clone())
    );
}

#[test]
fn a_retyped_put_of_a_changed_file_works_at_once() {
    let fixture = RetypedPutFixture::new();
    let (old, new) = (content(3, LARGE), content(4, LARGE));
    for (name, between) in [("plain", None), ("replaced", Some("put other -o replaced"))] {
        fixture.direct.local("other", b"of another client");
        fixture.write("x", &old);
        let put = format!("put x -o {name}");
        fixture.killed_before_the_answer(&put);
        between.iter().for_each(|command| drop(fixture.direct.says(command)));
        fixture.write("x", &new);
        fixture.client.command(&put).ok();
        assert!(fixture.direct.served(name) == new, "{name}");
    }
    // Cut in the middle, and replaced by another client since.
    fixture.write("x", &old);
    fixture.proxy.fault_at_data(1 << 20, Fault::Stall);
    let mut program = fixture.client.start(&["-c", "put x -o half"]);
    fixture.proxy.wait_struck();
    program.kill();
    fixture.proxy.cut_all();
    fixture.proxy.disarm();
    fixture.direct.says("put other -o half");
    fixture.client.command("put x -o half").ok();
    assert!(fixture.direct.served("half") == old);
}

#[test]
fn retyped_commands_for_many_files_store_what_is_gone() {
    let fixture = RetypedPutFixture::new();
    let bytes = content(5, LARGE);
    fixture.direct.says("mkdir t");
    for (command, local, remote) in [
        ("put -r t", "t/large", "t/large"),
        ("mput 'many*'", "many", "many"),
        ("mirror -R t t", "t/large", "t/large"),
    ] {
        fixture.write(local, &bytes);
        fixture.killed_before_the_answer(command);
        // A folder that is made first has its own answer.
        if !fixture.direct.serves(remote) {
            fixture.killed_before_the_answer(command);
        }
        fixture.direct.says(&format!("rm {remote}"));
        fixture.client.command(command).ok();
        assert!(fixture.direct.served(remote) == bytes, "{command}");
        assert!(!fixture.client.folder().join(".log").exists(), "{command}");
        fixture.direct.says(&format!("rm {remote}"));
        fs::remove_file(fixture.client.folder().join(local)).unwrap();
    }
}
