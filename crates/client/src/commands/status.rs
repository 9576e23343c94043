//! The state of the current server: `status`.

use super::command::{Args, Command, PLAIN};
use relais_proto::metric;

use crate::Result;
use crate::outcome::{CommandOutcome, ServerStatus};
use crate::shell::Shell;

pub const STATUS: Command = Command {
    name: "status",
    usage: "status",
    summary: "show the current server",
    help: "Shows its address, its cluster, whether the connection is encrypted, the content\n\
           of its folder, skipped names, and its sessions.\n\n\
           Example: status",
    run: status,
    ..PLAIN
};

fn status(shell: &mut Shell, _: Args) -> Result<CommandOutcome> {
    let (slave, lsn, metrics, last_error) = shell.session.status()?;
    let Some((server, role)) = shell.session.server() else {
        fail!(Unreachable, "the server went away");
    };
    let authority = shell.session.authority().map(|authority| authority.to_string());
    Ok(CommandOutcome::Status(Box::new(ServerStatus {
        host: shell.session.settings.host.to_string(),
        server: server.to_string(),
        role,
        slave: slave.to_string(),
        cluster: shell.session.origin.as_ref().map(|origin| origin.cluster.to_string()),
        encrypted: authority.is_some(),
        authority,
        number: lsn.to_string(),
        skipped: [
            ("total", metrics.skipped()),
            ("links", metrics.get(metric::SKIPPED_LINKS)),
            ("special", metrics.get(metric::SKIPPED_SPECIAL)),
            ("mounts", metrics.get(metric::SKIPPED_MOUNTS)),
            ("names", metrics.get(metric::SKIPPED_NAMES)),
            ("unreadable", metrics.get(metric::SKIPPED_UNREADABLE)),
        ],
        confined: metrics.confinement().names(),
        metrics,
        last_error: Some(last_error).filter(|error| !error.is_empty()),
    })))
}
