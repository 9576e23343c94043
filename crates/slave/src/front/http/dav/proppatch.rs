//! PROPPATCH: sets and removes properties of a file or folder, all or none.

use relais_dav::{
    Condition, Instruction, LiveProperty, MICROSOFT, Multistatus, PropertyStatus, PropertyUpdate,
};
use relais_http::{Status, date};
use relais_proto::{
    Attributes, ErrorCode, Expect, FileTime, Kind, PropertyChange, PropertyName, Refusal, TreePath,
};

use super::request::{DavAnswer, DavRequest, DavResult};
use crate::front::http::path::url_of;
use crate::front::http::session::HttpSession;

/// The property by which Windows sets the time of a file that it has sent.
const WIN32_MODIFIED: &str = "Win32LastModifiedTime";

/// What the instructions amount to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Dead properties: the last instruction for each name.
    changes: Vec<PropertyChange>,
    /// The new time of the file.
    mtime: Option<FileTime>,
}

/// An instruction that cannot be followed.
#[derive(Debug, PartialEq, Eq)]
struct FailedProperty {
    name: PropertyName,
    status: Status,
    condition: Option<Condition>,
}

/// PROPPATCH (RFC 4918, section 9.2).
///
/// `getlastmodified` and `Win32LastModifiedTime` set the time of a file on all slaves.
pub fn proppatch(request: &mut DavRequest<'_>) -> DavResult {
    let update = PropertyUpdate::parse(&request.body)?;
    let path = request.path.clone();
    let entry = request.http.entry(&path)?.0;
    let failed = match plan(&update, entry.kind) {
        Err(failed) => failed,
        Ok(plan) => match carry_out(request, &path, plan) {
            Ok(()) => Vec::new(),
            // All of them together are too much.
            Err(refusal) if refusal.code == ErrorCode::Limit => {
                names(&update).into_iter().map(too_large).collect()
            }
            Err(refusal) => return Err(refusal.into()),
        },
    };
    let mut out = Multistatus::new();
    write(&mut out, &url_of(&path, entry.kind == Kind::Folder), &names(&update), &failed);
    Ok(DavAnswer::xml(Status::MULTI_STATUS, out.finish()))
}

/// Returns the names of all properties, each once.
fn names(update: &PropertyUpdate) -> Vec<&PropertyName> {
    let mut names: Vec<&PropertyName> = Vec::new();
    for instruction in &update.instructions {
        if !names.contains(&instruction.name()) {
            names.push(instruction.name());
        }
    }
    names
}

fn too_large(name: &PropertyName) -> FailedProperty {
    let status = Status::INSUFFICIENT_STORAGE;
    FailedProperty { name: name.clone(), status, condition: None }
}

/// Returns what is to be done, or the instructions that make it impossible.
fn plan(update: &PropertyUpdate, kind: Kind) -> Result<Plan, Vec<FailedProperty>> {
    let (mut plan, mut failed) = (Plan::default(), Vec::new());
    for instruction in &update.instructions {
        let name = instruction.name();
        if let Err((status, condition)) = plan.add(instruction, kind) {
            failed.push(FailedProperty { name: name.clone(), status, condition });
        }
    }
    if failed.is_empty() { Ok(plan) } else { Err(failed) }
}

impl Plan {
    fn add(
        &mut self,
        instruction: &Instruction,
        kind: Kind,
    ) -> Result<(), (Status, Option<Condition>)> {
        let name = instruction.name();
        let live = LiveProperty::from_name(name);
        let is_protected = live.is_some_and(LiveProperty::is_protected);
        let is_time = live == Some(LiveProperty::LastModified);
        let is_windows_time = name.namespace == MICROSOFT && name.local == WIN32_MODIFIED;
        match instruction {
            // The time of a folder is that of its last change.
            _ if is_protected || is_time && kind == Kind::Folder => return Err(protected()),
            Instruction::Remove(_) if is_time => return Err(protected()),
            Instruction::Set { text, .. } if is_time || is_windows_time && kind == Kind::File => {
                self.mtime = Some(time(text).ok_or((Status::CONFLICT, None))?);
            }
            Instruction::Set { name, xml, .. } => self.change(name, Some(xml.clone())),
            Instruction::Remove(name) => self.change(name, None),
        }
        Ok(())
    }

    fn change(&mut self, name: &PropertyName, value: Option<String>) {
        self.changes.retain(|change| change.name != *name);
        self.changes.push(PropertyChange { name: name.clone(), value });
    }
}

/// Reads a time as HTTP writes it.
fn time(text: &str) -> Option<FileTime> {
    let seconds = date::seconds(date::parse(text.trim())?);
    Some(FileTime { seconds: i64::try_from(seconds).ok()?, nanos: 0 })
}

fn protected() -> (Status, Option<Condition>) {
    (Status::FORBIDDEN, Some(Condition::CannotModifyProtectedProperty))
}

/// Makes the changes: first the properties, which may exceed limits.
fn carry_out(request: &mut DavRequest<'_>, path: &TreePath, plan: Plan) -> Result<(), Refusal> {
    let Plan { changes, mtime } = plan;
    if !changes.is_empty() {
        let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
        let change =
            request.http.session.set_properties(id, path, changes, Expect::Any, keepalive)?;
        request.http.commit(change)?;
    }
    if mtime.is_some() {
        let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
        let attributes = Attributes { mtime, mode: None };
        let change =
            request.http.session.set_attributes(id, path, attributes, Expect::Any, keepalive)?;
        request.http.commit(change)?;
    }
    Ok(())
}

/// Writes the result of each property. If one fails, the others depend on it.
fn write(out: &mut Multistatus, href: &str, names: &[&PropertyName], failed: &[FailedProperty]) {
    let others: Vec<&PropertyName> = names
        .iter()
        .copied()
        .filter(|name| failed.iter().all(|failed| failed.name != **name))
        .collect();
    let status = if failed.is_empty() { Status::OK } else { Status::FAILED_DEPENDENCY };
    let lists: Vec<[&PropertyName; 1]> = failed.iter().map(|failed| [&failed.name]).collect();
    let mut statuses = Vec::new();
    for (failed, names) in failed.iter().zip(&lists) {
        let FailedProperty { status, condition, .. } = *failed;
        statuses.push(PropertyStatus { names, condition, ..PropertyStatus::new(status) });
    }
    if !others.is_empty() {
        statuses.push(PropertyStatus { names: &others, ..PropertyStatus::new(status) });
    }
    out.properties(href, &statuses);
}
