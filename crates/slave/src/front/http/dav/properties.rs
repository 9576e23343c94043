//! The properties of one resource, as elements of an answer.

use relais_dav::{
    ActiveLock, LiveProperty, LockDepth, LockScope, Multistatus, PropFind, PropertyStatus,
    lock_discovery, supported_lock,
};
use relais_engine::FoundLock;
use relais_http::{Status, content_type, date};
use relais_proto::{Digest, Entry, Kind, Property, PropertyName, TreePath};

use super::tokens;
use crate::front::http::files::representation::{entity_tag, system_time};
use crate::front::http::path::url_of;

/// A file or folder with what its properties are made of.
pub struct Resource<'a> {
    /// The path.
    pub path: &'a TreePath,
    /// Its entry.
    pub entry: &'a Entry,
    /// Digest of a file, if it is known.
    pub digest: Option<Digest>,
    /// The dead properties.
    pub dead: &'a [Property],
    /// The locks that cover it.
    pub locks: Vec<&'a FoundLock>,
}

/// The space of folders (RFC 4331).
#[derive(Clone, Copy)]
pub struct Quota {
    /// Bytes that the disk has space for; none if the system does not tell.
    pub available: Option<u64>,
    /// Bytes of all files.
    pub used: u64,
}

/// What a client asks for, and what is the same for all resources of an answer.
pub struct Asked {
    /// The properties.
    pub propfind: PropFind,
    /// The space of folders, if it is asked for.
    pub quota: Option<Quota>,
    /// The user, who sees the tokens of the own locks.
    pub user: String,
}

impl Asked {
    /// Adds a resource to an answer.
    pub fn write(&self, resource: &Resource<'_>, out: &mut Multistatus) {
        let href = url_of(resource.path, resource.entry.kind == Kind::Folder);
        let (elements, missing) = match &self.propfind {
            PropFind::Names => (self.names(resource), Vec::new()),
            PropFind::Named(names) => self.named(names, resource),
            PropFind::All { include } => {
                let mut elements = self.all(resource);
                let (included, missing) = self.named(include, resource);
                elements.extend(
                    included.into_iter().filter(|new| !elements.contains(new)).collect::<Vec<_>>(),
                );
                (elements, missing)
            }
        };
        let ok = PropertyStatus { elements: &elements, ..PropertyStatus::new(Status::OK) };
        let lost = PropertyStatus { names: &missing, ..PropertyStatus::new(Status::NOT_FOUND) };
        if missing.is_empty() {
            out.properties(&href, &[ok]);
        } else if elements.is_empty() {
            out.properties(&href, &[lost]);
        } else {
            out.properties(&href, &[ok, lost]);
        }
    }

    /// Returns the named properties, and the names of those that the resource lacks.
    fn named<'n>(
        &self,
        names: &'n [PropertyName],
        resource: &Resource<'_>,
    ) -> (Vec<String>, Vec<&'n PropertyName>) {
        let (mut elements, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            let dead = resource.dead.iter().find(|dead| dead.name == *name);
            let live = || LiveProperty::from_name(name).and_then(|live| self.live(live, resource));
            match dead.map(|dead| dead.value.clone()).or_else(live) {
                Some(element) => elements.push(element),
                None => missing.push(name),
            }
        }
        (elements, missing)
    }

    fn all(&self, resource: &Resource<'_>) -> Vec<String> {
        let live = LiveProperty::ALL.into_iter().filter(|live| live.is_in_all());
        let live = live.filter(|live| !is_dead(*live, resource));
        let live = live.filter_map(|live| self.live(live, resource));
        live.chain(resource.dead.iter().map(|dead| dead.value.clone())).collect()
    }

    /// Returns the names of all properties as empty elements.
    fn names(&self, resource: &Resource<'_>) -> Vec<String> {
        let live = LiveProperty::ALL.into_iter().filter(|live| !is_dead(*live, resource));
        let live = live.filter(|live| self.live(*live, resource).is_some());
        let dead = resource.dead.iter().map(|dead| dead.name.clone());
        let names = live.map(LiveProperty::name).chain(dead);
        names.map(|name| relais_dav::empty_element(&name)).collect()
    }

    /// Returns the element of a property that the server computes; none if the resource has none.
    fn live(&self, property: LiveProperty, resource: &Resource<'_>) -> Option<String> {
        let (entry, is_file) = (resource.entry, resource.entry.kind == Kind::File);
        let text = match property {
            LiveProperty::ResourceType if is_file => return Some("<D:resourcetype/>".to_owned()),
            LiveProperty::ResourceType => {
                return Some("<D:resourcetype><D:collection/></D:resourcetype>".to_owned());
            }
            LiveProperty::SupportedLock => return Some(supported_lock()),
            LiveProperty::LockDiscovery => {
                let locks = resource.locks.iter().map(|lock| self.active_lock(lock, resource));
                return Some(lock_discovery(&locks.collect::<Vec<_>>()));
            }
            LiveProperty::DisplayName => resource.path.last().unwrap_or("/").to_owned(),
            LiveProperty::LastModified => date::format(system_time(entry.mtime)),
            LiveProperty::ContentLength if is_file => entry.size.to_string(),
            LiveProperty::ContentType if is_file => content_type::of_name(&entry.name),
            LiveProperty::EntityTag => {
                entity_tag(&resource.digest.filter(|_| is_file)?).to_string()
            }
            LiveProperty::QuotaAvailable if !is_file => self.quota?.available?.to_string(),
            LiveProperty::QuotaUsed if !is_file => self.quota?.used.to_string(),
            _ => return None,
        };
        Some(property.element(&text))
    }

    /// Returns a lock as the user sees it on a resource.
    pub fn active_lock(&self, found: &FoundLock, resource: &Resource<'_>) -> ActiveLock {
        let lock = &found.lock;
        // A lock that covers what is below it is that of a folder.
        let kind = if found.path == *resource.path { resource.entry.kind } else { Kind::Folder };
        ActiveLock {
            scope: if lock.exclusive { LockScope::Exclusive } else { LockScope::Shared },
            depth: if lock.deep { LockDepth::Infinity } else { LockDepth::Zero },
            owner: lock.owner.clone(),
            seconds: found.seconds,
            token: (lock.user == self.user).then(|| tokens::to_uri(lock.token)),
            root: url_of(&found.path, kind == Kind::Folder),
        }
    }
}

/// Whether a client has set a value in place of the computed one.
fn is_dead(live: LiveProperty, resource: &Resource<'_>) -> bool {
    resource.dead.iter().any(|dead| LiveProperty::from_name(&dead.name) == Some(live))
}
