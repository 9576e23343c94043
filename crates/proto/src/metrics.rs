//! Metrics of a slave: pairs of a name, as Prometheus names metrics, and a value.
//!
//! The message holds any names, so a new metric is a row of the table here and no change of the
//! protocol. A receiver shows names that it does not know as they are.

use std::collections::BTreeMap;

use crate::codec::check_cap;
use crate::{Confinement, Decoder, Encoder, Wire, WireError, limits};

/// Start of each name.
const PREFIX: &str = "relais_";

macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        /// Names of metrics.
        pub mod metric {
            $($(#[$doc])* pub const $constant: &str = $name;)*

            /// All names of this version.
            pub const ALL: &[&str] = &[$($constant),*];
        }
    };
}

metrics! {
    /// Files in the catalogue.
    FILES = "relais_files";
    /// Folders in the catalogue.
    FOLDERS = "relais_folders";
    /// Bytes of all files in the catalogue.
    BYTES = "relais_bytes";
    /// Files without a known digest.
    UNHASHED = "relais_unhashed";
    /// Skipped symbolic links.
    SKIPPED_LINKS = "relais_skipped_links";
    /// Skipped devices, FIFOs and sockets.
    SKIPPED_SPECIAL = "relais_skipped_special";
    /// Skipped mount points.
    SKIPPED_MOUNTS = "relais_skipped_mounts";
    /// Skipped names that are not UTF-8 or break the rules for names.
    SKIPPED_NAMES = "relais_skipped_names";
    /// Skipped files and folders that could not be read.
    SKIPPED_UNREADABLE = "relais_skipped_unreadable";
    /// Rescans after a watch overflowed or was refused.
    RESCANS = "relais_rescans_total";
    /// Files without their content yet.
    MISSING = "relais_missing";
    /// Bytes of these files.
    MISSING_BYTES = "relais_missing_bytes";
    /// Files quarantined in `.relais/conflicts` since the start.
    QUARANTINED = "relais_quarantined_total";
    /// Local removals that are held back because there were too many at once.
    HELD = "relais_held";
    /// Files with damaged content that is not repaired yet.
    DAMAGED = "relais_damaged";
    /// Paths where the disk refused a change, so the disk differs from the tree.
    UNAPPLIED = "relais_unapplied";
    /// Unfinished uploads.
    UPLOADS = "relais_uploads";
    /// Bytes of the unfinished uploads.
    UPLOAD_BYTES = "relais_upload_bytes";
    /// Open sessions of all protocols.
    SESSIONS = "relais_sessions";
    /// Open sessions of the native protocol.
    SESSIONS_NATIVE = "relais_sessions_native";
    /// Open sessions of FTP, also if they are encrypted by AUTH TLS.
    SESSIONS_FTP = "relais_sessions_ftp";
    /// Open sessions of FTP over implicit TLS.
    SESSIONS_FTPS = "relais_sessions_ftps";
    /// Open sessions of HTTP in the clear.
    SESSIONS_HTTP = "relais_sessions_http";
    /// Open sessions of HTTP over TLS.
    SESSIONS_HTTPS = "relais_sessions_https";
    /// Sessions that wait for a pool slot.
    WAITING = "relais_waiting";
    /// Worker processes that were alive in the last 2 s.
    WORKERS = "relais_workers";
    /// Bits of the [`Confinement`](crate::Confinement) in force in all of these workers.
    CONFINEMENT = "relais_confinement_bits";
    /// Downloads and uploads of clients that are under way.
    TRANSFERS = "relais_active_transfers";
    /// Bytes of contents that were sent to clients.
    SENT_BYTES = "relais_sent_bytes_total";
    /// Bytes of contents that were received from clients.
    RECEIVED_BYTES = "relais_received_bytes_total";
    /// Transfers that continued after the bytes of an earlier one.
    RESUMES = "relais_resumes_total";
    /// Transfers that continued here after another server had failed.
    FAILOVERS = "relais_failovers_total";
    /// Files whose content was found damaged, in the life of the catalogue.
    SCRUB_BAD = "relais_scrub_bad_total";
    /// Free space for files in the folder's file system, in bytes.
    DISK_FREE = "relais_disk_free_bytes";
    /// Size of that file system, in bytes.
    DISK_SIZE = "relais_disk_size_bytes";
    /// End of the certificate's validity, in seconds since 1970 UTC; 0 without a certificate.
    CERTIFICATE_EXPIRY = "relais_certificate_expiry_timestamp_seconds";
}

/// The metrics of open sessions, with the names of their protocols.
pub const SESSIONS_BY_PROTOCOL: [(&str, &str); 5] = [
    ("native", metric::SESSIONS_NATIVE),
    ("ftp", metric::SESSIONS_FTP),
    ("ftps", metric::SESSIONS_FTPS),
    ("http", metric::SESSIONS_HTTP),
    ("https", metric::SESSIONS_HTTPS),
];

/// Metrics with their values. A metric that is not there has the value 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// Returns the value of a metric.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Sets a metric. A name that the protocol does not allow is left out.
    pub fn set(&mut self, name: &str, value: u64) {
        if is_valid(name) && (self.0.len() < limits::METRICS || self.0.contains_key(name)) {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Same as [`Self::set`], for literals.
    #[must_use]
    pub fn with(mut self, name: &str, value: u64) -> Self {
        self.set(name, value);
        self
    }

    /// Returns all metrics by their names, with those of this version that are not there.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let absent = metric::ALL.iter().filter(|name| !self.0.contains_key(**name));
        self.0.iter().map(|(name, value)| (name.as_str(), *value)).chain(absent.map(|n| (*n, 0)))
    }

    /// Returns the metrics whose names this version does not know.
    pub fn unknown(&self) -> impl Iterator<Item = (&str, u64)> {
        self.iter().filter(|(name, _)| !metric::ALL.contains(name))
    }

    /// Returns the fields of JSON output.
    ///
    /// Known names are without prefix and `_total`. Skipped names and the confinement have fields
    /// of their own.
    #[must_use]
    pub fn fields(&self) -> BTreeMap<&str, u64> {
        let hidden =
            |name: &str| name.starts_with("relais_skipped_") || name == metric::CONFINEMENT;
        let known = |name| metric::ALL.contains(&name);
        self.iter()
            .filter(|(name, _)| !known(name) || !hidden(name))
            .map(|(name, value)| (if known(name) { short(name) } else { name }, value))
            .collect()
    }

    /// Returns the number of names in the folder that are not served.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let kinds = [
            metric::SKIPPED_LINKS,
            metric::SKIPPED_SPECIAL,
            metric::SKIPPED_MOUNTS,
            metric::SKIPPED_NAMES,
            metric::SKIPPED_UNREADABLE,
        ];
        kinds.iter().map(|kind| self.get(kind)).fold(0, u64::saturating_add)
    }

    /// Returns the sandbox measures that are in force in all workers.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        Confinement(u32::try_from(self.get(metric::CONFINEMENT)).unwrap_or_default())
    }
}

/// Returns a name without the parts that JSON fields do not have.
fn short(name: &str) -> &str {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    name.strip_suffix("_total").unwrap_or(name)
}

fn is_valid(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let length = PREFIX.len() + 1..=limits::METRIC_NAME;
    name.starts_with(PREFIX) && length.contains(&name.len()) && name.bytes().all(allowed)
}

impl Wire for Metrics {
    fn encode(&self, to: &mut Encoder<'_>) {
        let pairs: Vec<_> = self.0.iter().collect();
        to.list(&pairs, |(name, value), to| {
            to.short_text(name).u64(**value);
        });
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let count = from.u16()?;
        check_cap("metrics", count, limits::METRICS)?;
        let mut metrics = Self::default();
        for _ in 0..count {
            let name = from.short_text("name of a metric", limits::METRIC_NAME)?;
            // In order, each once.
            if !is_valid(name) || metrics.0.last_key_value().is_some_and(|(l, _)| **l >= *name) {
                return Err(WireError::BadValue { what: "name of a metric", value: 0 });
            }
            metrics.set(name, from.u64()?);
        }
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_metrics_are_kept_and_shown() {
        let metrics = Metrics::default()
            .with(metric::RESCANS, 3)
            .with("relais_new_total", 5)
            .with(metric::SKIPPED_LINKS, 2);
        let mut bytes = Vec::new();
        metrics.encode(&mut Encoder::new(&mut bytes));
        let decoded = Metrics::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(decoded, metrics);
        assert_eq!(decoded.unknown().collect::<Vec<_>>(), [("relais_new_total", 5)]);
        let fields = decoded.fields();
        assert_eq!((fields["rescans"], fields["relais_new_total"], fields["files"]), (3, 5, 0));
        assert!(!fields.contains_key("skipped_links") && decoded.skipped() == 2);
    }

    #[test]
    fn names_of_metrics_are_checked() {
        let decoded = |name: &str| {
            let mut bytes = Vec::new();
            Encoder::new(&mut bytes).u16(1).short_text(name).u64(1);
            Metrics::decode(&mut Decoder::new(&bytes))
        };
        assert!(metric::ALL.iter().all(|name| decoded(name).is_ok()));
        for bad in ["", "id", "relais_A", "relais_\u{1b}", &format!("relais_{}", "x".repeat(58))] {
            assert!(decoded(bad).is_err(), "{bad}");
            assert_eq!(Metrics::default().with(bad, 1), Metrics::default());
        }
        let mut all = Metrics::default();
        (0..2 * limits::METRICS).for_each(|n| all.set(&format!("relais_{n}"), 1));
        assert_eq!(all.0.len(), limits::METRICS);
        let mut twice = Vec::new();
        Encoder::new(&mut twice).u16(2).short_text("relais_a").u64(1).short_text("relais_a").u64(1);
        assert!(Metrics::decode(&mut Decoder::new(&twice)).is_err());
        assert!(matches!(
            Metrics::decode(&mut Decoder::new(&[0xff, 0xff])),
            Err(WireError::OverCap { .. })
        ));
    }
}
