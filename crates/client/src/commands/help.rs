//! `help`, which reads the table, and `bye`.

use super::{Command, Completes, TABLE, find, options, unknown};
use crate::Failure;
use crate::outcome::Outcome;
use crate::shell::Shell;

pub const HELP: Command = Command {
    name: "help",
    aliases: &["?"],
    usage: "help [COMMAND]",
    summary: "show what there is, or explain one command",
    help: "Example: help get",
    options: &[],
    completes: Completes::Commands,
    run: help,
};

pub const BYE: Command = Command {
    name: "bye",
    aliases: &["quit", "exit"],
    usage: "bye",
    summary: "leave; so does Ctrl-D",
    help: "Example: bye",
    options: &[],
    completes: Completes::Nothing,
    run: bye,
};

fn help(_: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let Some(name) = options::at_most_one(options::names(words, &mut options::none)?)? else {
        return Ok(Outcome::Text(overview()));
    };
    find(&name).map(|command| Outcome::Text(about(command))).ok_or_else(|| unknown(&name))
}

fn bye(_: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let names = options::names(words, &mut options::none)?;
    if names.is_empty() { Ok(Outcome::Leave) } else { Err(Failure::usage("it takes no names")) }
}

/// All commands, a line each.
fn overview() -> String {
    let width = TABLE.iter().map(|command| command.usage.len()).max().unwrap_or(0);
    let mut lines: Vec<String> =
        TABLE.iter().map(|c| format!("{:width$}  {}", c.usage, c.summary)).collect();
    lines.push(
        "\nNames with spaces are quoted as in a shell; behind -- a name may begin with -."
            .to_owned(),
    );
    lines.join("\n")
}

/// All about one command.
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
