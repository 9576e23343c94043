//! `ftpslave`: serves a folder through a pool of processes.

mod args;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Parser;
use relais_auth::StateDirError;
use relais_slave::privileges::{Inherited, become_user, check_user};
use relais_slave::{ExitReason, Listener, Listeners, Protocol, Slave};

/// Exit status if the slave cannot listen on its address.
const CANNOT_BIND: u8 = 3;
/// How long to retry while the address is in use.
const BIND_TIMEOUT: Duration = Duration::from_secs(1);
/// Exit status for a wrong command line; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let inherited = Inherited::find();
    let args = args::Args::parse();
    if let Err(why) = relais_cli::init_logging(log::LevelFilter::Info) {
        eprintln!("ftpslave: {why}");
        return ExitCode::from(USAGE);
    }
    match run(args, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, error)) => {
            log::error!("{}", relais_cli::error_text(&error));
            ExitCode::from(status)
        }
    }
}

/// An error, and the exit status that follows.
struct Failure(u8, anyhow::Error);

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(1, error.into())
    }
}

fn run(args: args::Args, inherited: io::Result<Inherited>) -> Result<(), Failure> {
    let inherited = inherited?;
    let stops_on_hangup = relais_cli::stops_on_hangup();
    let (address, others) = (args.address(), args.other_addresses());
    let user = args.user.clone();
    let config =
        args.config().map_err(|e| Failure(if e.is::<StateDirError>() { 1 } else { USAGE }, e))?;
    config.check().map_err(|why| Failure(USAGE, anyhow!(why)))?;
    if let Some(user) = &user {
        check_user(user).map_err(|e| Failure(USAGE, e.into()))?;
    }
    let listeners = listen_on_all(address, &others).map_err(|e| Failure(CANNOT_BIND, e))?;
    // Drop privileges first: the slave's files must belong to the user that it serves as.
    match user {
        Some(user) => become_user(&user)?,
        None if nix::unistd::geteuid().is_root() => {
            log::warn!(
                "this slave serves as root; use --user to drop the rights that it does not need"
            )
        }
        None => {}
    }
    let slave = Slave::new(config, listeners.native_address()?.port())?;
    inherited.close();
    print_ready(&listeners)?;
    match slave.run(listeners, stops_on_hangup)? {
        ExitReason::Stopped => Ok(()),
        ExitReason::IdsReplaced => Err(restart().into()),
    }
}

/// Prints a line for each listener; that of native clients is the first and names no protocol.
fn print_ready(listeners: &Listeners) -> io::Result<()> {
    let mut text = String::new();
    for (protocol, addr) in listeners.addresses()? {
        let protocol = match protocol {
            Protocol::Native => String::new(),
            other => format!(" protocol={}", other.name()),
        };
        text += &format!("ready role=slave{protocol} addr={addr} pid={}\n", std::process::id());
    }
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn listen_on_all(
    native: SocketAddr,
    others: &[(Protocol, SocketAddr)],
) -> anyhow::Result<Listeners> {
    let listen = |addr| listen(addr).with_context(|| format!("cannot listen on {addr}"));
    let native = listen(native)?;
    let others = others
        .iter()
        .map(|(protocol, addr)| Ok(Listener { protocol: *protocol, socket: listen(*addr)? }));
    Ok(Listeners::new(native, others.collect::<anyhow::Result<_>>()?))
}

/// Listens, and retries for a moment while the address is in use.
///
/// The processes of a slave that was killed hold the address until they have died.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let until = Instant::now() + BIND_TIMEOUT;
    loop {
        match relais_net::listen(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(BIND_TIMEOUT / 50)
            }
            result => return result,
        }
    }
}

/// Replaces this process by the same program with the same arguments.
///
/// Returns only if that fails.
fn restart() -> std::io::Error {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    std::process::Command::new("/proc/self/exe").arg0(name).args(args).exec()
}
