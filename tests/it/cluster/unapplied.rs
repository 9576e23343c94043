//! Paths that a slave's disk refuses: only that path is behind, and it is applied once the disk
//! allows it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use relais_proto::{ErrorCode, Reply, Request};
use serde_json::Value;

use super::helpers::{conflicts, operate, report_at, tree, wait_settled};
use crate::harness::{
    Cluster, Program, ProgramBuilder, RawClient, SOON, Strace, Volume, children, content,
    eventually, get, make_folder, path, remove, rename, session, ticket,
};

/// A slave with an unusual disk. The fields are dropped in this order.
struct SpecialSlave {
    program: Program,
    addr: SocketAddr,
    /// The root's path for the test; `inside` is the slave's path.
    root: PathBuf,
    inside: PathBuf,
    args: Vec<String>,
    volume: Option<Volume>,
}

/// A master, and slaves with unusual disks.
struct UnappliedFixture {
    slaves: Vec<SpecialSlave>,
    cluster: Cluster,
}

impl UnappliedFixture {
    fn new() -> Self {
        Self { slaves: Vec::new(), cluster: Cluster::of(0).start() }
    }

    fn start(
        &self,
        inside: &Path,
        args: &[String],
        volume: Option<&Volume>,
    ) -> (Program, SocketAddr) {
        let key = match volume {
            Some(_) => self.cluster.key(),
            None => self.cluster.dir.path().join("key"),
        };
        let under = volume.map(Volume::under).unwrap_or_default();
        let mut program = ProgramBuilder::new("ftpslave", self.cluster.dir.path())
            .args(["0", "--workers", "1", "--master", &self.cluster.addr.to_string()])
            .args([Path::new("--root"), inside, Path::new("--cluster-key"), &key])
            .args(args)
            .under(&under)
            .start();
        let addr = program.ready();
        (program, addr)
    }

    fn add(&mut self, root: PathBuf, inside: PathBuf, args: &[&str], volume: Option<Volume>) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (program, addr) = self.start(&inside, &args, volume.as_ref());
        self.slaves.push(SpecialSlave { program, addr, root, inside, args, volume });
        self.cluster.wait_in_service(self.slaves.len());
    }

    /// Adds a slave on its own file system, in which more can be mounted.
    fn add_volume(&mut self, options: &str, prepare: impl FnOnce(&Volume)) {
        let volume = Volume::mount(options);
        fs::create_dir(volume.path().join("root")).unwrap();
        prepare(&volume);
        let (root, inside) = (volume.path().join("root"), volume.inside().join("root"));
        self.add(root, inside, &[], Some(volume));
    }

    /// Adds a slave that runs as an ordinary user, so that permissions apply.
    fn add_user(&mut self) {
        let dir = self.cluster.dir.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let root = self.cluster.dir.folder(&format!("user{}", self.slaves.len()));
        let key = dir.join("key");
        fs::copy(self.cluster.key(), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let mut args = Vec::new();
        if geteuid().is_root() {
            let unprivileged = User::from_name("nobody").unwrap().unwrap();
            for path in [&root, &key] {
                chown(path, Some(unprivileged.uid.as_raw()), Some(unprivileged.gid.as_raw()))
                    .unwrap();
            }
            args = vec!["--user", "nobody"];
        }
        self.add(root.clone(), root, &args, None);
    }

    fn restart(&mut self, n: usize) {
        self.slaves[n].program.kill();
        let node = &self.slaves[n];
        let (program, addr) = self.start(&node.inside, &node.args, node.volume.as_ref());
        (self.slaves[n].program, self.slaves[n].addr) = (program, addr);
    }

    fn wire(&self, n: usize) -> RawClient {
        session(self.slaves[n].addr, &ticket(self.cluster.addr).0)
    }

    fn report(&self, n: usize) -> Value {
        report_at(&self.cluster, &self.slaves[n].addr.to_string())
    }

    /// Waits until a slave is in service with all changes, and its disk refuses this many paths.
    #[track_caller]
    fn wait_unapplied(&self, n: usize, count: u64) {
        eventually(SOON, &format!("slave {n} has {count} paths that are not applied"), || {
            let slave = self.report(n);
            let there = slave["unapplied"] == count && slave["lag"] == 0;
            (there && slave["state"] == "in-service").then_some(())
        });
    }

    /// Makes a slave retry the refused paths at once.
    fn ready(&self, n: usize) {
        operate(&self.cluster, &["ready", &self.slaves[n].addr.to_string()]).ok();
    }

    /// Returns the differences that `diff` prints.
    #[track_caller]
    fn diff(&self) -> String {
        operate(&self.cluster, &["diff"]).fails(1).stdout
    }

    /// Requires equal trees, no quarantined files, and that changes succeed.
    #[track_caller]
    fn healthy(&self) {
        let mut wire = self.wire(0);
        wire.put("healthy", b"yes").unwrap();
        for n in 0..self.slaves.len() {
            self.wait_unapplied(n, 0);
        }
        wait_settled(&self.cluster);
        operate(&self.cluster, &["diff"]).ok();
        let first = tree(&self.slaves[0].root);
        for node in &self.slaves {
            assert_eq!(tree(&node.root), first);
            assert_eq!(conflicts(&node.root), [], "no file was quarantined");
        }
    }
}

/// Lists a folder of a slave.
fn names(wire: &mut RawClient, folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    let list = Request::List { path: path(folder), after: String::new(), most: 0 };
    let mut reply = wire.ask(&list);
    loop {
        match reply {
            Reply::Entries(page) => names.extend(page.iter().map(|entry| entry.name)),
            Reply::Done { .. } => return names,
            other => panic!("{other:?}"),
        }
        reply = wire.reply();
    }
}

/// Requires that the slave redirects a get to the holders.
#[track_caller]
fn assert_redirected(wire: &mut RawClient, name: &str) {
    match wire.ask(&get(name)) {
        Reply::Elsewhere { holders } => assert!(!holders.is_empty(), "{name}"),
        other => panic!("{name}: {other:?}"),
    }
}

/// Requires that a client can get a file through either slave.
#[track_caller]
fn assert_readable(fixture: &UnappliedFixture, name: &str, bytes: &[u8]) {
    let client = fixture.cluster.client();
    for _ in 0..2 {
        client.get(name);
        assert!(client.read(Path::new(name).file_name().unwrap().to_str().unwrap()) == bytes);
    }
}

fn lock(folder: &Path, locked: bool) {
    let (mode, owner) = if locked { (0o555, 0) } else { (0o755, 65534) };
    if geteuid().is_root() {
        let owner =
            if locked { owner } else { User::from_name("nobody").unwrap().unwrap().uid.as_raw() };
        chown(folder, Some(owner), None).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_that_one_slave_may_not_change() {
    let mut fixture = UnappliedFixture::new();
    fixture.add_user();
    fixture.add_user();
    let mut wire = fixture.wire(0);
    wire.change(&make_folder("ro")).unwrap();
    wire.put("ro/old", b"old").unwrap();
    wire.change(&make_folder("src")).unwrap();
    wire.put("src/a", b"moved").unwrap();
    wait_settled(&fixture.cluster);
    let ro = fixture.slaves[1].root.join("ro");
    lock(&ro, true);
    let big = content(1, 2 << 20);
    wire.change(&make_folder("ro/sub")).unwrap();
    wire.put("ro/sub/g", b"g").unwrap();
    wire.put("ro/f", &big).unwrap();
    wire.put("ro/old", b"new").unwrap();
    wire.put("other", b"other").unwrap();
    fixture.wait_unapplied(1, 4);
    eventually(SOON, "other changes are applied", || {
        fixture.slaves[1].root.join("other").exists().then_some(())
    });
    let said = fixture.diff();
    for name in ["/ro/sub:", "/ro/sub/g:", "/ro/f:", "/ro/old:"] {
        assert!(said.contains(name) && said.contains("permission denied"), "{said}");
    }
    assert!(operate(&fixture.cluster, &["status"]).ok().stdout.contains("not applied here"));
    // The slave lists the current tree and no outdated entries.
    let mut there = fixture.wire(1);
    assert_eq!(names(&mut there, "ro"), ["f", "old", "sub"]);
    assert_eq!(names(&mut there, "ro/sub"), ["g"]);
    assert!(matches!(there.ask(&Request::Stat(path("ro/sub"))), Reply::Details { .. }));
    for name in ["ro/f", "ro/old", "ro/sub/g"] {
        assert!(matches!(there.ask(&Request::Stat(path(name))), Reply::Details { .. }));
        assert_redirected(&mut there, name);
    }
    assert_readable(&fixture, "ro/f", &big);
    assert_readable(&fixture, "ro/old", b"new");
    // A put through this slave is refused with the reason.
    let refusal = there.put("ro/h", b"h").unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NotServed, "{refusal:?}");
    assert!(
        refusal.message.contains("/ro") && refusal.message.contains("permission denied"),
        "{refusal:?}"
    );
    // A file that was never applied is removed without a trace; an existing one leaves the tree.
    wire.change(&remove("ro/sub", true)).unwrap();
    fixture.wait_unapplied(1, 2);
    wire.change(&remove("ro/old", false)).unwrap();
    fixture.wait_unapplied(1, 2);
    assert!(fixture.diff().contains("/ro/old: not removed here"), "{}", fixture.diff());
    // A folder that cannot be moved stays in place on the disk, and is listed at its new path.
    wire.change(&rename("src", "ro/moved")).unwrap();
    fixture.wait_unapplied(1, 5);
    assert!(fixture.slaves[1].root.join("src/a").exists());
    assert_eq!(names(&mut there, "ro"), ["f", "moved"]);
    assert!(!names(&mut there, "").contains(&"src".to_owned()));
    assert_redirected(&mut there, "ro/moved/a");
    drop(there);
    // A restarted slave knows the refused paths and does not propose their files.
    fixture.restart(1);
    fixture.cluster.wait_in_service(2);
    fixture.wait_unapplied(1, 5);
    assert_eq!(names(&mut fixture.wire(1), "ro"), ["f", "moved"]);
    lock(&ro, false);
    fixture.ready(1);
    fixture.healthy();
    assert_eq!(fs::read(ro.join("moved/a")).unwrap(), b"moved");
    assert!(!ro.join("old").exists() && !fixture.slaves[1].root.join("src").exists());
    // If no slave may apply the change, the cluster still stays in service.
    (0..2).for_each(|n| lock(&fixture.slaves[n].root.join("ro"), true));
    wire.change(&make_folder("ro/none")).unwrap();
    (0..2).for_each(|n| fixture.wait_unapplied(n, 1));
    wire.put("ro/none/x", b"x").unwrap_err();
    wire.put("elsewhere", b"yes").unwrap();
    (0..2).for_each(|n| lock(&fixture.slaves[n].root.join("ro"), false));
    // Without `ready` the retry comes after the pause.
    fixture.healthy();
}

#[test]
fn mount_points_keep_no_slave_out_of_service() {
    let mut fixture = UnappliedFixture::new();
    fixture.add_volume("size=32m", |_| {});
    // Mounted before the change.
    fixture.add_volume("size=32m", |volume| {
        fs::create_dir(volume.path().join("root/before")).unwrap()
    });
    let volume = fixture.slaves[1].volume.take().unwrap();
    let first = fixture.slaves[0].volume.take().unwrap();
    let mut wire = fixture.wire(0);
    let root = fixture.slaves[1].root.clone();
    let mounted = volume.mount_inside("root/before");
    fs::write(root.join("before/theirs"), b"theirs").unwrap();
    fixture.slaves[1].program.kill();
    let _ = eventually(SOON, "the name is free", || wire.put("free", b"1").ok());
    let node = &fixture.slaves[1];
    let (program, addr) = fixture.start(&node.inside, &node.args, Some(&volume));
    (fixture.slaves[1].program, fixture.slaves[1].addr) = (program, addr);
    fixture.cluster.wait_in_service(2);
    wire.change(&remove("before", true)).unwrap();
    fixture.wait_unapplied(1, 1);
    wire.change(&make_folder("before")).unwrap();
    wire.put("before/x", b"x").unwrap();
    fixture.wait_unapplied(1, 2);
    assert!(
        fixture.diff().contains("/before: not applied here: a mount point"),
        "{}",
        fixture.diff()
    );
    assert_readable(&fixture, "before/x", b"x");
    let mut there = fixture.wire(1);
    assert_eq!(names(&mut there, "before"), ["x"]);
    assert_redirected(&mut there, "before/x");
    let refusal = there.put("before/y", b"y").unwrap_err();
    assert!(refusal.message.contains("mount point"), "{refusal:?}");
    wire.change(&remove("before", true)).unwrap();
    // Mounted over existing entries.
    for name in ["over", "over/deep", "above", "above/m"] {
        wire.change(&make_folder(name)).unwrap();
    }
    wire.put("over/a", b"a").unwrap();
    wire.put("above/f", b"f").unwrap();
    eventually(SOON, "the slave has the folders", || root.join("above/f").exists().then_some(()));
    let over = volume.mount_inside("root/over");
    let above = volume.mount_inside("root/above/m");
    fs::write(root.join("above/m/theirs"), b"theirs").unwrap();
    wire.put("over/b", b"b").unwrap();
    assert_readable(&fixture, "over/a", b"a");
    assert_readable(&fixture, "over/b", b"b");
    wire.change(&remove("over", true)).unwrap();
    wire.change(&remove("above", true)).unwrap();
    eventually(SOON, "the slave stays in service", || {
        let slave = fixture.report(1);
        (slave["lag"] == 0 && slave["state"] == "in-service" && slave["unapplied"].as_u64()? >= 2)
            .then_some(())
    });
    let top = names(&mut there, "");
    assert!(!top.iter().any(|name| name == "over" || name == "above"), "{top:?}");
    assert_eq!(fs::read(root.join("before/theirs")).unwrap(), b"theirs");
    assert_eq!(fs::read(root.join("above/m/theirs")).unwrap(), b"theirs");
    // Mounted on all slaves.
    wire.change(&make_folder("both")).unwrap();
    wire.put("both/f", b"f").unwrap();
    eventually(SOON, "the slave has the folder", || root.join("both/f").exists().then_some(()));
    let both = [&first, &volume].map(|volume| volume.mount_inside("root/both"));
    wire.change(&remove("both", true)).unwrap();
    wire.put("goes-on", b"yes").unwrap();
    eventually(SOON, "both are in service", || {
        (fixture.cluster.count("in-service") == 2).then_some(())
    });
    fixture.wait_unapplied(0, 1);
    // No entry is left below the mount points.
    drop((mounted, over, above, both));
    (0..2).for_each(|n| fixture.ready(n));
    fixture.healthy();
    drop(there);
    drop(fixture);
}

#[test]
fn content_under_a_mount_stays_the_newest_version() {
    let mut fixture = UnappliedFixture::new();
    fixture.add_volume("size=32m", |_| {});
    fixture.add_volume("size=32m", |_| {});
    let volume = fixture.slaves[0].volume.take().unwrap();
    let other = fixture.slaves[1].volume.take().unwrap();
    let root = fixture.slaves[0].root.clone();
    let mut wire = fixture.wire(0);
    wire.change(&make_folder("m")).unwrap();
    wire.put("m/f", b"first").unwrap();
    wire.put("m/moved", b"moved").unwrap();
    wire.put("m/gone", b"gone").unwrap();
    wait_settled(&fixture.cluster);
    fixture.slaves[1].program.kill();
    let _ = eventually(SOON, "the put is accepted", || wire.put("m/f", b"second").ok());
    let mounted = volume.mount_inside("root/m");
    let restart = |fixture: &mut UnappliedFixture, n: usize, volume: &Volume| {
        fixture.slaves[n].program.kill();
        let node = &fixture.slaves[n];
        let (program, addr) = fixture.start(&node.inside, &node.args, Some(volume));
        (fixture.slaves[n].program, fixture.slaves[n].addr) = (program, addr);
    };
    restart(&mut fixture, 1, &other);
    // Content that no slave can give keeps no slave out of service.
    fixture.wait_unapplied(0, 4);
    fixture.wait_unapplied(1, 0);
    let said = fixture.diff();
    assert!(
        said.contains("/m/f: content not there yet, not applied here: a mount point"),
        "{said}"
    );
    // The slave that hides the content is stopped and started, and the version stands.
    restart(&mut fixture, 0, &volume);
    fixture.wait_unapplied(0, 4);
    fixture.wait_unapplied(1, 0);
    fixture.wire(1).put("after", b"yes").unwrap();
    let exported = operate(&fixture.cluster, &["export"]).ok().stdout;
    assert!(!exported.contains("withdraw"), "{exported}");
    // Hidden files can be moved and removed.
    let mut there = fixture.wire(1);
    there.change(&rename("m/f", "n")).unwrap();
    there.change(&rename("m/moved", "m/again")).unwrap();
    there.change(&remove("m/gone", false)).unwrap();
    // Retries meanwhile do not take the hidden files for lost or removed ones.
    for _ in 0..3 {
        fixture.ready(0);
        fixture.wait_unapplied(0, 6);
    }
    drop(mounted);
    eventually(SOON, "the second version is on both disks", || {
        let all = fixture
            .slaves
            .iter()
            .all(|slave| fs::read(slave.root.join("n")).is_ok_and(|bytes| bytes == b"second"));
        all.then_some(())
    });
    assert!(!root.join("m/f").exists());
    assert_readable(&fixture, "n", b"second");
    fixture.healthy();
    drop((wire, there));
    drop(fixture);
}

#[test]
fn content_under_mounts_on_all_slaves_is_reported() {
    let mut fixture = UnappliedFixture::new();
    fixture.add_volume("size=32m", |_| {});
    fixture.add_volume("size=32m", |_| {});
    let volumes = [0, 1].map(|n| fixture.slaves[n].volume.take().unwrap());
    let mut wire = fixture.wire(0);
    wire.change(&make_folder("m")).unwrap();
    wire.put("m/f", b"content").unwrap();
    wait_settled(&fixture.cluster);
    let mounted = volumes.each_ref().map(|volume| volume.mount_inside("root/m"));
    (0..2).for_each(|n| fixture.wait_unapplied(n, 2));
    let said = fixture.diff();
    let wanted = "/m/f: content not there yet, not applied here: a mount point";
    assert_eq!(said.matches(wanted).count(), 2, "{said}");
    // Without a program that asks for it, the content is served again after the unmount.
    drop(mounted);
    (0..2).for_each(|n| fixture.wait_unapplied(n, 0));
    assert_readable(&fixture, "m/f", b"content");
    fixture.healthy();
    drop(fixture);
}

#[test]
fn each_kind_of_refusal_affects_only_its_path() {
    let mut fixture = UnappliedFixture::new();
    fixture.add_user();
    fixture.add_user();
    let mut wire = fixture.wire(0);
    wire.change(&make_folder("d")).unwrap();
    wire.put("d/kept", b"old").unwrap();
    wait_settled(&fixture.cluster);
    let root = fixture.slaves[1].root.clone();
    let supervisor = fixture.slaves[1].program.pid();
    let folder = root.join("d");
    for (n, (inject, on, says)) in [
        ("rename,renameat,renameat2:error=EPERM", true, "not permitted"),
        ("rename,renameat,renameat2:error=EROFS", true, "read-only"),
        ("rename,renameat,renameat2:error=ENAMETOOLONG", true, "too long"),
        ("rename,renameat,renameat2:error=EDQUOT", true, "quota"),
        ("rename,renameat,renameat2:error=EBUSY", true, "busy"),
        ("mkdir,mkdirat:error=ENOSPC", false, "no space"),
        ("utimensat:error=EPERM", false, "not permitted"),
    ]
    .into_iter()
    .enumerate()
    {
        let pids: Vec<_> = children(supervisor).into_iter().chain([supervisor]).collect();
        let calls = inject.split_once(':').unwrap().0;
        let (trace, inject) = (format!("trace={calls}"), format!("inject={inject}"));
        let mut args = vec!["-e", &trace, "-e", &inject];
        if on {
            args.extend(["-P", folder.to_str().unwrap()]);
        }
        let strace = Strace::attach(&pids, &args);
        let name = format!("d/n{n}");
        if calls.starts_with("mkdir") {
            wire.change(&make_folder(&name)).unwrap();
        } else {
            wire.put(&name, b"new").unwrap();
        }
        if on {
            wire.put("other", name.as_bytes()).unwrap();
        }
        eventually(SOON, &format!("{inject} is reported"), || {
            (fixture.report(1)["unapplied"] == 1).then_some(())
        });
        fixture.wait_unapplied(1, 1);
        let said = fixture.diff();
        assert!(said.contains(&name) && said.contains(says), "{inject}: {said}");
        strace.end();
        fixture.ready(1);
        fixture.wait_unapplied(1, 0);
        assert!(root.join(&name).exists());
    }
    fixture.healthy();
}
