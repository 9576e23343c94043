//! The commands of a session, one small function for each, in files by family.

mod allocation;
mod changes;
mod checksums;
mod facts;
mod folders;
pub(super) mod help;
pub(super) mod options;
mod parameters;
pub(super) mod protection;
mod session_commands;
mod site;
mod status;

use relais_ftp::{Command, Reply};

use super::session::{CommandResult, FtpSession};
use super::transfer;

/// Runs a command; returns its last reply.
///
/// # Errors
/// The reason why it was not carried out.
pub fn run(ftp: &mut FtpSession, command: Command) -> CommandResult {
    if !matches!(command, Command::Rnto(_)) {
        // RFC 959 section 4.1.3: RNTO follows RNFR immediately.
        ftp.state.rename_from = None;
    }
    match command {
        Command::User(_) | Command::Pass(_) => session_commands::log_in_again(),
        Command::Rein => session_commands::reinitialize(ftp),
        Command::Quit => session_commands::quit(ftp),
        Command::Noop => Ok(Reply::new(200, "NOOP: done")),
        Command::Abor => session_commands::abort(),
        Command::Feat => Ok(ftp.context.features(&ftp.state.settings)),
        Command::Help(topic) => Ok(help::help(topic.as_deref())),
        Command::Syst => Ok(help::system()),
        Command::Stat(None) => status::session_status(ftp),
        Command::Stat(Some(options)) => status::list(ftp, &options),
        Command::Site(command) => site::run(ftp, command),
        Command::Opts(option) => options::set(&mut ftp.state.settings, option),
        Command::Clnt(name) => options::client(ftp.control.stream().peer, &name),
        Command::Host(_) => options::host(),
        Command::Lang => options::language(),
        Command::Auth { .. } => protection::authenticate(),
        Command::Pbsz(_) => {
            let is_encrypted = ftp.control.stream().is_encrypted();
            protection::buffer_size(&mut ftp.state.settings, is_encrypted)
        }
        Command::Prot(level) => {
            let is_encrypted = ftp.control.stream().is_encrypted();
            protection::protect(&mut ftp.state.settings, is_encrypted, level)
        }
        Command::Type(kind) => parameters::transfer_type(ftp, kind),
        Command::Stru => parameters::structure(),
        Command::Mode => parameters::mode(),
        Command::Rest(offset) => parameters::restart(ftp, offset),
        Command::Rang(range) => parameters::range(ftp, range),
        Command::Allo(bytes) => allocation::allocate(ftp, bytes),
        Command::Avbl(path) => allocation::available(ftp, path.as_deref()),
        Command::Cwd(path) => folders::change(ftp, &path),
        Command::Cdup => folders::change(ftp, ".."),
        Command::Pwd => folders::print(ftp),
        Command::Mkd(path) => changes::make_folder(ftp, &path),
        Command::Rmd(path) => changes::remove_folder(ftp, &path),
        Command::Dele(path) => changes::remove_file(ftp, &path),
        Command::Rnfr(path) => changes::rename_from(ftp, &path),
        Command::Rnto(path) => changes::rename_to(ftp, &path),
        Command::Size(path) => facts::size(ftp, &path),
        Command::Mdtm { path, set } => facts::modified(ftp, &path, set),
        Command::Mfmt { mtime, path } => facts::set_modified(ftp, mtime, &path),
        Command::Mlst(path) => facts::list_one(ftp, path.as_deref()),
        Command::Hash(path) => checksums::hash(ftp, &path),
        Command::Checksum { algorithm, path, range } => {
            checksums::checksum(ftp, algorithm, &path, range)
        }
        Command::Pasv
        | Command::Epsv(_)
        | Command::Port(_)
        | Command::Eprt(_)
        | Command::Retr(_)
        | Command::Stor(_)
        | Command::Appe(_)
        | Command::Stou(_)
        | Command::List(_)
        | Command::Nlst(_)
        | Command::Mlsd(_) => transfer::run(ftp, command),
    }
}
