//! The command line of `ftpclient`. A contract with scripts; see `--help`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::builder::{PossibleValuesParser, StyledStr, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, ValueHint};
use relais_client::{Config, Destination, Security};
use relais_net::tls::{TlsMode, TrustedAuthorities};
use relais_proto::limits;

/// Headings of `--help`.
const LOGIN: &str = "Login";
const ENCRYPTION: &str = "Encryption";
const TRANSFERS: &str = "Transfers";
const COMMANDS: &str = "Commands";

/// Fetches files from a Relais server and puts files onto it; goes on where it was after any interruption.
///
/// Commands come from -c, from standard input where that is no terminal, or from a prompt;
/// `help` lists them.
#[derive(Debug, Parser)]
#[command(
    name = "ftpclient",
    version,
    after_help = "Exit status: 0 all well, 1 a command failed, 2 usage, 3 no server reached, 4 login refused or needed,\n\
                  5 a transfer was cut and can be resumed, 130 interrupted."
)]
pub struct Args {
    /// Server; also USER@HOST or ftp://HOST. The default port is 2121. An IPv6 address with a port is put in brackets
    #[arg(value_name = "HOST[:PORT]", value_hint = ValueHint::Hostname)]
    host: Destination,
    /// User to log in as [default: asked for at the terminal if the server has accounts]
    #[arg(short, long, help_heading = LOGIN, value_hint = ValueHint::Username)]
    user: Option<String>,
    /// File with the password; one line end at its end is not part of it [default: ask at the terminal]
    #[arg(help_heading = LOGIN, long, value_name = "F", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,
    /// Send the password also over a line that is not encrypted
    #[arg(help_heading = ENCRYPTION, long)]
    insecure: bool,
    /// Which connections are encrypted (TLS): all, those with other machines, or none
    #[arg(help_heading = ENCRYPTION, long, value_name = "WHICH", default_value = "remote", value_parser = PossibleValuesParser::new(TlsMode::NAMES).try_map(|text| text.parse::<TlsMode>()))]
    tls: TlsMode,
    /// Trust the servers that an authority in this file (PEM) has certified, and no others [default: the authority that was met first]
    #[arg(help_heading = ENCRYPTION, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// Local folder of files and of the .log [default: _CLIENTROOT where there is one, else the current folder]
    #[arg(help_heading = TRANSFERS, short = 'd', long = "dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
    /// Run this command; may be given several times
    #[arg(help_heading = COMMANDS, short, long = "command", value_name = "COMMAND", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    command: Vec<String>,
    /// Print one JSON object per command on standard output
    #[arg(help_heading = COMMANDS, long)]
    json: bool,
    /// Go on after a command that failed; the status is the first failure's
    #[arg(help_heading = COMMANDS, long)]
    keep_going: bool,
    /// Begin transfers from the start, and forget what was there of them
    #[arg(help_heading = TRANSFERS, long)]
    no_resume: bool,
    /// How many slaves must hold a file that is put before the put is done: 1 to 64 [default: what the cluster asks for]
    #[arg(help_heading = TRANSFERS, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    copies: Option<u16>,
    /// Seconds to go on trying where no server is reached
    #[arg(help_heading = TRANSFERS, long, value_name = "S", default_value = "5", value_parser = seconds)]
    retry: Duration,
}

impl Args {
    /// Reads the command line. Ends the program with a usage error if it is wrong.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_hint(error).exit())
    }

    /// Returns the library's settings.
    ///
    /// # Errors
    /// A password file or user name that cannot be used.
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
        Ok(Config {
            host: self.host.host,
            user,
            password: self.password_file.as_deref().map(relais_secret::from_file).transpose()?,
            security: Security {
                encrypt: self.tls,
                chosen: self.ca.as_deref().map(authorities).transpose()?,
                insecure: self.insecure,
            },
            folder: self.dir,
            commands: self.command,
            json: self.json,
            keep_going: self.keep_going,
            resume: !self.no_resume,
            copies: self.copies.unwrap_or(0),
            retry: self.retry,
        })
    }
}

/// Adds to the error for a second argument that commands are given with `-c`.
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
    // Whole days of trying are more than anybody waits for; the cap keeps sums of times in range.
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is no number of seconds")),
    }
}
