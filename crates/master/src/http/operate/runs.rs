//! The operations that were started by the web page: their threads, lines and results.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use log::Level;
use parking_lot::Mutex;
use relais_cluster::ConnectionAddrs;
use relais_proto::{ErrorCode, Refusal, SlaveId};

use super::kind::OperationKind;
use crate::core::Core;
use crate::operate::{self, OperationResult, OperatorOutput};

/// The path of the latest operations.
pub(super) const RUNS: &str = "/-/status/actions";
/// Most operations that run at a time.
const RUNNING: usize = 4;
/// Most operations whose lines are kept.
const KEPT: usize = 32;
/// Most bytes of lines that are kept of one operation.
const OUTPUT: usize = 256 * 1024;

/// The latest operations, oldest first.
#[derive(Default)]
pub(in crate::http) struct OperationRuns(Mutex<RunList>);

#[derive(Default)]
struct RunList {
    /// The number of the last one.
    last: u64,
    runs: VecDeque<Arc<OperationRun>>,
}

/// An operation that was started.
pub(super) struct OperationRun {
    pub number: u64,
    pub kind: OperationKind,
    pub slave: Option<SlaveId>,
    pub user: String,
    state: Mutex<RunState>,
}

/// How far an operation is.
#[derive(Clone, Default)]
pub(super) struct RunState {
    /// Its lines, each with a line end.
    pub lines: String,
    /// Whether there were more lines than are kept.
    pub is_cut: bool,
    /// The last line; none while it runs.
    pub result: Option<OperationResult>,
}

impl OperationRun {
    /// Returns how far it is.
    pub fn state(&self) -> RunState {
        self.state.lock().clone()
    }

    /// Runs the operation, whose result is recorded as an event.
    fn run(&self, core: &Core, asker: ConnectionAddrs) {
        let operation = self.kind.operation(self.slave);
        let result = operate::run(core, asker, &operation, &mut &self.state);
        let (level, line) = match &result {
            Ok(line) => (Level::Info, line),
            Err(line) => (Level::Warn, line),
        };
        let (name, user) = (self.kind.name(), &self.user);
        core.events.record(level, format!("http: {name} of user {user}: {line}"));
        self.state.lock().result = Some(result);
    }
}

/// The output is kept, whether or not a browser looks.
impl OperatorOutput for &Mutex<RunState> {
    fn line(&mut self, line: String) -> bool {
        let mut state = self.lock();
        if state.lines.len() + line.len() < OUTPUT {
            state.lines.push_str(&line);
            state.lines.push('\n');
        } else {
            state.is_cut = true;
        }
        true
    }

    fn flush(&mut self) -> bool {
        true
    }
}

/// Gives a run a result, even if its thread has panicked.
struct RunGuard(Arc<OperationRun>);

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.0.state.lock().result.get_or_insert_with(|| Err("it failed".to_owned()));
    }
}

impl OperationRuns {
    /// Starts an operation in a thread of its own, and returns its number.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if too many run, or there is no thread.
    pub(super) fn start(
        &self,
        core: &Arc<Core>,
        asker: ConnectionAddrs,
        kind: OperationKind,
        slave: Option<SlaveId>,
        user: &str,
    ) -> Result<u64, Refusal> {
        let run = self.add(kind, slave, user)?;
        let (guard, core) = (RunGuard(Arc::clone(&run)), Arc::clone(core));
        let started = thread::Builder::new()
            .name("operation".to_owned())
            .spawn(move || guard.0.run(&core, asker));
        started.map_err(|e| Refusal::new(ErrorCode::Busy, format!("no thread: {e}")))?;
        Ok(run.number)
    }

    fn add(
        &self,
        kind: OperationKind,
        slave: Option<SlaveId>,
        user: &str,
    ) -> Result<Arc<OperationRun>, Refusal> {
        let mut list = self.0.lock();
        let is_running = |run: &&Arc<OperationRun>| run.state.lock().result.is_none();
        if list.runs.iter().filter(is_running).count() >= RUNNING {
            let why = "other operations run; wait until one has ended";
            return Err(Refusal::new(ErrorCode::Busy, why));
        }
        if list.runs.len() >= KEPT
            && let Some(ended) = list.runs.iter().position(|run| !is_running(&run))
        {
            list.runs.remove(ended);
        }
        list.last += 1;
        let (number, user, state) = (list.last, user.to_owned(), Mutex::default());
        let run = Arc::new(OperationRun { number, kind, slave, user, state });
        list.runs.push_back(Arc::clone(&run));
        Ok(run)
    }

    /// Returns the operation with a number, if it is kept.
    pub(super) fn get(&self, number: u64) -> Option<Arc<OperationRun>> {
        self.0.lock().runs.iter().find(|run| run.number == number).cloned()
    }

    /// Returns the kept operations, newest first.
    pub(super) fn all(&self) -> Vec<Arc<OperationRun>> {
        self.0.lock().runs.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(run: &OperationRun) {
        run.state.lock().result = Some(Ok("done".to_owned()));
    }

    #[test]
    fn few_operations_run_at_a_time_and_the_latest_are_kept() {
        let runs = OperationRuns::default();
        let add = || runs.add(OperationKind::Diff, None, "ann");
        let first: Vec<_> = (0..RUNNING).map(|_| add().unwrap()).collect();
        assert_eq!(add().err().unwrap().code, ErrorCode::Busy);
        first.iter().for_each(|run| end(run));
        for _ in 0..KEPT {
            end(&add().unwrap());
        }
        assert!(runs.get(1).is_none() && runs.get(36).is_some());
        assert_eq!((runs.all().len(), runs.all()[0].number), (KEPT, 36));
    }

    #[test]
    fn lines_are_kept_up_to_a_size() {
        let state = Mutex::<RunState>::default();
        let mut output = &state;
        assert!(output.line("x".to_owned()) && output.flush());
        assert!(!state.lock().is_cut);
        assert!(output.line("y".repeat(OUTPUT)) && output.line("z".to_owned()));
        let state = state.lock();
        assert!(state.is_cut);
        assert_eq!(state.lines, "x\nz\n");
    }

    #[test]
    fn a_run_whose_thread_has_panicked_has_failed() {
        let runs = OperationRuns::default();
        let run = runs.add(OperationKind::Scrub, None, "ann").unwrap();
        drop(RunGuard(Arc::clone(&run)));
        assert!(run.state().result.unwrap().is_err());
    }
}
