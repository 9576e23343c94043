//! The commands `help`, which reads the table, and `bye`.

use super::{Command, CompletionKind, TABLE, find, options, unknown};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::shell::Shell;

pub const HELP: Command = Command {
    name: "help",
    aliases: &["?"],
    usage: "help [COMMAND]",
    summary: "list the commands, or explain one",
    help: "Example: help get",
    options: &[],
    completes: CompletionKind::Commands,
    run: help,
};

pub const BYE: Command = Command {
    name: "bye",
    aliases: &["quit", "exit"],
    usage: "bye",
    summary: "leave; so does Ctrl-D",
    help: "Example: bye",
    options: &[],
    completes: CompletionKind::Nothing,
    run: bye,
};

fn help(_: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let Some(name) = options::at_most_one(options::names(args, &mut options::none)?)? else {
        return Ok(CommandOutcome::Text(overview()));
    };
    find(&name).map(|command| CommandOutcome::Text(about(command))).ok_or_else(|| unknown(&name))
}

fn bye(_: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let names = options::names(args, &mut options::none)?;
    if names.is_empty() {
        Ok(CommandOutcome::Leave)
    } else {
        Err(failure!(Usage, "the command takes no names"))
    }
}

/// Lists all commands, one line each.
fn overview() -> String {
    let width = TABLE.iter().map(|command| command.usage.len()).max().unwrap_or(0);
    let mut lines: Vec<String> =
        TABLE.iter().map(|c| format!("{:width$}  {}", c.usage, c.summary)).collect();
    lines.push(
        "\nNames with spaces are quoted as in a shell; after -- a name may begin with -."
            .to_owned(),
    );
    lines.join("\n")
}

/// Explains one command.
pub fn about(command: &Command) -> String {
    let aliases = if command.aliases.is_empty() {
        String::new()
    } else {
        format!("\nAlso: {}", command.aliases.join(", "))
    };
    format!("{}\n{}.{aliases}\n\n{}", command.usage, command.summary, command.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command() {
        let text = overview();
        assert!(TABLE.iter().all(|command| text.contains(command.usage)));
        assert!(about(&BYE).contains("quit, exit"));
    }
}
