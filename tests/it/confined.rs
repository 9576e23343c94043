//! Workers have little to lose: what is in force is told, and is so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::unistd::{Pid, User, geteuid};

use crate::harness::{Client, Cluster, SOON, Setup, Standalone, TestDir, children, eventually};

/// A line of a process's status.
fn status_of(pid: Pid, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("{key}: {status}")).trim().to_owned()
}

#[test]
fn status_tells_what_confines_the_workers() {
    let cluster = Cluster::of(1).start();
    let confined = eventually(SOON, "status tells it", || {
        let confined = cluster.status_json()?["slaves"][0]["confined"].as_array()?.clone();
        (!confined.is_empty()).then_some(confined)
    });
    assert!(
        confined.contains(&"no-new-privileges".into())
            && confined.contains(&"no-core-dumps".into()),
        "{confined:?}"
    );
    assert_eq!(confined.contains(&"unprivileged".into()), !geteuid().is_root());
    let own = cluster.client().command("status").ok().json();
    assert_eq!(own["confined"].as_array(), Some(&confined), "{own}");
    assert!(cluster.status(&[]).stdout.contains("no-new-privileges"));
    let supervisor = cluster.slaves[0].program.pid();
    let workers: Vec<Pid> = children(supervisor)
        .into_iter()
        .filter(|pid| status_of(*pid, "NoNewPrivs") == "1")
        .collect();
    assert_eq!(workers.len() as u64, own["workers"].as_u64().unwrap());
    let filtered = workers.iter().filter(|pid| status_of(**pid, "Seccomp") == "2").count();
    assert_eq!(filtered > 0, confined.contains(&"system-calls".into()));
    assert!(filtered == 0 || filtered == workers.len());
}

#[test]
fn a_key_that_comes_late_or_behind_a_link_is_found() {
    for linked in [false, true] {
        let cluster = Cluster::of(0).start();
        let (keys, root) = (cluster.dir.path().join("keys"), cluster.dir.folder("served"));
        let key = keys.join("cluster.key");
        let bring = || {
            fs::create_dir(&keys).unwrap();
            if linked {
                std::os::unix::fs::symlink(cluster.key(), &key).unwrap();
            } else {
                fs::copy(cluster.key(), &key).unwrap();
            }
        };
        if linked {
            bring();
        }
        let mut slave = Setup::new("ftpslave", cluster.dir.path())
            .args(["0", "--master", &cluster.addr.to_string(), "--cluster-key"])
            .args([&key, &"--root".into(), &root])
            .start();
        slave.ready();
        if !linked {
            std::thread::sleep(std::time::Duration::from_secs(1));
            bring();
        }
        cluster.wait_in_service(1);
        fs::write(root.join("f"), "content").unwrap();
        let client = cluster.client();
        eventually(SOON, "it serves", || (client.run(&["-c", "get f"]).status == 0).then_some(()));
    }
}

#[test]
fn started_as_root_it_serves_as_another_user() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let refused = |user: &str| {
        let setup = Setup::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--user", user, "--root"])
            .args([&root]);
        Client::finish(&mut setup.start()).fails(1).stderr
    };
    assert!(refused("nobody-of-that-name").contains("no user"));
    if !geteuid().is_root() {
        assert!(refused("root").contains("another user"));
        return;
    }
    assert!(refused("root").contains("another user"));
    let nobody = User::from_name("nobody").unwrap().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&root, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    let slave = Standalone::start_in(dir, root.clone(), &["--user", "nobody"], &[]);
    let client = slave.client();
    fs::write(client.folder().join("x"), "content").unwrap();
    client.run(&["-c", "put x"]).ok();
    client.get("x");
    for path in [root.join("x"), root.join(".relais")] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), nobody.uid.as_raw(), "{}", path.display());
    }
    let supervisor = slave.program.pid();
    for pid in children(supervisor).into_iter().chain([supervisor]) {
        let ids = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
        assert_eq!(status_of(pid, "Uid"), ids(nobody.uid.as_raw()));
        assert_eq!(status_of(pid, "Gid"), ids(nobody.gid.as_raw()));
        assert_eq!(status_of(pid, "Groups"), nobody.gid.to_string());
        assert_eq!(status_of(pid, "CapEff"), "0000000000000000");
    }
    let own = client.command("status").ok().json();
    assert!(own["confined"].as_array().unwrap().contains(&"unprivileged".into()), "{own}");
}

#[test]
fn what_was_open_when_it_was_started_is_closed() {
    let dir = TestDir::new();
    let (root, secret) = (dir.folder("root"), dir.path().join("secret"));
    fs::write(&secret, "secret").unwrap();
    let mut program = Setup::new("ftpslave", dir.path())
        .args(["0", "--standalone", "--root"])
        .args([&root])
        .under(&["sh", "-c", &format!("exec 7<'{}'; exec \"$0\" \"$@\"", secret.display())])
        .start();
    let addr = program.ready();
    // A worker that serves is there.
    crate::harness::sessions(addr, 1);
    let supervisor = program.pid();
    for pid in children(supervisor).into_iter().chain([supervisor]) {
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            assert_ne!(fs::read_link(fd.path()).ok().as_ref(), Some(&secret), "{pid}");
        }
    }
}
