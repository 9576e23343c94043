//! What keeps a worker that somebody has taken over from doing harm: it has no rights but its user's, sees no files but those that it
//! serves and the few that it needs, gains no rights from any program, and leaves no core with what it knew.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use log::warn;
use relais_proto::Confinement;
use relais_tree::Folder;

/// Where names of hosts are looked up, and the libraries that do it.
const SYSTEM: [&str; 5] = ["/etc", "/usr/lib", "/lib", "/lib64", "/run/systemd/resolve"];

/// Confines this thread and those that it will start: only what is below `folder` can be changed, and besides only what is below `read`, and
/// what the system needs, can be read; with none, nobody knows what will have to be read, and there is no such fence. Must be called
/// before there are other threads. Whatever the kernel does not have is logged, and missing in the answer.
#[must_use]
pub fn confine(folder: &Folder, read: Option<&[PathBuf]>) -> Confinement {
    let steps = [
        (Confinement::UNPRIVILEGED, Ok(!rustix::process::geteuid().is_root())),
        (Confinement::NO_NEW_PRIVILEGES, nix::sys::prctl::set_no_new_privs().map(|()| true).map_err(|e| e.to_string())),
        (Confinement::NO_CORE_DUMPS, nix::sys::prctl::set_dumpable(false).map(|()| true).map_err(|e| e.to_string())),
        (Confinement::FOLDER, read.map_or(Ok(false), |read| fence(folder, read)).map_err(|e| e.to_string())),
    ];
    let mut all = Confinement::default();
    for (what, done) in steps {
        match done {
            Ok(true) => all = all.with(what),
            Ok(false) => {}
            Err(e) => warn!("a worker cannot be confined ({}): {e}", what.names().join(", ")),
        }
    }
    all
}

/// Whether the kernel lets this thread see nothing else from here on.
fn fence(folder: &Folder, read: &[PathBuf]) -> Result<bool, RulesetError> {
    let abi = ABI::V5;
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(abi))?.create()?;
    // Programs and devices have no business in a served folder.
    let unwanted: BitFlags<AccessFs> = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    rules = rules.add_rule(PathBeneath::new(folder, AccessFs::from_all(abi) & !unwanted))?;
    for path in SYSTEM.iter().map(PathBuf::from).chain(read.iter().cloned()) {
        // What is not there need not be seen.
        if let Ok(opened) = PathFd::new(&path) {
            rules = rules.add_rule(PathBeneath::new(opened, AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    #[test]
    fn nothing_else_is_seen_or_changed() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for folder in ["served", "served/below", "read", "other"] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("file"), folder).unwrap();
        }
        let folder = Folder::open(&at("served")).unwrap();
        let tried = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let how = confine(&folder, Some(&[at("read")]));
                let denied = |result: std::io::Result<()>| result.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
                let own = fs::read(at("served/below/file")).is_ok()
                    && fs::write(at("served/new"), "x").is_ok()
                    && fs::rename(at("served/new"), at("served/below/new")).is_ok()
                    && fs::remove_file(at("served/below/new")).is_ok();
                let read = fs::read(at("read/file")).is_ok() && denied(fs::write(at("read/file"), "x"));
                let other = [
                    denied(fs::read(at("other/file")).map(drop)),
                    denied(fs::write(at("other/new"), "x")),
                    denied(fs::remove_file(at("other/file"))),
                    denied(fs::rename(at("served/file"), at("other/moved"))),
                    denied(fs::read_dir(temp.path()).map(drop)),
                    denied(fs::read("/proc/version").map(drop)),
                ];
                let program = Command::new("/bin/true").status().map(drop);
                (how, own, read, other, denied(program))
            });
            confined.join().unwrap()
        });
        let (how, own, read, other, program) = tried;
        assert!(own && read, "what it needs");
        if how.names().contains(&"folder") {
            assert_eq!((other, program), ([true; 6], true), "what it does not need, and programs");
        } else {
            eprintln!("this kernel has no Landlock");
        }
        assert!(how.names().contains(&"no-new-privileges") && how.names().contains(&"no-core-dumps"));
        assert!(fs::read(at("other/file")).is_ok(), "other threads are as they were");
    }
}
