//! The command line of `ftpmaster`. Only what works is offered.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use relais_net::Host;
use relais_net::tls::{TlsMode, TlsOptions};
use relais_proto::{TreePath, sanitize};
use relais_state::check_user_name;

/// Where a master listens and is looked for, unless an option says otherwise.
const ADDRESS: &str = "127.0.0.1:2121";
/// Seconds that logins under way may take after a signal to stop.
const GRACE: u64 = 5;
/// Days for which removed and replaced content is remembered.
const REMEMBER: u64 = 180;
/// How long a certificate is good.
const CERTIFICATE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Headings of `--help`.
const NETWORK: &str = "Network and encryption";
const CLUSTER: &str = "Cluster";
const SYSTEM: &str = "System";

/// Sends each client to the next slave in turn.
#[derive(Debug, Parser)]
#[command(
    name = "ftpmaster",
    version,
    after_help = "Exit status: 0 after a clean stop, 1 failure, 2 wrong usage, 3 cannot listen, 4 for status: a slave is down or catching up."
)]
pub struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:2121]
    #[arg(help_heading = NETWORK, long, value_name = "ADDR:PORT", value_parser = host_and_port)]
    listen: Option<String>,
    /// How long logins under way may take after a signal to stop [default: 5]
    #[arg(help_heading = SYSTEM, long, value_name = "SECONDS", value_parser = relais_cli::number_in(0..=86_400_u64))]
    grace: Option<u64>,
    /// How clients are spread over the slaves [default: round-robin]
    #[arg(help_heading = CLUSTER, long, value_enum)]
    balance: Option<Balance>,
    /// How many disks must hold a file before its put is answered, where the client says nothing else [default: 1]
    #[arg(help_heading = CLUSTER, long, value_name = "N", value_parser = relais_cli::number_in(1..=64_u16))]
    copies: Option<u16>,
    /// How long removed and replaced files are remembered, so that old copies of them do not come back [default: 180]
    #[arg(help_heading = CLUSTER, long, value_name = "DAYS", value_parser = relais_cli::number_in(1..=36_500_u64))]
    remember: Option<u64>,
    /// Show this certificate, of an authority of yours, instead of the cluster's: PEM, the authority's certificate last
    #[arg(help_heading = NETWORK, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, where it is not in the same file
    #[arg(help_heading = NETWORK, long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    tls_key: Option<PathBuf>,
    /// How long the certificates of the cluster's servers are good, which renew them in time [default: 90]
    #[arg(help_heading = NETWORK, long, value_name = "DAYS", value_parser = days)]
    certificate_days: Option<Duration>,
    /// Which connections are encrypted (TLS): all, those with other machines, or none [default: remote]
    #[arg(help_heading = NETWORK, long, value_name = "WHICH", value_parser = encrypt())]
    tls: Option<TlsMode>,
    /// The state folder [default: $STATE_DIRECTORY, $XDG_STATE_HOME/relais or ~/.local/state/relais]
    #[arg(help_heading = SYSTEM, long, value_name = "DIR", global = true, value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// The cluster key [default: cluster.key in the state folder]
    #[arg(help_heading = CLUSTER, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cluster_key: Option<PathBuf>,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How a command reaches the master.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reach {
    /// Which master is asked [default: 127.0.0.1:2121]
    #[arg(help_heading = CLUSTER, long, value_name = "HOST[:PORT]", value_hint = ValueHint::Hostname)]
    master: Option<Host>,
    /// The cluster key [default: cluster.key in the state folder]
    #[arg(help_heading = CLUSTER, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cluster_key: Option<PathBuf>,
    /// Whether the connection is encrypted (TLS) [default: remote]
    #[arg(help_heading = NETWORK, long, value_name = "WHICH", value_parser = encrypt())]
    tls: Option<TlsMode>,
}

impl Reach {
    pub fn master(&self) -> String {
        self.master.as_ref().map_or_else(|| ADDRESS.to_owned(), ToString::to_string)
    }

    pub fn cluster_key(&self) -> Option<&PathBuf> {
        self.cluster_key.as_ref()
    }

    pub fn encrypt(&self) -> TlsMode {
        self.tls.unwrap_or_default()
    }
}

/// What can be done with a running master.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the slaves of the running master; status 1 when none is in service, 4 when one is down or catching up
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Give a slave no more sessions; those that it has move on
    Drain {
        /// Its id, four digits of its beginning at least, or its address
        slave: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Give a drained slave sessions again, and have it try again what its disk has refused
    Ready {
        /// As for drain
        slave: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Forget a slave that will not come back, and what it alone had
    Forget {
        /// As for drain, or the id of a folder
        slave: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Name each path in which a slave's tree is not the master's; status 1 when there is one, or a slave cannot be asked
    Diff {
        #[command(flatten)]
        reach: Reach,
    },
    /// Have every slave read and check all its contents, and show how it goes; status 1 when damage is left
    Scrub {
        /// Return at once
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Name what the slaves leave out of the tree: links, devices, mount points, unreadable files and the like
    Skipped {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show what each slave has when the master takes no changes, and go on from the latest
    Recover {
        /// Do it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Print the changes in the journal as lines of JSON, oldest first
    Export {
        #[command(flatten)]
        reach: Reach,
    },
    /// Say who may log in; running servers take it up within a second
    User {
        /// What to do.
        #[command(subcommand)]
        what: User,
    },
}

impl Command {
    /// How the master is reached, where the command asks one.
    fn reach(&self) -> Option<&Reach> {
        match self {
            Self::Status { reach, .. }
            | Self::Drain { reach, .. }
            | Self::Ready { reach, .. }
            | Self::Forget { reach, .. }
            | Self::Diff { reach }
            | Self::Scrub { reach, .. }
            | Self::Skipped { reach }
            | Self::Recover { reach, .. }
            | Self::Export { reach } => Some(reach),
            Self::User { .. } => None,
        }
    }
}

/// What can be done with accounts. They are in the master's state folder (--state) on this machine, and no master need run.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user; once there is one nobody gets in without a name and a password
    Add {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
        /// What the user may do
        #[arg(long, value_enum, default_value_t = Rights::Read)]
        rights: Rights,
        /// The folder that is the top of the tree for this user
        #[arg(long, value_name = "DIR", default_value = "/", value_parser = folder)]
        root: TreePath,
        /// File with the password; one line end at its end is not part of it
        #[arg(long, value_name = "F", value_hint = ValueHint::FilePath)]
        password_file: Option<PathBuf>,
    },
    /// Change what a user may do, or where; clients log in again by themselves
    Set {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
        /// What the user may do
        #[arg(long, value_enum)]
        rights: Option<Rights>,
        /// The folder that is the top of the tree for this user
        #[arg(long, value_name = "DIR", value_parser = folder)]
        root: Option<TreePath>,
    },
    /// Give a user another password, and end what the former one has opened
    Passwd {
        /// The name
        #[arg(value_parser = user_name)]
        name: String,
        /// As for add
        #[arg(long, value_name = "F", value_hint = ValueHint::FilePath)]
        password_file: Option<PathBuf>,
    },
    /// Remove a user, and end what the user has open
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

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rights {
    /// List and get
    Read,
    /// Change things too
    Write,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Balance {
    /// One after another
    RoundRobin,
    /// To the slave with the fewest sessions
    LeastSessions,
}

impl Args {
    /// Reads the command line; prints help or what is wrong, and ends the process, where there is nothing to do.
    pub fn read() -> Self {
        let args = Self::parse();
        let serving = args.listen.is_some()
            || args.grace.is_some()
            || args.balance.is_some()
            || args.copies.is_some()
            || args.remember.is_some()
            || args.tls_cert.is_some()
            || args.certificate_days.is_some();
        let reach = args.cluster_key.is_some() || args.tls.is_some();
        let wrong = match args.command {
            Some(_) if serving => {
                "--listen, --grace, --balance, --copies, --remember, --tls-cert and --certificate-days are for the master itself, not for its commands"
            }
            Some(Command::User { .. }) if reach => {
                "`user` changes the accounts in the state folder, and asks no master: --cluster-key and --tls do nothing for it"
            }
            Some(Command::User { what: User::Set { rights: None, root: None, .. } }) => {
                "`user set` changes nothing without --rights or --root"
            }
            _ => return args,
        };
        Self::command().error(ErrorKind::ArgumentConflict, wrong).exit()
    }

    pub fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or(ADDRESS)
    }

    /// How the command reaches its master; what stands before the command counts where nothing stands behind it.
    pub fn reach(&self) -> Reach {
        let reach = self.command.as_ref().and_then(Command::reach).cloned().unwrap_or_default();
        Reach {
            cluster_key: reach.cluster_key.or_else(|| self.cluster_key.clone()),
            tls: reach.tls.or(self.tls),
            ..reach
        }
    }

    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace.unwrap_or(GRACE))
    }

    pub fn copies(&self) -> u16 {
        self.copies.unwrap_or(1)
    }

    pub fn remember(&self) -> Duration {
        Duration::from_secs(self.remember.unwrap_or(REMEMBER) * 24 * 60 * 60)
    }

    pub fn tls(&self) -> TlsOptions {
        TlsOptions {
            encrypt: self.tls.unwrap_or_default(),
            files: self.tls_key.iter().chain(&self.tls_cert).cloned().collect(),
        }
    }

    pub fn certificate_life(&self) -> Duration {
        self.certificate_days.unwrap_or(CERTIFICATE)
    }

    pub fn balance(&self) -> relais_master::Balance {
        match self.balance {
            None | Some(Balance::RoundRobin) => relais_master::Balance::RoundRobin,
            Some(Balance::LeastSessions) => relais_master::Balance::LeastSessions,
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

/// Days, which need not be whole ones.
fn days(text: &str) -> Result<Duration, String> {
    let days: f64 = text.parse().map_err(|_| format!("{} is no number", sanitize(text)))?;
    let time = Duration::try_from_secs_f64(days * 24.0 * 60.0 * 60.0)
        .map_err(|_| "it must be a positive number".to_owned())?;
    let range = Duration::from_secs(1)..=Duration::from_secs(3650 * 24 * 60 * 60);
    if range.contains(&time) {
        Ok(time)
    } else {
        Err("it must be a second at least, and 3650 days at most".to_owned())
    }
}

/// Where to listen: the port may be 0, and has to be named.
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
