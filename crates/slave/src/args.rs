//! The command line of `ftpslave`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Parser, ValueEnum, ValueHint};
use relais_auth::{MetricsToken, StateDir, StateDirError};
use relais_net::tls::{TlsMode, TlsOptions};
use relais_net::{Host, IpNetwork};
use relais_proto::{Mode, limits, sanitize};
use relais_slave::Protocol;
use relais_slave::config::{
    self, Cluster, Config, FtpConfig, FtpTls, HttpConfig, HttpPasswords, TlsEof,
};
use relais_storage::{WatchMode, upload_table};

/// Headings of `--help`.
const FOLDER: &str = "Folder";
const CLUSTER: &str = "Cluster";
const NETWORK: &str = "Network and encryption";
const FTP: &str = "FTP";
const HTTP: &str = "HTTP";
const SESSIONS: &str = "Sessions";
const SYSTEM: &str = "System";

/// Serves a folder to the clients that the master sends.
#[derive(Debug, Parser)]
#[command(
    name = "ftpslave",
    version,
    max_term_width = 100,
    group(ArgGroup::new("ftp_listeners").args(["ftp", "ftps"]).multiple(true)),
    group(ArgGroup::new("http_listeners").args(["http", "https"]).multiple(true)),
    after_help = "Exit status: 0 after a clean stop, 1 failure, 2 wrong usage, 3 cannot listen."
)]
pub struct Args {
    /// Port to listen on; 0 takes any free port and prints it
    #[arg(value_parser = relais_cli::number_in(0..=u16::MAX))]
    port: u16,
    /// Folder to serve
    #[arg(
        help_heading = FOLDER,
        long,
        value_name = "DIR",
        default_value = "_FTPROOT",
        value_hint = ValueHint::DirPath,
    )]
    root: PathBuf,
    /// The cluster's master
    #[arg(help_heading = CLUSTER,
        long,
        value_name = "HOST[:PORT]",
        default_value = "127.0.0.1:2121",
        conflicts_with = "standalone"
    )]
    master: Host,
    /// Serve without a master
    #[arg(help_heading = CLUSTER, long)]
    standalone: bool,
    /// Address to listen on [default: loopback if the master is on loopback, else all interfaces]
    #[arg(help_heading = NETWORK, long, value_name = "ADDR")]
    listen: Option<IpAddr>,
    /// Address at which clients reach this slave, if it is not the address listened on
    #[arg(
        help_heading = CLUSTER,
        long,
        value_name = "HOST:PORT",
        conflicts_with = "standalone",
        value_parser = host_and_port,
    )]
    advertise: Option<String>,
    /// User to serve as when root starts the slave; needs access to folder, state folder and
    /// cluster key
    #[arg(help_heading = SYSTEM, long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// Worker processes [default: number of processors, at least 2, at most 16]
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "N",
        value_parser = relais_cli::number_in(1..=config::WORKERS_MAX),
    )]
    workers: Option<usize>,
    /// Sessions that one worker serves at a time; 1 is the classical pool
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "M",
        default_value_t = config::SESSIONS_PER_WORKER,
        value_parser = relais_cli::number_in(1..=config::SESSIONS_MAX),
    )]
    sessions_per_worker: u32,
    /// Most sessions of one address, served or waiting; loopback has no limit [default: no limit]
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "N",
        value_parser = relais_cli::number_in(1..=u32::MAX),
    )]
    sessions_per_address: Option<u32>,
    /// Sessions that wait when all slots are taken; further clients are asked to try again later
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "N",
        default_value_t = config::QUEUE,
        value_parser = relais_cli::number_in(0..=config::QUEUE_MAX),
    )]
    queue: u32,
    /// Most unfinished uploads; one user may have half of them, and the oldest are evicted first
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "N",
        default_value_t = upload_table::UPLOADS,
        value_parser = relais_cli::number_in(1..=upload_table::UPLOADS_MAX),
    )]
    uploads: u64,
    /// Most bytes of unfinished uploads; one user may have half of them [default: half of the disk]
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "BYTES",
        value_parser = relais_cli::parse_size,
    )]
    upload_bytes: Option<u64>,
    /// Size of a block, 1 to 4M
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "BYTES",
        default_value_t = config::BLOCK_SIZE,
        value_parser = block_size,
    )]
    block_size: u32,
    /// Permission bits that new files and folders do not get, in octal [default: the process's
    /// umask]
    #[arg(long, value_name = "OCTAL", value_parser = umask)]
    umask: Option<Mode>,
    /// Seconds that transfers may take to end after a signal
    #[arg(
        help_heading = SESSIONS,
        long,
        value_name = "S",
        default_value_t = config::GRACE.as_secs(),
        value_parser = relais_cli::number_in(0..=86_400_u64),
    )]
    grace: u64,
    /// Which changes of other programs in the folder are published
    #[arg(
        help_heading = FOLDER,
        long,
        value_name = "MODE",
        value_enum,
        default_value_t = Watch::Add,
    )]
    watch: Watch,
    /// Compute the SHA-256 of each upload while it comes, as download tools need it; without this
    /// option it is computed when it is first asked for
    #[arg(help_heading = FOLDER, long)]
    sha256: bool,
    /// File for a line of JSON on each transfer and change; reopened on SIGUSR1; - is standard
    /// output
    #[arg(help_heading = SYSTEM, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    transfer_log: Option<PathBuf>,
    /// Which connections use TLS: all, those with other machines, or none
    #[arg(
        help_heading = NETWORK,
        long,
        value_name = "WHICH",
        default_value = "remote",
        value_parser = PossibleValuesParser::new(TlsMode::NAMES)
            .try_map(|text| text.parse::<TlsMode>()),
    )]
    tls: TlsMode,
    /// Serve FTP as well, on this port; the address is that of --listen if none is given
    #[arg(help_heading = FTP, long, value_name = "[ADDR:]PORT", value_parser = listen_address)]
    ftp: Option<ListenAddress>,
    /// Serve FTP over TLS from the first byte, on this port
    #[arg(help_heading = FTP, long, value_name = "[ADDR:]PORT", value_parser = listen_address)]
    ftps: Option<ListenAddress>,
    /// Ports for passive data connections [default: any free port]
    #[arg(
        help_heading = FTP,
        long,
        value_name = "LOW-HIGH",
        requires = "ftp_listeners",
        value_parser = port_range,
    )]
    ftp_passive: Option<RangeInclusive<u16>>,
    /// Address that PASV tells clients, if they reach this slave through NAT
    #[arg(help_heading = FTP, long, value_name = "ADDR", requires = "ftp_listeners")]
    ftp_public: Option<Ipv4Addr>,
    /// Which FTP logins need TLS [default: those with a password from other hosts]
    #[arg(help_heading = FTP, long, value_name = "WHICH", value_enum, requires = "ftp_listeners")]
    ftp_tls: Option<FtpTlsChoice>,
    /// Whether encrypted data connections must resume the TLS session of their control connection
    #[arg(
        help_heading = FTP,
        long,
        value_name = "RULE",
        value_enum,
        default_value_t = TlsReuse::Optional,
    )]
    ftp_tls_reuse: TlsReuse,
    /// Whether an encrypted upload that ends without a closing alert is cut or complete
    #[arg(
        help_heading = FTP,
        long,
        value_name = "RULE",
        value_enum,
        default_value_t = TlsEofChoice::Strict,
    )]
    ftp_tls_eof: TlsEofChoice,
    /// Serve HTTP and WebDAV as well, on this port; the address is that of --listen if none is
    /// given
    #[arg(help_heading = HTTP, long, value_name = "[ADDR:]PORT", value_parser = listen_address)]
    http: Option<ListenAddress>,
    /// Serve HTTP over TLS, on this port
    #[arg(help_heading = HTTP, long, value_name = "[ADDR:]PORT", value_parser = listen_address)]
    https: Option<ListenAddress>,
    /// Host name by which HTTP clients may reach this slave, beside addresses and localhost; can be
    /// repeated
    #[arg(
        help_heading = HTTP,
        long,
        value_name = "NAME",
        requires = "http_listeners",
        value_parser = host_name,
    )]
    http_host: Vec<String>,
    /// Where HTTP clients may send passwords without TLS
    #[arg(
        help_heading = HTTP,
        long,
        value_name = "RULE",
        value_enum,
        requires = "http_listeners",
    )]
    http_passwords: Option<HttpPasswordsChoice>,
    /// File with the token by which other hosts may read the metrics
    #[arg(
        help_heading = HTTP,
        long,
        value_name = "FILE",
        requires = "http_listeners",
        value_hint = ValueHint::FilePath,
    )]
    metrics_token_file: Option<PathBuf>,
    /// Address or network of proxies that name their clients with the PROXY protocol, version 2,
    /// or for HTTP with the header Forwarded; can be repeated
    #[arg(help_heading = NETWORK, long, value_name = "NET")]
    trusted_proxy: Vec<IpNetwork>,
    /// Certificate of your own authority instead of the cluster's: PEM, the authority's last
    #[arg(help_heading = NETWORK, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate, if it is in another file
    #[arg(
        help_heading = NETWORK,
        long,
        value_name = "FILE",
        requires = "tls_cert",
        value_hint = ValueHint::FilePath,
    )]
    tls_key: Option<PathBuf>,
    /// File with the cluster key [default: cluster.key in the state folder]
    #[arg(
        help_heading = CLUSTER,
        long,
        value_name = "FILE",
        conflicts_with = "standalone",
        value_hint = ValueHint::FilePath,
    )]
    cluster_key: Option<PathBuf>,
    /// State folder [default: $STATE_DIRECTORY, $XDG_STATE_HOME/relais or ~/.local/state/relais]
    #[arg(help_heading = SYSTEM, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state: Option<PathBuf>,
}

fn umask(text: &str) -> Result<Mode, String> {
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o777 && !text.starts_with('+') => Ok(Mode::new(bits)),
        _ => Err("a umask is an octal number from 000 to 777, such as 022".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Watch {
    /// Only those found by the scan at the start
    Off,
    /// Additions and edits
    Add,
    /// Removals as well
    All,
}

/// Which FTP logins need TLS.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FtpTlsChoice {
    /// TLS is not offered
    Off,
    /// None
    Offered,
    /// All
    Required,
}

/// Whether data connections must resume a TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsReuse {
    /// They may
    Optional,
    /// They must
    Required,
}

/// What the end of an encrypted upload without a closing alert means.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TlsEofChoice {
    /// The upload was cut
    Strict,
    /// The upload is complete
    Lenient,
}

/// Where passwords may be sent in the clear over HTTP.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum HttpPasswordsChoice {
    /// On this host alone
    Tls,
    /// Everywhere
    Always,
}

/// An address to listen on, and whether it names the interface.
#[derive(Debug, Clone, Copy)]
struct ListenAddress {
    ip: Option<IpAddr>,
    port: u16,
}

impl Args {
    /// Returns the address to listen on for native clients.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.interface(), self.port)
    }

    /// Returns the addresses to listen on for FTP and HTTP clients.
    pub fn other_addresses(&self) -> Vec<(Protocol, SocketAddr)> {
        let listeners = [
            (Protocol::Ftp, self.ftp),
            (Protocol::Ftps, self.ftps),
            (Protocol::Http, self.http),
            (Protocol::Https, self.https),
        ];
        let address = |(protocol, listen): (Protocol, Option<ListenAddress>)| {
            let listen = listen?;
            let ip = listen.ip.unwrap_or_else(|| self.interface());
            Some((protocol, SocketAddr::new(ip, listen.port)))
        };
        listeners.into_iter().filter_map(address).collect()
    }

    /// Returns the address to listen on where no other is given.
    fn interface(&self) -> IpAddr {
        let master = (!self.standalone).then(|| self.master.to_string());
        self.listen.unwrap_or_else(|| config::default_listen(master.as_deref()))
    }

    /// Returns how FTP is served; none if it is not.
    fn ftp_config(&self) -> anyhow::Result<Option<FtpConfig>> {
        if self.ftp.is_none() && self.ftps.is_none() {
            return Ok(None);
        }
        let tls = match self.ftp_tls {
            None => FtpTls::RemotePasswords,
            Some(FtpTlsChoice::Off) if self.ftps.is_some() => {
                bail!("--ftps needs TLS, and --ftp-tls off forbids it")
            }
            Some(FtpTlsChoice::Off) => FtpTls::Off,
            Some(FtpTlsChoice::Offered) => FtpTls::Offered,
            Some(FtpTlsChoice::Required) => FtpTls::Required,
        };
        Ok(Some(FtpConfig {
            public: self.ftp_public.map(IpAddr::V4),
            passive: self.ftp_passive.clone(),
            tls,
            tls_reuse_required: self.ftp_tls_reuse == TlsReuse::Required,
            tls_eof: match self.ftp_tls_eof {
                TlsEofChoice::Strict => TlsEof::Strict,
                TlsEofChoice::Lenient => TlsEof::Lenient,
            },
        }))
    }

    /// Returns how HTTP is served; none if it is not.
    ///
    /// # Errors
    /// The token of the metrics cannot be read.
    fn http_config(&self) -> anyhow::Result<Option<HttpConfig>> {
        if self.http.or(self.https).is_none() {
            return Ok(None);
        }
        let metrics_token = self.metrics_token_file.as_deref().map(MetricsToken::load);
        // The master redirects clients to the advertised host.
        let advertised = self.advertise.as_ref().and_then(|at| at.rsplit_once(':'));
        let advertised = advertised.map(|(host, _)| host.to_owned());
        Ok(Some(HttpConfig {
            hosts: self.http_host.iter().cloned().chain(advertised).collect(),
            passwords: match self.http_passwords {
                None | Some(HttpPasswordsChoice::Tls) => HttpPasswords::Tls,
                Some(HttpPasswordsChoice::Always) => HttpPasswords::Always,
            },
            is_encrypted: self.https.is_some(),
            metrics_token: metrics_token.transpose().map_err(anyhow::Error::msg)?,
        }))
    }

    /// Returns the settings of the slave.
    pub fn config(self) -> anyhow::Result<Config> {
        let cluster = if self.standalone { None } else { Some(self.cluster()?) };
        let accounts = if self.standalone { self.accounts()? } else { None };
        let (ftp, http) = (self.ftp_config()?, self.http_config()?);
        for path in self.tls_cert.iter().chain(&self.tls_key).chain(&self.cluster_key) {
            if ["/dev/fd", "/dev/stdin", "/proc/self/fd"]
                .iter()
                .any(|prefix| path.starts_with(prefix))
            {
                bail!("{} cannot be read again later: name a regular file", path.display());
            }
        }
        Ok(Config {
            root: std::path::absolute(&self.root)
                .with_context(|| format!("{} is no usable path", self.root.display()))?,
            port: self.port,
            cluster,
            accounts,
            workers: self.workers.unwrap_or_else(config::default_workers),
            sessions_per_worker: self.sessions_per_worker,
            sessions_per_address: self.sessions_per_address,
            queue: self.queue,
            uploads: self.uploads,
            upload_bytes: self.upload_bytes,
            block_size: self.block_size,
            umask: self.umask.unwrap_or_else(config::umask),
            grace: Duration::from_secs(self.grace),
            watch: match self.watch {
                Watch::Off => WatchMode::Off,
                Watch::Add => WatchMode::Add,
                Watch::All => WatchMode::All,
            },
            sha256: self.sha256,
            transfer_log: self.transfer_log,
            tls: TlsOptions {
                encrypt: self.tls,
                files: self.tls_key.into_iter().chain(self.tls_cert).collect(),
            },
            ftp,
            http,
            trusted_proxies: self.trusted_proxy,
        })
    }

    /// Returns the accounts file; none without a state folder, which is where accounts would be.
    fn accounts(&self) -> anyhow::Result<Option<PathBuf>> {
        match StateDir::locate(self.state.clone()) {
            Ok(state) => Ok(Some(state.accounts_path())),
            Err(StateDirError::Nowhere) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn cluster(&self) -> anyhow::Result<Cluster> {
        let key_file = match &self.cluster_key {
            Some(file) => file.clone(),
            None => StateDir::locate(self.state.clone())?.key_path(),
        };
        Ok(Cluster {
            master: self.master.to_string(),
            key_file,
            advertise: self.advertise.clone().unwrap_or_default(),
        })
    }
}

/// Parses the size of a block.
fn block_size(text: &str) -> Result<u32, String> {
    let bytes = relais_cli::parse_size(text)?;
    let bytes = u32::try_from(bytes).ok().filter(|bytes| (1..=limits::BLOCK_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("a block has 1 byte to 4M, not {text}"))
}

/// Parses `PORT`, `ADDR:PORT` or `[ADDR]:PORT`; port 0 takes any free one.
fn listen_address(text: &str) -> Result<ListenAddress, String> {
    if let Ok(port) = text.parse() {
        return Ok(ListenAddress { ip: None, port });
    }
    let addr: SocketAddr = text
        .parse()
        .map_err(|_| format!("{} is neither a port nor an address with a port", sanitize(text)))?;
    Ok(ListenAddress { ip: Some(addr.ip()), port: addr.port() })
}

/// Parses a host name as a browser sends it: letters in lower case, no port.
fn host_name(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !part.is_empty() && part.len() <= 63 && part.chars().all(is_inner)
    };
    if text.len() <= 253 && text.split('.').all(is_part) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("{} is no host name, such as files.example.org", sanitize(text)))
}

/// Parses the first and the last of several ports.
fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports = text.split_once('-').and_then(|(low, high)| {
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        (low > 0 && low <= high).then_some(low..=high)
    });
    ports.ok_or_else(|| format!("{} is no range of ports, such as 50000-50999", sanitize(text)))
}

/// Parses an address with an explicit port: the public port may differ from the local one.
fn host_and_port(text: &str) -> Result<String, String> {
    let host: Host = text.parse()?;
    let bare = text.rsplit_once(':').is_none_or(|(_, port)| port.parse() != Ok(host.port));
    if bare { Err(format!("{} has no port", sanitize(text))) } else { Ok(host.to_string()) }
}
