//! The command line of `ftpclient`. It is a contract with scripts; see `--help`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::builder::{PossibleValuesParser, StyledStr, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, ValueHint};
use relais_client::{Config, Destination, Settings};
use relais_net::tls::{TlsMode, TrustedAuthorities};
use relais_proto::limits;

/// Headings of `--help`.
const LOGIN: &str = "Login";
const ENCRYPTION: &str = "Encryption";
const TRANSFERS: &str = "Transfers";
const SCRIPTS: &str = "Scripts";

/// Fetches files from a Relais server and sends files to it. Interrupted transfers are resumed.
///
/// Commands come from -c, from standard input if it is not a terminal, or from a prompt. The
/// command `help` lists them.
#[derive(Debug, Parser)]
#[command(
    name = "ftpclient",
    version,
    after_help = "Exit status: 0 success, 1 a command failed, 2 usage error, 3 no server reached,\n\
                  4 login refused or needed, 5 a transfer was cut and can be resumed,\n\
                  130 interrupted."
)]
pub struct Args {
    /// Server; also USER@HOST or ftp://HOST. The default port is 2121. An IPv6 address with a port
    /// needs brackets
    #[arg(value_name = "HOST[:PORT]", value_hint = ValueHint::Hostname)]
    host: Destination,
    /// User to log in as [default: asked for at the terminal if the server has accounts]
    #[arg(short, long, help_heading = LOGIN, value_hint = ValueHint::Username)]
    user: Option<String>,
    /// File with the password, without one trailing line end [default: ask at the terminal]
    #[arg(help_heading = LOGIN, long, value_name = "F", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,
    /// Send the password even over a connection that is not encrypted
    #[arg(help_heading = ENCRYPTION, long)]
    insecure: bool,
    /// Which connections are encrypted (TLS): all, those with other machines, or none
    #[arg(
        help_heading = ENCRYPTION,
        long,
        value_name = "WHICH",
        default_value = "remote",
        value_parser = PossibleValuesParser::new(TlsMode::NAMES)
            .try_map(|text| text.parse::<TlsMode>()),
    )]
    tls: TlsMode,
    /// Trust only servers that an authority in this file (PEM) has certified [default: the
    /// authority that was met first]
    #[arg(
        help_heading = ENCRYPTION, long, value_name = "FILE", value_hint = ValueHint::FilePath,
    )]
    ca: Option<PathBuf>,
    /// Local folder of files and of the .log [default: _CLIENTROOT if it exists, else the current
    /// folder]
    #[arg(
        help_heading = TRANSFERS, short, long,
        value_hint = ValueHint::DirPath,
    )]
    dir: Option<PathBuf>,
    /// Run this command; may be given several times
    #[arg(
        help_heading = SCRIPTS, short, long,
        allow_hyphen_values = true, value_hint = ValueHint::Other,
    )]
    command: Vec<String>,
    /// Print one JSON object per command on standard output
    #[arg(help_heading = SCRIPTS, long)]
    json: bool,
    /// Continue after a failed command; the exit status is that of the first failure
    #[arg(help_heading = SCRIPTS, long)]
    keep_going: bool,
    /// Start transfers from the beginning, and ignore what earlier ones left
    #[arg(help_heading = TRANSFERS, long)]
    no_resume: bool,
    /// How many slaves must hold a file before its put is done: 1 to 64 [default: as the cluster
    /// demands]
    #[arg(
        help_heading = TRANSFERS, long, value_name = "N",
        value_parser = relais_cli::number_in(1..=64_u16),
    )]
    copies: Option<u16>,
    /// How many connections a large download may use: 1 to 64. More than one are used only if that
    /// is faster
    #[arg(
        help_heading = TRANSFERS, long, value_name = "N", default_value = "8",
        value_parser = relais_cli::number_in(1..=64_u16),
    )]
    streams: u16,
    /// How many seconds to retry while no server can be reached
    #[arg(
        help_heading = TRANSFERS, long, value_name = "S", default_value = "5",
        value_parser = seconds,
    )]
    retry: Duration,
}

impl Args {
    /// Parses the command line; a usage error ends the program.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_hint(error).exit())
    }

    /// Converts the arguments into the library's configuration.
    ///
    /// # Errors
    /// The password file or the user name cannot be used.
    pub fn into_config(self) -> Result<Config> {
        let user = match (self.user, self.host.user) {
            (Some(option), Some(target)) if option != target => {
                bail!("two users are given: {option} with -u and {target} before the @")
            }
            (option, target) => option.or(target).unwrap_or_default(),
        };
        if user.len() > limits::USER || user.contains(char::is_control) {
            bail!("the user name is too long or holds a control character");
        }
        let session = Settings {
            host: self.host.host,
            user,
            password: self.password_file.as_deref().map(relais_secret::from_file).transpose()?,
            encrypt: self.tls,
            authorities: self.ca.as_deref().map(authorities).transpose()?,
            insecure: self.insecure,
            retry: self.retry,
            streams: self.streams.into(),
        };
        Ok(Config {
            session,
            folder: self.dir,
            commands: self.command,
            json: self.json,
            keep_going: self.keep_going,
            resume: !self.no_resume,
            copies: self.copies.unwrap_or(0),
        })
    }
}

/// Adds a hint to the error for a second argument: commands are given with `-c`.
fn with_hint(mut error: clap::Error) -> clap::Error {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg).cloned())
        && !word.starts_with('-')
    {
        let hint = format!("commands are given with -c, as in: ftpclient HOST -c '{word}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(hint)]));
    }
    error
}

fn authorities(file: &Path) -> Result<TrustedAuthorities> {
    TrustedAuthorities::from_file(file).map_err(|e| anyhow!("{}: {e}", file.display()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    // The cap keeps sums of times in range.
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is not a number of seconds")),
    }
}
