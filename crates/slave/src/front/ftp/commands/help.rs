//! HELP and SYST.

use relais_ftp::{COMMANDS, CommandInfo, Reply};

/// Names of commands in a line of HELP.
const NAMES_PER_LINE: usize = 8;

/// HELP: RFC 959 section 4.1.3.
pub fn help(topic: Option<&str>) -> Reply {
    let Some(topic) = topic else {
        let names: Vec<_> = COMMANDS.iter().map(|info| info.name).collect();
        let lines = names.chunks(NAMES_PER_LINE).map(|names| format!(" {}", names.join(" ")));
        return Reply::new(214, "Commands:").lines(lines).line("End");
    };
    match CommandInfo::find(topic.trim().as_bytes()) {
        Some(info) => Reply::new(214, format!("Syntax: {}", info.usage())),
        None => Reply::new(502, "There is no such command"),
    }
}

/// SYST: RFC 959 section 4.1.3. Clients choose the format of listings by it.
pub fn system() -> Reply {
    Reply::new(215, "UNIX Type: L8")
}
