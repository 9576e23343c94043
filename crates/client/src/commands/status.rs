//! The state of the current server: `status`.

use relais_proto::ErrorCode;

use super::{Command, CompletionKind, options};
use crate::Failure;
use crate::outcome::{CommandOutcome, ServerStatus};
use crate::shell::Shell;

pub const STATUS: Command = Command {
    name: "status",
    aliases: &[],
    usage: "status",
    summary: "show the current server",
    help: "Shows its address, its cluster, whether the connection is encrypted, the content\n\
           of its folder, skipped names, and its sessions.\n\n\
           Example: status",
    options: &[],
    completes: CompletionKind::Nothing,
    run: status,
};

fn status(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome, Failure> {
    if !options::names(args, &mut options::none)?.is_empty() {
        return Err(Failure::usage("the command takes no names"));
    }
    let report = shell.session.status()?;
    let Some((server, role)) = shell.session.server() else {
        return Err(Failure::new(ErrorCode::Unreachable, "the server went away"));
    };
    Ok(CommandOutcome::Status(Box::new(ServerStatus {
        host: shell.session.host().to_string(),
        server: server.to_string(),
        role,
        cluster: shell.session.origin().map(|origin| origin.cluster),
        authority: shell.session.authority(),
        report,
    })))
}
