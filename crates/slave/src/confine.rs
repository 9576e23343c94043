//! Confines workers, so that a compromised worker can do little harm.
//!
//! A worker has only its user's rights, gains none from any program, and leaves no core dump with
//! secrets. It sees only the served files and the few system files that it needs. It may not use
//! system calls by which processes inspect or end each other. It may not use parts of the kernel
//! that serving files does not need.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};
use log::warn;
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use relais_proto::Confinement;
use relais_tree::Folder;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Files for the look-up of host names, and the libraries that do it.
const SYSTEM_PATHS: [&str; 5] = ["/etc", "/usr/lib", "/lib", "/lib64", "/run/systemd/resolve"];

/// System calls that a worker has no use for.
///
/// A call that is not listed is allowed, because a list of all calls that the libraries make today
/// would be wrong tomorrow.
const DENIED_CALLS: &[libc::c_long] = &[
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    // Other views of the file system.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    // Parts of the kernel with many past vulnerabilities.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// Confines this thread and the threads that it starts later; returns what is in force.
///
/// Below `folder` everything may be changed; besides that, only the system files are readable. Call
/// it while there are no other threads. What the kernel does not support is missing from the
/// result.
#[must_use]
pub fn confine(folder: &Folder) -> Confinement {
    let done = |result: nix::Result<()>| result.map(|()| true).map_err(|e| e.to_string());
    let steps = [
        (Confinement::UNPRIVILEGED, Ok(!rustix::process::geteuid().is_root())),
        (Confinement::NO_NEW_PRIVILEGES, done(set_no_new_privs())),
        (Confinement::NO_CORE_DUMPS, done(set_dumpable(false))),
        (Confinement::FOLDER, restrict_files(folder).map_err(|e| e.to_string())),
        // This is the last step, because the filter blocks the others on some kernels.
        (Confinement::SYSTEM_CALLS, filter_calls().map_err(|e| e.to_string())),
    ];
    let mut all = Confinement::default();
    for (what, result) in steps {
        match result {
            Ok(true) => all = all.with(what),
            Ok(false) => {}
            Err(e) => warn!("cannot confine a worker ({}): {e}", what.names().join(", ")),
        }
    }
    all
}

/// Restricts file access with Landlock; false if this kernel has no Landlock.
fn restrict_files(folder: &Folder) -> Result<bool, RulesetError> {
    let abi = ABI::V5;
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(abi))?.create()?;
    // A served folder needs no programs and no devices.
    let unwanted: BitFlags<AccessFs> =
        AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    rules = rules.add_rule(PathBeneath::new(folder, AccessFs::from_all(abi) & !unwanted))?;
    for path in SYSTEM_PATHS {
        // A path that does not exist needs no rule.
        if let Ok(opened) = PathFd::new(path) {
            rules =
                rules.add_rule(PathBeneath::new(opened, AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Denies the listed system calls with seccomp; false on an unsupported architecture.
fn filter_calls() -> Result<bool, seccompiler::Error> {
    // The library knows the call numbers of a few architectures only.
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    // A process that aborts sends a signal to itself, which stays allowed.
    rules.insert(libc::SYS_tgkill, vec![foreign_signal()?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()?;
    seccompiler::apply_filter(&program).map(|()| true)
}

/// Returns the rule for a signal to a thread of another process.
fn foreign_signal() -> Result<SeccompRule, BackendError> {
    let own = u64::from(std::process::id());
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Ne,
        own,
    )?])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    #[test]
    fn confined_threads_reach_only_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for folder in ["served", "served/below", "other"] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("file"), folder).unwrap();
        }
        let folder = Folder::open(&at("served")).unwrap();
        let tried = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let how = confine(&folder);
                let denied = |result: std::io::Result<()>| {
                    result.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
                };
                let own = fs::read(at("served/below/file")).is_ok()
                    && fs::write(at("served/new"), "x").is_ok()
                    && fs::rename(at("served/new"), at("served/below/new")).is_ok()
                    && fs::remove_file(at("served/below/new")).is_ok();
                let read = fs::read("/etc/passwd").is_ok() && denied(fs::write("/etc/new", "x"));
                let other = [
                    denied(fs::read(at("other/file")).map(drop)),
                    denied(fs::write(at("other/new"), "x")),
                    denied(fs::remove_file(at("other/file"))),
                    denied(fs::rename(at("served/file"), at("other/moved"))),
                    denied(fs::read_dir(temp.path()).map(drop)),
                    denied(fs::read("/proc/version").map(drop)),
                ];
                let program = Command::new("/bin/true").status().map(drop);
                // Signal 0 only checks whether a signal could be sent.
                let signal = nix::sys::signal::kill(nix::unistd::getppid(), None)
                    .is_err_and(|e| e == nix::errno::Errno::EPERM);
                (how, own, read, other, denied(program) && signal)
            });
            confined.join().unwrap()
        });
        let (how, own, read, other, program) = tried;
        assert!(own && read, "the served folder and system files are accessible");
        if how.names().contains(&"folder") {
            assert_eq!(
                (other, program),
                ([true; 6], true),
                "other files, programs and signals are denied"
            );
        } else {
            eprintln!("this kernel has no Landlock");
        }
        assert!(
            how.names().contains(&"no-new-privileges") && how.names().contains(&"no-core-dumps")
        );
        assert!(fs::read(at("other/file")).is_ok(), "other threads are not confined");
    }
}
