//! The program `ftpmaster`: command line, listener, ready line, master and exit status.

mod args;
mod user;

use std::io::{BufWriter, Write, stdout};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit, id};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use args::{Args, CERTIFICATE, GRACE, MasterCommand, REMEMBER};
use log::LevelFilter;
use nix::sys::signal::{SigSet, Signal};
use relais_auth::{AccountsFile, Authority, ClusterKey, LinkError, LiveAccounts, StateDir};
use relais_journal::FileJournal;
use relais_master::{
    Balance, Certifier, Config, HttpListener, MasterRequest, Operation, OperatorClient,
    OperatorError, Store, run, status,
};
use relais_os::Mailbox;
use relais_proto::sanitize;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_BIND: u8 = 3;
/// Size above which the journal is shortened: some 400,000 changes, which load in a few seconds.
const MAX_JOURNAL: u64 = 64 * 1024 * 1024;
/// Clients are served, but no changes are taken, or a known slave is down or catching up.
const INCOMPLETE: u8 = 4;

fn main() -> ExitCode {
    let args = Args::read();
    let level = if args.command.is_some() { LevelFilter::Warn } else { LevelFilter::Info };
    if let Err(why) = relais_cli::init_logging(level) {
        eprintln!("ftpmaster: {why}");
        return ExitCode::from(USAGE);
    }
    let operation = args.command.as_ref().and_then(MasterCommand::operation);
    match (&args.command, operation) {
        (_, Some((operation, _))) => operate(&args, operation),
        (Some(MasterCommand::Status { json, .. }), _) => show_status(&args, *json),
        (Some(MasterCommand::User { what }), _) => user::run(&args, what),
        (_, None) => serve(&args),
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
    let Some(listener) = bind(args.listen()) else { return Ok(ExitCode::from(CANNOT_BIND)) };
    let mut http = Vec::new();
    for (address, encrypted) in args.http_listeners() {
        let Some(socket) = bind(&address) else { return Ok(ExitCode::from(CANNOT_BIND)) };
        http.push(HttpListener { socket, encrypted });
    }
    let state = StateDir::locate(args.state.clone())?;
    let _lock = state.create_and_lock()?;
    let key =
        ClusterKey::load_or_create(&args.cluster_key.clone().unwrap_or_else(|| state.key_path()))?;
    let cluster = key.cluster_id();
    let journal = FileJournal::open(&state.path.join("journal"), cluster.0)?;
    let store = Store::open(Box::new(journal), &state.path, cluster, None, MAX_JOURNAL)?;
    let accounts = LiveAccounts::open(AccountsFile::new(state.accounts_path()))?;
    let authority = Authority::load_or_create(&state.path)?;
    let certifier =
        Certifier::new(authority, &args.tls(), args.certificate_days.unwrap_or(CERTIFICATE))
            .map_err(|why| anyhow!("cannot encrypt connections: {why}"))?;
    let (sender, requests) = Mailbox::new()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut is_stopping = false;
        while let Ok(signal) = signals.wait() {
            if signal == Signal::SIGHUP && !stops_on_hangup {
                log::info!("{signal}: reloading accounts and certificates");
                sender.send(MasterRequest::Reload);
                continue;
            }
            log::info!("{signal}");
            if std::mem::replace(&mut is_stopping, true) {
                exit(FAILED.into())
            }
            sender.send(MasterRequest::Stop);
        }
        // No signal could stop the master any more.
        log::error!("the signal thread has ended: the master stops");
        sender.send(MasterRequest::Stop);
    })?;
    let mut ready = format!("ready role=master addr={} pid={}\n", listener.local_addr()?, id());
    for HttpListener { socket, encrypted } in &http {
        let (protocol, addr) = (if *encrypted { "https" } else { "http" }, socket.local_addr()?);
        ready += &format!("ready role=master protocol={protocol} addr={addr} pid={}\n", id());
    }
    if let Err(error) = stdout().write_all(ready.as_bytes()).and_then(|()| stdout().flush()) {
        log::warn!("cannot write the ready line: {error}");
    }
    let config = Config {
        key,
        balance: args.balance.map_or(Balance::RoundRobin, Into::into),
        grace: Duration::from_secs(args.grace.unwrap_or(GRACE)),
        copies: args.copies.unwrap_or(1),
        remember: Duration::from_secs(args.remember.unwrap_or(REMEMBER) * 24 * 60 * 60),
        accounts: Arc::new(accounts),
        certifier,
        http: args.http_config()?,
        log_outs: state.path.join("log-outs"),
    };
    run(listener, http, store, config, &requests)?;
    Ok(ExitCode::SUCCESS)
}

/// Binds a listener; prints the reason if that fails.
fn bind(address: &str) -> Option<TcpListener> {
    relais_net::listen(address)
        .inspect_err(|error| {
            let why = error.to_string();
            let why = relais_cli::without_os_numbers(&why);
            eprintln!("ftpmaster: cannot listen on {address}: {why}");
        })
        .ok()
}

/// The state folder of `make master`, relative to the folder with make's links to the programs.
const STATE_OF_MAKE: &str = "target/relais/cluster";

/// Reads the cluster key for an operator's command. `named` is the file that an option names.
fn key(args: &Args, named: Option<&Path>) -> anyhow::Result<ClusterKey> {
    let path = match named {
        Some(path) => path.to_owned(),
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

/// Connects to the master. The error of a wrong key tells which options name the right one.
fn connect(args: &Args) -> anyhow::Result<OperatorClient> {
    let reach = args.reach();
    let named = reach.cluster_key.as_deref();
    let key = key(args, named)?;
    OperatorClient::connect(&reach.master(), &key, reach.tls.unwrap_or_default()).map_err(|error| {
        let hint = match error {
            OperatorError::Link { cause: LinkError::BadProof, .. }
                if named.or(args.state.as_deref()).is_some() =>
            {
                "the named key is not the master's"
            }
            OperatorError::Link { cause: LinkError::BadProof, .. } => {
                "name the master's key with --cluster-key or --state"
            }
            _ => return error.into(),
        };
        anyhow!("{error}; {hint}")
    })
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
    let report = connect(args)?.report()?;
    let text = if json { status::json(&report)? + "\n" } else { status::table(&report) };
    relais_cli::print(&text)?;
    Ok(match (report.has_service(), report.is_complete()) {
        (false, _) => ExitCode::from(FAILED),
        (true, false) => ExitCode::from(INCOMPLETE),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn operate(args: &Args, operation: Operation) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(stdout().lock());
    let mut written = Ok(());
    let prompt = operation != Operation::Export;
    let done = connect(args)?.operate(operation, |line| {
        if written.is_ok() {
            written = writeln!(out, "{}", sanitize(line))
                .and_then(|()| if prompt { out.flush() } else { Ok(()) });
        }
    })?;
    relais_cli::unless_closed(written.and_then(|()| out.flush()))?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
