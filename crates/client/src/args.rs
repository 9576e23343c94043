//! The command line of `ftpclient`. A contract with scripts; see `--help`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueHint};
use relais_client::{Config, Host, Security};
use relais_net::tls::{Authorities, Encrypt};
use relais_proto::limits;

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
    /// The server; the port is 2121 where none is given, an IPv6 address with a port is put in brackets
    #[arg(value_name = "HOST[:PORT]", value_hint = ValueHint::Hostname)]
    host: Host,
    /// User to log in as
    #[arg(short, long, default_value = "", hide_default_value = true, value_hint = ValueHint::Username)]
    user: String,
    /// File with the password; one line end at its end is not part of it [default: ask at the terminal]
    #[arg(long, value_name = "F", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,
    /// Send the password also over a line that is not encrypted
    #[arg(long)]
    insecure: bool,
    /// Which connections are encrypted (TLS): all, those with other machines, or none
    #[arg(long, value_name = "WHICH", default_value = "remote", value_parser = PossibleValuesParser::new(Encrypt::NAMES).try_map(|text| text.parse::<Encrypt>()))]
    tls: Encrypt,
    /// Trust the servers that an authority in this file (PEM) has certified, and no others [default: the authority that was met first]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// Local folder of files and of the .log [default: _CLIENTROOT where there is one, else the current folder]
    #[arg(short = 'd', long = "dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
    /// Run this command; may be given several times
    #[arg(short, long = "command", value_name = "COMMAND", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    command: Vec<String>,
    /// Print one JSON object per command on standard output
    #[arg(long)]
    json: bool,
    /// Go on after a command that failed; the status is the first failure's
    #[arg(long)]
    keep_going: bool,
    /// Begin transfers from the start, and forget what was there of them
    #[arg(long)]
    no_resume: bool,
    /// How many slaves must hold a file that is put before the put is done: 1 to 64 [default: what the cluster asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    copies: Option<u16>,
    /// Seconds to go on trying where no server is reached
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    retry: Duration,
}

impl Args {
    /// What the library runs on.
    ///
    /// # Errors
    /// A password file or user name that cannot be used.
    pub fn into_config(self) -> Result<Config> {
        if self.user.len() > limits::USER || self.user.contains(char::is_control) {
            bail!("the user name is too long or holds a control character");
        }
        Ok(Config {
            host: self.host,
            user: self.user,
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

fn authorities(file: &Path) -> Result<Authorities> {
    Authorities::from_file(file).map_err(|e| anyhow!("{}: {e}", file.display()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    // Whole days of trying are more than anybody waits for; the cap keeps sums of times in range.
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is no number of seconds")),
    }
}
