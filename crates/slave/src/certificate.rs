//! Where the certificate comes from with which a slave's connections are encrypted, and how it is renewed.
//!
//! The replicator keeps it, with its private key, in one file in the folder; the workers read that file, and look now and then whether it
//! is another one. A slave of a cluster asks its master for it on the link that both have proved, each time that there is a new one and
//! again in time; one that stands alone has an authority of its own; and somebody may have brought one.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use relais_net::tls::{MASTER_NAME, ServerCertificate, TlsOptions, read_pem};
use relais_proto::LinkMessage;
use relais_state::{Authority, Certified, ServerKey, Validity};
use relais_tree::MetaKind;

use crate::catalogue::OwnFolder;

/// Its name in the slave's own folder.
const FILE: &str = "certificate.pem";
/// How long the certificate of a slave that stands alone is good.
const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Time between two looks at files that somebody has brought.
const LOOK: Duration = Duration::from_secs(1);
/// Pause before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A slave's certificate.
pub struct Certificate {
    own: OwnFolder,
    source: Source,
    state: Mutex<State>,
}

enum Source {
    /// The master's authority.
    Master,
    /// This slave's own.
    Own(Box<Authority>),
    /// Somebody who has brought it.
    Files(Vec<PathBuf>),
}

#[derive(Default)]
struct State {
    /// Until when there is nothing to be done; none: nothing was done yet.
    term: Option<Validity>,
    /// The key that the master was asked to certify.
    asked: Option<ServerKey>,
    /// What was written last, where somebody has brought it.
    brought: Vec<u8>,
}

impl State {
    fn is_settled(&self) -> bool {
        self.term.is_some_and(|term| !term.is_over(Instant::now(), SystemTime::now()))
    }

    fn settle(&mut self, time: Duration) {
        self.term = Some(Validity::new(Instant::now(), SystemTime::now(), time));
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Where workers find the certificate.
#[must_use]
pub fn file_in(own: &OwnFolder) -> PathBuf {
    own.path(FILE)
}

impl Certificate {
    /// Finds out where the certificate comes from, and has it ready where nobody has to be asked.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(own: &OwnFolder, options: &TlsOptions, alone: bool) -> Result<Self, String> {
        let source = match (options.files.is_empty(), alone) {
            (false, _) => Source::Files(options.files.clone()),
            (true, true) => Source::Own(Box::new(
                Authority::load_or_create(&own.path(".")).map_err(|e| e.to_string())?,
            )),
            (true, false) => Source::Master,
        };
        // Only this slave writes these files, and it makes no links.
        for name in [FILE, "authority.key", "authority.pem"] {
            if own.folder().stat_part(name.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Link)
            {
                let shown = relais_state::shown_path(&own.path(name));
                return Err(format!("{} is a link; remove it", shown.display()));
            }
        }
        let this = Self { own: own.clone(), source, state: Mutex::default() };
        this.renew(&mut this.state())?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due. To be called each second.
    pub fn tick(&self) {
        let mut state = self.state();
        if state.is_settled() {
            return;
        }
        if let Err(e) = self.renew(&mut state) {
            warn!("{e}; the former certificate counts");
            state.settle(AGAIN);
        }
    }

    fn renew(&self, state: &mut State) -> Result<(), String> {
        match &self.source {
            Source::Master => {}
            Source::Own(authority) => {
                let key = ServerKey::generate().map_err(|e| e.to_string())?;
                let chain = authority
                    .certify(Certified(MASTER_NAME), &key.point(), SystemTime::now(), LIFE)
                    .map_err(|e| e.to_string())?;
                self.write((key.pem() + &chain).as_bytes())?;
                state.settle(LIFE * 2 / 3);
            }
            Source::Files(files) => {
                state.settle(LOOK);
                let pem = read_pem(files)?;
                if pem != state.brought {
                    ServerCertificate::empty().show(&pem).map_err(|e| {
                        format!("the certificate that was brought cannot be used: {e}")
                    })?;
                    self.write(&pem)?;
                    state.brought = pem;
                }
            }
        }
        Ok(())
    }

    fn write(&self, pem: &[u8]) -> Result<(), String> {
        let file = file_in(&self.own);
        relais_state::replace_file(&file, pem).map_err(|e| {
            let shown = relais_state::shown_path(&file);
            format!("the certificate cannot be written to {}: {e}", shown.display())
        })
    }

    /// There is a new link: the master is asked whatever was before.
    pub fn linked(&self) {
        self.state().term = None;
    }

    /// What to ask the master now, where it is to be asked.
    pub fn ask(&self) -> Option<LinkMessage> {
        let Source::Master = self.source else { return None };
        let mut state = self.state();
        if state.is_settled() {
            return None;
        }
        state.settle(AGAIN);
        match ServerKey::generate() {
            Ok(key) => {
                let point = key.point();
                state.asked = Some(key);
                Some(LinkMessage::AskCertificate { point })
            }
            Err(e) => {
                warn!("there is no key for a certificate: {e}");
                None
            }
        }
    }

    /// The master has certified the key.
    pub fn take(&self, chain: &str, renew_s: u64) {
        let mut state = self.state();
        let Some(key) = state.asked.take() else {
            return warn!("the master sent a certificate that it was not asked for");
        };
        let pem = key.pem() + chain;
        let taken = ServerCertificate::empty()
            .show(pem.as_bytes())
            .map_err(|e| format!("the master's certificate cannot be used: {e}"));
        match taken.and_then(|()| self.write(pem.as_bytes())) {
            Ok(()) => {
                info!("the master has certified this slave");
                state.settle(Duration::from_secs(renew_s));
            }
            Err(e) => warn!("{e}"),
        }
    }
}
