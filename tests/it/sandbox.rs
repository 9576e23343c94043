//! The sandbox of the workers: it is in force, and logs and status report it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::unistd::{Pid, User, geteuid};

use crate::harness::{
    Call, Client, Cluster, ProgramBuilder, SOON, Standalone, Strace, TestDir, children, eventually,
};

/// Returns a field of `/proc/PID/status`.
fn status_of(pid: Pid, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("{key}: {status}")).trim().to_owned()
}

#[test]
fn status_shows_the_sandbox_of_the_workers() {
    let cluster = Cluster::of(1).start();
    let confined = eventually(SOON, "status reports the sandbox", || {
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
        let mut slave = ProgramBuilder::new("ftpslave", cluster.dir.path())
            .args(["0", "--master", &cluster.addr.to_string(), "--cluster-key"])
            .args([&key, &"--root".into(), &root])
            .start();
        slave.ready();
        if !linked {
            slave.stderr.wait_for(SOON, "the slave waits for the key", |log| {
                log.contains("waiting for the cluster key").then_some(())
            });
            bring();
        }
        cluster.wait_in_service(1);
        fs::write(root.join("f"), "content").unwrap();
        let client = cluster.client();
        eventually(SOON, "the slave serves", || {
            (client.run(&["-c", "get f"]).status == 0).then_some(())
        });
    }
}

/// Returns the sandbox of a slave's first workers from its log.
fn sandbox_in_log(program: &crate::harness::Program) -> String {
    program.stderr.wait_for(SOON, "the log reports the sandbox", |log| {
        Some(log.split_once("workers are confined by: ")?.1.lines().next()?.to_owned())
    })
}

#[test]
fn workers_are_confined_before_the_key_is_there() {
    let cluster = Cluster::of(1).start();
    let dir = TestDir::new();
    let mut early = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--master", &cluster.addr.to_string(), "--cluster-key"])
        .args([&dir.path().join("none/cluster.key"), &"--root".into(), &dir.folder("served")])
        .start();
    early.ready();
    assert_eq!(sandbox_in_log(&early), sandbox_in_log(&cluster.slaves[0].program));
}

/// Returns the workers of a slave; they are the children with `NoNewPrivs`.
fn workers(supervisor: Pid, n: usize) -> Vec<Pid> {
    eventually(SOON, "the workers run", || {
        let all = children(supervisor);
        let workers: Vec<Pid> =
            all.into_iter().filter(|pid| status_of(*pid, "NoNewPrivs") == "1").collect();
        (workers.len() == n).then_some(workers)
    })
}

const OPENS: &str = "trace=open,openat,openat2,stat,newfstatat,statx";

#[test]
fn workers_never_look_into_the_masters_state_folder() {
    let cluster = Cluster::of(1).slave_args(&["--workers", "2"]).start();
    let (slave, key) = (&cluster.slaves[0].program, cluster.key());
    let strace = Strace::attach(&workers(slave.pid(), 2), &["-e", OPENS]);
    // The key file is replaced by an equal one, so it has to be read again.
    fs::copy(&key, key.with_extension("new")).unwrap();
    fs::rename(key.with_extension("new"), &key).unwrap();
    slave.stderr.wait_for(SOON, "the supervisor has read the key again", |log| {
        (log.matches("the cluster key was read from").count() >= 2).then_some(())
    });
    let client = cluster.client();
    fs::write(client.folder().join("x"), "content").unwrap();
    for n in 0..4 {
        client.run(&["-c", &format!("put x -o x{n}")]).ok();
    }
    let calls = strace.end();
    assert_no_calls_below(&calls, key.parent().unwrap(), &cluster.slaves[0].root);
}

#[test]
fn workers_learn_of_accounts_that_they_cannot_read() {
    let slave = Standalone::start(&["--workers", "2"], &[("f", b"content")]);
    let state = slave.dir.folder("state");
    let strace = Strace::attach(&workers(slave.program.pid(), 2), &["-e", OPENS]);
    let client = slave.client();
    for name in ["ann", "bob"] {
        crate::accounts::add(&slave.dir, &state, name, "read", "/");
        let file = crate::accounts::password_file(&slave.dir, &crate::accounts::password(name));
        eventually(SOON, "the account is in force", || {
            let words = ["-u", name, "--password-file", file.to_str()?, "-c", "get f"];
            (client.run(&words).status == 0).then_some(())
        });
        assert_eq!(client.run(&["-c", "get f"]).status, 4, "without an account");
    }
    assert_no_calls_below(&strace.end(), &state, &slave.root);
}

/// Requires that no traced call touched the state folder.
///
/// Calls on the served folder prove that the trace is complete.
#[track_caller]
fn assert_no_calls_below(calls: &[Call], state: &std::path::Path, root: &std::path::Path) {
    let hex = |path: &std::path::Path| -> String {
        path.as_os_str().as_encoded_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect()
    };
    let about = |folder: &std::path::Path| -> Vec<&Call> {
        calls
            .iter()
            .filter(|call| call.is_below(folder) || call.text.contains(&hex(folder)))
            .collect()
    };
    assert!(!about(root).is_empty(), "no call was seen");
    let looked = about(state);
    assert!(looked.is_empty(), "{looked:#?}");
}

#[test]
fn without_landlock_log_and_status_warn() {
    let cluster = Cluster::of(1).slave_args(&["--workers", "2"]).start();
    let slave = &cluster.slaves[0].program;
    let old = workers(slave.pid(), 2);
    // Workers started from here on run on a kernel without Landlock.
    let _strace = Strace::attach(
        &[slave.pid()],
        &[
            "-e",
            "trace=landlock_create_ruleset",
            "-e",
            "inject=landlock_create_ruleset:error=ENOSYS",
        ],
    );
    for pid in old {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    slave.stderr.wait_for(SOON, "the log warns", |log| {
        log.contains("Landlock is not in force").then_some(())
    });
    eventually(SOON, "the master's status warns", || {
        cluster.status(&[]).stdout.contains("Landlock is not in force").then_some(())
    });
    let client = cluster.client();
    let own = eventually(SOON, "the slave serves", || {
        let own = client.run(&["-c", "status"]);
        (own.status == 0).then_some(own)
    });
    assert!(own.stdout.contains("Landlock is not in force"), "{}", own.stdout);
}

#[test]
fn a_slave_does_not_serve_its_secrets() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    for (option, inside) in [("--state", link.join("state")), ("--cluster-key", root.join("key"))] {
        let slave = ProgramBuilder::new("ftpslave", dir.path()).args(["0", "--root"]).args([
            root.as_path(),
            option.as_ref(),
            &inside,
        ]);
        let refused = Client::finish(&mut slave.start()).fails(2).stderr;
        assert!(refused.contains("lies in the served folder"), "{refused}");
    }
}

#[test]
fn started_as_root_it_serves_as_another_user() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let refused = |user: &str| {
        let setup = ProgramBuilder::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--user", user, "--root"])
            .args([&root]);
        Client::finish(&mut setup.start()).fails(2).stderr
    };
    assert!(refused("nobody-of-that-name").contains("no user"));
    if !geteuid().is_root() {
        assert!(refused("root").contains("another user"));
        return;
    }
    assert!(refused("root").contains("another user"));
    let unprivileged = User::from_name("nobody").unwrap().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&root, Some(unprivileged.uid.as_raw()), Some(unprivileged.gid.as_raw())).unwrap();
    let slave = Standalone::start_in(dir, root.clone(), &["--user", "nobody"], &[]);
    let client = slave.client();
    fs::write(client.folder().join("x"), "content").unwrap();
    client.run(&["-c", "put x"]).ok();
    client.get("x");
    for path in [root.join("x"), root.join(".relais")] {
        assert_eq!(
            fs::metadata(&path).unwrap().uid(),
            unprivileged.uid.as_raw(),
            "{}",
            path.display()
        );
    }
    let supervisor = slave.program.pid();
    for pid in children(supervisor).into_iter().chain([supervisor]) {
        let ids = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
        assert_eq!(status_of(pid, "Uid"), ids(unprivileged.uid.as_raw()));
        assert_eq!(status_of(pid, "Gid"), ids(unprivileged.gid.as_raw()));
        assert_eq!(status_of(pid, "Groups"), unprivileged.gid.to_string());
        assert_eq!(status_of(pid, "CapEff"), "0000000000000000");
    }
    let own = client.command("status").ok().json();
    assert!(own["confined"].as_array().unwrap().contains(&"unprivileged".into()), "{own}");
}

#[test]
fn inherited_descriptors_are_closed() {
    let dir = TestDir::new();
    let (root, secret) = (dir.folder("root"), dir.path().join("secret"));
    fs::write(&secret, "secret").unwrap();
    let mut program = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--standalone", "--root"])
        .args([&root])
        .under(&["sh", "-c", &format!("exec 7<'{}'; exec \"$0\" \"$@\"", secret.display())])
        .start();
    let addr = program.ready();
    // A worker serves this session.
    crate::harness::sessions(addr, 1);
    let supervisor = program.pid();
    for pid in children(supervisor).into_iter().chain([supervisor]) {
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            assert_ne!(fs::read_link(fd.path()).ok().as_ref(), Some(&secret), "{pid}");
        }
    }
}
