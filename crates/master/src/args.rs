//! The command line of `ftpmaster`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use relais_auth::{MetricsToken, check_user_name};
use relais_master::{Balance, ClearPasswords, HttpConfig, Operation};
use relais_net::Host;
use relais_net::tls::{TlsMode, TlsOptions};
use relais_proto::{TreePath, sanitize};

/// The default address of a master, for its listener and for commands.
const ADDRESS: &str = "127.0.0.1:2121";
/// Default of `--grace`, in seconds.
pub const GRACE: u64 = 5;
/// Default of `--remember`, in days.
pub const REMEMBER: u64 = 180;
/// Default lifetime of a certificate.
pub const CERTIFICATE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Headings of `--help`.
const NETWORK: &str = "Network and encryption";
const CLUSTER: &str = "Cluster";
const HTTP: &str = "HTTP";
const SYSTEM: &str = "System";

/// Sends each client to the next slave in turn.
#[derive(Debug, Parser)]
#[command(
    name = "ftpmaster",
    version,
    after_help = "Exit status: 0 after a clean stop, 1 failure, 2 wrong usage, 3 cannot listen, \
                  4 for status: no changes are taken, or a slave is down or catching up."
)]
pub struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:2121]
    #[arg(help_heading = NETWORK, long, value_name = "ADDR:PORT", value_parser = host_and_port)]
    listen: Option<String>,
    /// How long logins under way may take after a signal to stop [default: 5]
    #[arg(
        help_heading = SYSTEM,
        long,
        value_name = "SECONDS",
        value_parser = relais_cli::number_in(0..=86_400_u64)
    )]
    pub grace: Option<u64>,
    /// How clients are spread over the slaves [default: round-robin]
    #[arg(help_heading = CLUSTER, long, value_enum)]
    pub balance: Option<BalanceArg>,
    /// Disks that must hold a file before its put is answered; clients can ask for others [default:
    /// 1]
    #[arg(
        help_heading = CLUSTER,
        long,
        value_name = "N",
        value_parser = relais_cli::number_in(1..=64_u16)
    )]
    pub copies: Option<u16>,
    /// How long removal records are kept, which keep old copies of removed and replaced files out
    /// [default: 180]
    #[arg(
        help_heading = CLUSTER,
        long,
        value_name = "DAYS",
        value_parser = relais_cli::number_in(1..=36_500_u64)
    )]
    pub remember: Option<u64>,
    /// Redirect HTTP clients to slaves, on this port; the address is that of --listen if none is
    /// given
    #[arg(help_heading = HTTP, long, value_name = "[ADDR:]PORT")]
    http: Option<HttpAddress>,
    /// Redirect HTTPS clients, on this port
    #[arg(help_heading = HTTP, long, value_name = "[ADDR:]PORT")]
    https: Option<HttpAddress>,
    /// Host name by which HTTP clients may reach the master, beside addresses and localhost; can be
    /// repeated
    #[arg(help_heading = HTTP, long, value_name = "NAME", value_parser = host_name)]
    http_host: Vec<String>,
    /// Where HTTP clients may send passwords without TLS [default: tls]
    #[arg(help_heading = HTTP, long, value_name = "RULE", value_enum)]
    http_passwords: Option<ClearPasswordsArg>,
    /// File with the token by which other hosts may read the metrics and the status page
    #[arg(help_heading = HTTP, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    metrics_token_file: Option<PathBuf>,
    /// Use this certificate instead of one of the cluster: PEM, the authority's certificate last
    #[arg(help_heading = NETWORK, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, if it is not in the same file
    #[arg(
        help_heading = NETWORK,
        long,
        value_name = "FILE",
        requires = "tls_cert",
        value_hint = ValueHint::FilePath
    )]
    tls_key: Option<PathBuf>,
    /// Lifetime of the certificates of the cluster's servers, which renew them in time [default:
    /// 90]
    #[arg(help_heading = NETWORK, long, value_name = "DAYS", value_parser = days)]
    pub certificate_days: Option<Duration>,
    /// Which connections are encrypted (TLS): all, those with other machines, or none
    /// [default: remote]
    #[arg(help_heading = NETWORK, long, value_name = "WHICH", value_parser = encrypt())]
    tls: Option<TlsMode>,
    /// The state folder
    /// [default: $STATE_DIRECTORY, $XDG_STATE_HOME/relais or ~/.local/state/relais]
    #[arg(
        help_heading = SYSTEM,
        long,
        value_name = "DIR",
        global = true,
        value_hint = ValueHint::DirPath
    )]
    pub state: Option<PathBuf>,
    /// The cluster key [default: cluster.key in the state folder]
    #[arg(help_heading = CLUSTER, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cluster_key: Option<PathBuf>,
    /// The command to run instead of serving.
    #[command(subcommand)]
    pub command: Option<MasterCommand>,
}

/// The options by which a command reaches the master.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConnectOptions {
    /// Which master is asked [default: 127.0.0.1:2121]
    #[arg(
        help_heading = CLUSTER,
        long,
        value_name = "HOST[:PORT]",
        value_hint = ValueHint::Hostname
    )]
    master: Option<Host>,
    /// The cluster key [default: cluster.key in the state folder]
    #[arg(help_heading = CLUSTER, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cluster_key: Option<PathBuf>,
    /// Whether the connection is encrypted (TLS) [default: remote]
    #[arg(help_heading = NETWORK, long, value_name = "WHICH", value_parser = encrypt())]
    pub tls: Option<TlsMode>,
}

impl ConnectOptions {
    pub fn master(&self) -> String {
        self.master.as_ref().map_or_else(|| ADDRESS.to_owned(), ToString::to_string)
    }
}

/// The commands of `ftpmaster`.
#[derive(Debug, Subcommand)]
pub enum MasterCommand {
    /// Show the slaves of the running master; status 1 if none is in service, 4 if one is down or
    /// catching up, or if no changes are taken
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: ConnectOptions,
    },
    /// Take a slave out of service; its sessions move to other slaves
    // clap would show given options as required ones.
    #[command(override_usage = "ftpmaster drain [OPTIONS] <SLAVE>")]
    Drain {
        /// Its id, at least the first four digits of it, or its address
        slave: String,
        #[command(flatten)]
        reach: ConnectOptions,
    },
    /// Return a drained slave to service, and have it retry what its disk has refused
    #[command(override_usage = "ftpmaster ready [OPTIONS] <SLAVE>")]
    Ready {
        /// As for drain
        slave: String,
        #[command(flatten)]
        reach: ConnectOptions,
    },
    /// Forget a slave that will not return, and the contents that it alone held
    #[command(override_usage = "ftpmaster forget [OPTIONS] <SLAVE>")]
    Forget {
        /// As for drain, or the id of a folder
        slave: String,
        #[command(flatten)]
        reach: ConnectOptions,
    },
    /// List the paths in which slaves' trees differ from the master's; status 1 if there is one, or
    /// if
    /// a slave cannot be asked
    Diff(ConnectOptions),
    /// Have every slave verify all its contents, and show the progress; status 1 if damage is left
    Scrub {
        /// Return at once
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        reach: ConnectOptions,
    },
    /// List the names that slaves leave out of the tree: links, devices, mount points, unreadable
    /// files and the like
    Skipped(ConnectOptions),
    /// Show the state of each slave when the master takes no changes, and recover from the latest
    Recover {
        /// Execute the recovery
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        reach: ConnectOptions,
    },
    /// Print the changes in the journal as lines of JSON, oldest first
    Export(ConnectOptions),
    /// Manage the users; running servers load changes within a second
    User {
        /// The command for the accounts.
        #[command(subcommand)]
        what: UserCommand,
    },
}

impl MasterCommand {
    /// The operation that a master runs for the command, and the options by which it is reached.
    pub fn operation(&self) -> Option<(Operation, &ConnectOptions)> {
        Some(match self {
            Self::Drain { slave, reach } => (Operation::Drain(slave.clone()), reach),
            Self::Ready { slave, reach } => (Operation::Ready(slave.clone()), reach),
            Self::Forget { slave, reach } => (Operation::Forget(slave.clone()), reach),
            Self::Diff(reach) => (Operation::Diff, reach),
            Self::Scrub { no_wait, reach } => (Operation::Scrub { wait: !no_wait }, reach),
            Self::Skipped(reach) => (Operation::Skipped, reach),
            Self::Recover { yes, reach } => (Operation::Recover { go: *yes }, reach),
            Self::Export(reach) => (Operation::Export, reach),
            Self::Status { .. } | Self::User { .. } => return None,
        })
    }
}

/// The commands for accounts, which are in the state folder (--state) on this machine. No master
/// need run.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; the first one ends anonymous access
    Add {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
        /// The rights of the user
        #[arg(long, value_enum, default_value_t = RightsArg::Read)]
        rights: RightsArg,
        /// The folder that is the root of the tree for this user
        #[arg(long, value_name = "DIR", default_value = "/", value_parser = folder)]
        root: TreePath,
        /// File with the password; one line end at the end is not part of it
        #[arg(long, value_name = "F", value_hint = ValueHint::FilePath)]
        password_file: Option<PathBuf>,
    },
    /// Change the rights or the root of a user; clients log in again by themselves
    Set {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
        /// The rights of the user
        #[arg(long, value_enum)]
        rights: Option<RightsArg>,
        /// The folder that is the root of the tree for this user
        #[arg(long, value_name = "DIR", value_parser = folder)]
        root: Option<TreePath>,
    },
    /// Change the password of a user, and end the sessions of the former one
    Passwd {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
        /// As for add
        #[arg(long, value_name = "F", value_hint = ValueHint::FilePath)]
        password_file: Option<PathBuf>,
    },
    /// Remove a user, and end the user's sessions
    Remove {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
    },
    /// Show all users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The rights of a user as option values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RightsArg {
    /// List and get
    Read,
    /// Also make changes
    Write,
    /// Also see the pages of the servers and operate them there
    Admin,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum BalanceArg {
    /// One after another
    RoundRobin,
    /// To the slave with the fewest sessions
    LeastSessions,
}

impl Args {
    /// Parses the command line; prints help or an error and ends the process if that is due.
    pub fn read() -> Self {
        let args = Self::parse();
        let serving = args.listen.is_some()
            || args.grace.is_some()
            || args.balance.is_some()
            || args.copies.is_some()
            || args.remember.is_some()
            || args.tls_cert.is_some()
            || args.serves_http()
            || args.certificate_days.is_some();
        let reach = args.cluster_key.is_some() || args.tls.is_some();
        let wrong = match args.command {
            Some(_) if serving => {
                "--listen, --grace, --balance, --copies, --remember, --http…, --tls-cert and \
                 --certificate-days are for the master itself, not for its commands"
            }
            Some(MasterCommand::User { .. }) if reach => {
                "`user` changes the accounts in the state folder and connects to no master: \
                 --cluster-key and --tls have no effect"
            }
            Some(MasterCommand::User {
                what: UserCommand::Set { rights: None, root: None, .. },
            }) => "`user set` changes nothing without --rights or --root",
            None if args.http.is_none() && args.https.is_none() && args.serves_http() => {
                "--http-host, --http-passwords and --metrics-token-file are of no use without \
                 --http or --https"
            }
            _ => return args,
        };
        Self::command().error(ErrorKind::ArgumentConflict, wrong).exit()
    }

    pub fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or(ADDRESS)
    }

    fn serves_http(&self) -> bool {
        let options = [self.http.is_some(), self.https.is_some(), self.http_passwords.is_some()];
        options.contains(&true) || self.metrics_token_file.is_some() || !self.http_host.is_empty()
    }

    /// The addresses to listen on for HTTP clients, each with whether it is encrypted.
    pub fn http_listeners(&self) -> Vec<(String, bool)> {
        let host = self.listen().rsplit_once(':').map_or("", |(host, _)| host).to_owned();
        let address = |HttpAddress { host: own, port }: &HttpAddress| {
            format!("{}:{port}", own.as_ref().unwrap_or(&host))
        };
        let clear = self.http.iter().map(|listen| (address(listen), false));
        clear.chain(self.https.iter().map(|listen| (address(listen), true))).collect()
    }

    /// How HTTP is served.
    ///
    /// # Errors
    /// The file with the token cannot be read, or is empty.
    pub fn http_config(&self) -> anyhow::Result<HttpConfig> {
        let clear_passwords = match self.http_passwords {
            Some(ClearPasswordsArg::Always) => ClearPasswords::Always,
            Some(ClearPasswordsArg::Tls) | None => ClearPasswords::Local,
        };
        let metrics_token = self.metrics_token_file.as_deref().map(MetricsToken::load);
        let metrics_token = metrics_token.transpose().map_err(anyhow::Error::msg)?;
        Ok(HttpConfig { hosts: self.http_host.clone(), clear_passwords, metrics_token })
    }

    /// The connection options of the command. Options after the command go before those in front.
    pub fn reach(&self) -> ConnectOptions {
        let reach = match &self.command {
            Some(MasterCommand::Status { reach, .. }) => Some(reach),
            Some(command) => command.operation().map(|(_, reach)| reach),
            None => None,
        };
        let reach = reach.cloned().unwrap_or_default();
        ConnectOptions {
            cluster_key: reach.cluster_key.or_else(|| self.cluster_key.clone()),
            tls: reach.tls.or(self.tls),
            ..reach
        }
    }

    /// The configuration of a master's TLS.
    pub fn tls(&self) -> TlsOptions {
        TlsOptions {
            encrypt: self.tls.unwrap_or_default(),
            files: self.tls_key.iter().chain(&self.tls_cert).cloned().collect(),
        }
    }
}

/// Where passwords may be sent in the clear, as option values.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ClearPasswordsArg {
    /// On this host alone
    Tls,
    /// Everywhere
    Always,
}

/// An address to listen on; without a host it is that of `--listen`.
#[derive(Debug, Clone)]
struct HttpAddress {
    host: Option<String>,
    port: u16,
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host.to_owned()), port),
            None => (None, text),
        };
        let is_empty = host.as_ref().is_some_and(String::is_empty);
        let port = port.parse().ok().filter(|_| !is_empty);
        let port = port.ok_or_else(|| format!("{} is not [ADDR:]PORT", sanitize(text)))?;
        Ok(Self { host, port })
    }
}

/// Parses a host name, without a port.
fn host_name(text: &str) -> Result<String, String> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !text.is_empty() && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err("it is no host name".to_owned())
}

impl From<BalanceArg> for Balance {
    fn from(balance: BalanceArg) -> Self {
        match balance {
            BalanceArg::RoundRobin => Self::RoundRobin,
            BalanceArg::LeastSessions => Self::LeastSessions,
        }
    }
}

/// Parses the name of a user.
fn user_name(text: &str) -> Result<String, String> {
    check_user_name(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Parses a folder of the tree.
fn folder(text: &str) -> Result<TreePath, String> {
    if text.is_empty() {
        return Err("it is empty; / is the whole tree".to_owned());
    }
    TreePath::new(text.trim_matches('/')).map_err(|error| error.to_string())
}

/// Parses a number of days, which may be a fraction.
fn days(text: &str) -> Result<Duration, String> {
    let days: f64 = text.parse().map_err(|_| format!("{} is no number", sanitize(text)))?;
    let time = Duration::try_from_secs_f64(days * 24.0 * 60.0 * 60.0)
        .map_err(|_| "it must be a positive number".to_owned())?;
    let range = Duration::from_secs(1)..=Duration::from_secs(3650 * 24 * 60 * 60);
    if range.contains(&time) {
        Ok(time)
    } else {
        Err("it must be at least a second and at most 3650 days".to_owned())
    }
}

/// Checks the form `ADDR:PORT`. The port is required and may be 0.
fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(format!("{} is not ADDR:PORT", sanitize(text))),
    }
}

fn encrypt() -> impl TypedValueParser<Value = TlsMode> {
    PossibleValuesParser::new(TlsMode::NAMES).try_map(|text| text.parse::<TlsMode>())
}
