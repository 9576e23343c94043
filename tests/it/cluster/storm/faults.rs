//! Faults of programs and processes during a storm.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Rng;
use crate::harness::{Cluster, children, process_of};

const DEAD: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];
const STILL: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Kills or stops a random program or process and returns a description.
pub fn inject_fault(cluster: &mut Cluster, rng: &mut Rng) -> String {
    let (kills, n) = (rng.below(5) < 3, rng.below(cluster.slaves.len()));
    match rng.below(4) {
        0 if kills => {
            cluster.master.kill();
            sleep(rng.one_of(&DEAD));
            cluster.restart_master();
            "the master is killed".to_owned()
        }
        0 => {
            pause(&[cluster.master.pid()], rng);
            "the master is stopped".to_owned()
        }
        1 if kills => {
            // Its children die with it. It restarts on its port, because the master may be hit
            // next.
            cluster.slaves[n].program.signal(Signal::SIGKILL);
            cluster.slaves[n].program.kill();
            sleep(rng.one_of(&DEAD));
            cluster.restart_slave_on_same_port(n);
            format!("slave {n} is killed")
        }
        1 => {
            let supervisor = cluster.slaves[n].program.pid();
            let mut all = vec![supervisor];
            all.extend(children(supervisor));
            pause(&all, rng);
            format!("slave {n} is stopped")
        }
        part => {
            let program = &cluster.slaves[n].program;
            let (replicator, alive) = (process_of(program, "Replicator"), children(program.pid()));
            let one: Vec<Pid> =
                alive.into_iter().filter(|pid| (*pid == replicator) == (part == 2)).collect();
            let name =
                format!("{} of slave {n}", if part == 2 { "the replicator" } else { "a worker" });
            if one.is_empty() {
                return format!("{name} does not exist");
            }
            let one = rng.one_of(&one);
            if kills {
                send(one, Signal::SIGKILL);
                return format!("{name} is killed");
            }
            pause(&[one], rng);
            format!("{name} is stopped")
        }
    }
}

fn pause(processes: &[Pid], rng: &mut Rng) {
    processes.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    sleep(rng.one_of(&STILL));
    processes.iter().rev().for_each(|pid| send(*pid, Signal::SIGCONT));
}

/// The process may be gone, because a supervisor replaces a hanging one.
fn send(to: Pid, signal: Signal) {
    let _ = kill(to, signal);
}
