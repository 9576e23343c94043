//! The program `ftpmaster`: command line, listener, ready line, master and exit status.

mod args;
mod user;

use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::{ExitCode, exit, id};

use anyhow::{Context, anyhow};
use args::{Args, Command};
use log::LevelFilter;
use nix::sys::signal::{SigSet, Signal};
use relais_auth::{AccountsFile, Authority, ClusterKey, LiveAccounts, StateDir};
use relais_journal::FileJournal;
use relais_master::status::StatusError;
use relais_master::{Certifier, Config, Operation, StopHandle, Store, run, status};
use relais_proto::sanitize;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_BIND: u8 = 3;
/// Size above which the journal is shortened: some 400,000 changes, which load in a few seconds.
const MAX_JOURNAL: u64 = 64 * 1024 * 1024;
/// Clients are served, but a known slave is down or catching up.
const INCOMPLETE: u8 = 4;

fn main() -> ExitCode {
    let args = Args::read();
    let level = if args.command.is_some() { LevelFilter::Warn } else { LevelFilter::Info };
    if let Err(why) = relais_cli::init_logging(level) {
        eprintln!("ftpmaster: {why}");
        return ExitCode::from(USAGE);
    }
    match &args.command {
        Some(Command::Status { json, .. }) => show_status(&args, *json),
        Some(Command::User { what }) => user::run(&args, what),
        Some(command) => operate(&args, command),
        None => serve(&args),
    }
    .unwrap_or_else(|error| {
        eprintln!("ftpmaster: {}", relais_cli::error_text(&error));
        ExitCode::from(FAILED)
    })
}

fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    let stops_on_hangup = relais_cli::stops_on_hangup();
    // Blocked in all later threads; one of them waits for signals. An early signal stays pending.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let bound = relais_net::listen(args.listen()).inspect_err(|error| {
        let why = error.to_string();
        let why = relais_cli::without_os_numbers(&why);
        eprintln!("ftpmaster: cannot listen on {}: {why}", args.listen());
    });
    let Ok(listener) = bound else { return Ok(ExitCode::from(CANNOT_BIND)) };
    let state = StateDir::locate(args.state.clone())?.open_and_lock()?;
    let key = ClusterKey::load_or_create(
        &args.cluster_key.clone().unwrap_or_else(|| state.dir().key_path()),
    )?;
    let cluster = key.cluster_id();
    let journal = FileJournal::open(&state.dir().path().join("journal"), cluster.0)?;
    let store = Store::open(Box::new(journal), state.dir().path(), cluster, MAX_JOURNAL)?;
    let accounts = LiveAccounts::open(AccountsFile::new(state.dir().accounts_path()))?;
    let authority = Authority::load_or_create(state.dir().path())?;
    let certifier = Certifier::new(authority, &args.tls(), args.certificate_life())
        .map_err(|why| anyhow!("cannot encrypt connections: {why}"))?;
    let stop = StopHandle::new()?;
    let handle = stop.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let handle = StopAtEnd(handle);
        while let Ok(signal) = signals.wait() {
            if signal == Signal::SIGHUP && !stops_on_hangup {
                log::info!("{signal}: reloading accounts and certificates");
                handle.0.reload();
                continue;
            }
            log::info!("{signal}");
            if handle.0.request() {
                exit(FAILED.into())
            }
        }
    })?;
    let ready = format!("ready role=master addr={} pid={}\n", listener.local_addr()?, id());
    if let Err(error) = stdout().write_all(ready.as_bytes()).and_then(|()| stdout().flush()) {
        log::warn!("cannot write the ready line: {error}");
    }
    let config = Config {
        store,
        key,
        balance: args.balance(),
        grace: args.grace(),
        copies: args.copies(),
        remember: args.remember(),
        accounts,
        certifier,
    };
    run(listener, config, &stop)?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the master if its signal thread ends, because no signal could stop it any more.
struct StopAtEnd(StopHandle);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        log::error!("the signal thread has ended: the master stops");
        self.0.request();
    }
}

/// The state folder of `make master`, relative to the folder with make's links to the programs.
const STATE_OF_MAKE: &str = "target/relais/cluster";

/// Reads the cluster key for an operator's command.
fn key(args: &Args) -> anyhow::Result<ClusterKey> {
    let named = args.reach().cluster_key().cloned();
    let path = match named.clone() {
        Some(path) => path,
        None => StateDir::locate(args.state.clone())?.key_path(),
    };
    let key = match ClusterKey::load(&path)? {
        None if args.state.is_none() && named.is_none() => key_of_make()?,
        key => key,
    };
    key.with_context(|| {
        format!(
            "there is no cluster key at {}; name the master's with --state or --cluster-key",
            path.display()
        )
    })
}

/// Adds to the error of a wrong key which options name the right one.
fn with_key_hint(args: &Args, error: StatusError) -> anyhow::Error {
    if !error.is_wrong_key() {
        return error.into();
    }
    let hint = if args.reach().cluster_key().is_some() || args.state.is_some() {
        "the named key is not the master's"
    } else {
        "name the master's key with --cluster-key or --state"
    };
    anyhow!("{error}; {hint}")
}

/// Reads the key of `make master` if this program was started through make's link.
fn key_of_make() -> anyhow::Result<Option<ClusterKey>> {
    let started = std::env::args_os().next().map(PathBuf::from);
    let is_link = |path: &PathBuf| path.is_symlink();
    let Some(folder) = started.filter(is_link).and_then(|link| Some(link.parent()?.to_owned()))
    else {
        return Ok(None);
    };
    let state = StateDir::locate(Some(folder.join(STATE_OF_MAKE)))?;
    Ok(ClusterKey::load(&state.key_path())?)
}

fn show_status(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let reach = args.reach();
    let report = status::ask(&reach.master(), &key(args)?, reach.encrypt())
        .map_err(|error| with_key_hint(args, error))?;
    let text = if json { status::json(&report)? + "\n" } else { status::table(&report) };
    relais_cli::print(&text)?;
    Ok(match (report.has_service(), report.is_complete()) {
        (false, _) => ExitCode::from(FAILED),
        (true, false) => ExitCode::from(INCOMPLETE),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn operate(args: &Args, command: &Command) -> anyhow::Result<ExitCode> {
    let operation = match command {
        Command::Status { json, .. } => return show_status(args, *json),
        Command::User { what } => return user::run(args, what),
        Command::Drain { slave, .. } => Operation::Drain(slave.clone()),
        Command::Ready { slave, .. } => Operation::Ready(slave.clone()),
        Command::Forget { slave, .. } => Operation::Forget(slave.clone()),
        Command::Diff { .. } => Operation::Diff,
        Command::Scrub { no_wait, .. } => Operation::Scrub { wait: !no_wait },
        Command::Skipped { .. } => Operation::Skipped,
        Command::Recover { yes, .. } => Operation::Recover { go: *yes },
        Command::Export { .. } => Operation::Export,
    };
    let mut out = BufWriter::new(stdout().lock());
    let mut written = Ok(());
    let prompt = !matches!(command, Command::Export { .. });
    let reach = args.reach();
    let done =
        relais_master::operate(&reach.master(), &key(args)?, reach.encrypt(), operation, |line| {
            if written.is_ok() {
                written = writeln!(out, "{}", sanitize(line))
                    .and_then(|()| if prompt { out.flush() } else { Ok(()) });
            }
        })
        .map_err(|error| with_key_hint(args, error))?;
    relais_cli::unless_closed(written.and_then(|()| out.flush()))?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
