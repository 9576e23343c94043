//! The manual pages: options from the definitions of the command lines, the prompt's commands
//! from the client's own table, and here only what stands in neither.

#[path = "../../crates/client/src/args.rs"]
#[allow(dead_code, reason = "only the definitions are read")]
mod client;
#[path = "../../crates/master/src/args.rs"]
#[allow(dead_code, reason = "only the definitions are read")]
mod master;
#[path = "../../crates/slave/src/args.rs"]
#[allow(dead_code, reason = "only the definitions are read")]
mod slave;

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use relais_client::COMMANDS;

/// A term and what it means.
type Term = (&'static str, &'static str);

const STATE: Term = (
    "$STATE_DIRECTORY, $XDG_STATE_HOME/relais, ~/.local/state/relais",
    "The state folder: the first of these that is set.",
);
const ACCOUNTS: Term = (
    "accounts",
    "In the state folder: who may log in, with Argon2id hashes of the passwords. Changed with ftpmaster user.",
);
const KEY: Term = (
    "cluster.key",
    "In the state folder: the key that master and slaves prove to each other. The master makes it at its first start.",
);
const LOG: Term =
    ("RUST_LOG", "What is logged on standard error: error, warn, info, debug or trace.");

const MASTER_FILES: &[Term] = &[STATE, KEY, ACCOUNTS];
const SLAVE_FILES: &[Term] = &[
    ("_FTPROOT", "The folder that is served unless --root names another."),
    (
        ".relais",
        "In that folder: the slave's own, with the catalogue and what is coming in. It can be removed while no slave runs on the folder.",
    ),
    STATE,
    KEY,
];
const CLIENT_FILES: &[Term] = &[
    ("_CLIENTROOT", "Where the current folder has it: the local folder, unless -d names another."),
    (
        ".log",
        "In the local folder: the transfers that are not finished. The next start carries on with those of the same cluster.",
    ),
    (
        ".relais-*.part",
        "Content that is not whole yet. It gets its own name once its digest was checked.",
    ),
    (
        "$XDG_STATE_HOME/relais/client-history",
        "The lines of earlier prompts; below ~/.local/state where the variable is not set.",
    ),
];
const CLIENT_ENVIRONMENT: &[Term] = &[
    (
        "NO_COLOR",
        "Where it is set to anything, there are no colours. There are none either where standard output is no terminal.",
    ),
    LOG,
];

const MASTER_EXAMPLES: &[Term] = &[
    ("ftpmaster", "Serve clients of this machine on 127.0.0.1:2121."),
    (
        "ftpmaster --listen 0.0.0.0:2121 --copies 2",
        "Serve a network; a put is done once two slaves hold it.",
    ),
    (
        "ftpmaster user add ann --rights write",
        "Add a user. From the first user on, all others have to log in.",
    ),
    ("ftpmaster status", "Show the slaves, and how far they are behind."),
    (
        "ftpmaster drain 127.0.0.1:2122",
        "Take a slave out of service before its machine is stopped.",
    ),
    ("ftpmaster scrub", "Have all slaves check their files, and wait for the result."),
    ("ftpmaster skipped", "Name what the slaves leave out of the tree, with the reasons."),
];
const SLAVE_EXAMPLES: &[Term] = &[
    (
        "ftpslave 2122 --root /srv/files",
        "Serve a folder to the clients of a master on this machine.",
    ),
    (
        "ftpslave 2122 --root /srv/files --master files.example --cluster-key /etc/relais/cluster.key --user relais",
        "Serve it on another machine than the master's, without the rights of root.",
    ),
    ("ftpslave 2122 --standalone", "Serve _FTPROOT without a master."),
];
const CLIENT_EXAMPLES: &[Term] = &[
    ("ftpclient files.example", "Open the prompt."),
    ("ftpclient ann@files.example -c 'get -r images' -d /tmp", "Fetch a folder as user ann."),
    (
        "ftpclient files.example --json -c 'put lab.iso'",
        "Put a file, and print what came of it for a script.",
    ),
];

/// The programs, and the sections of their manual pages: 8 is for servers.
const PROGRAMS: [(&str, &str); 3] = [("ftpmaster", "8"), ("ftpslave", "8"), ("ftpclient", "1")];

/// The section of a program's manual page.
pub fn section_of(program: &str) -> &'static str {
    PROGRAMS.iter().find(|(name, _)| *name == program).map_or("1", |(_, section)| section)
}

/// The definitions of the three programs' command lines.
pub fn programs() -> [Command; 3] {
    [master::Args::command(), slave::Args::command(), client::Args::command()].map(|mut command| {
        command = command.disable_help_subcommand(true);
        command.build();
        command
    })
}

/// The manual page of a program.
pub fn manual(command: &Command) -> Vec<u8> {
    let name = command.get_name();
    let version = command.get_version().unwrap_or_default();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(section_of(name))
        .source(format!("Relais {version}"))
        .manual("Relais");
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = man.render_title(&mut page).and_then(|()| man.render_name_section(&mut page));
    page.extend(synopsis(command).render().into_bytes());
    let _ = man.render_description_section(&mut page);
    page.extend(options(command, &man));
    let mut rest = Roff::new();
    subcommands(&mut rest, command);
    if name == "ftpclient" {
        commands(&mut rest);
    }
    let (examples, files, environment): (_, _, &[Term]) = match name {
        "ftpmaster" => (MASTER_EXAMPLES, MASTER_FILES, &[LOG]),
        "ftpslave" => (SLAVE_EXAMPLES, SLAVE_FILES, &[LOG]),
        _ => (CLIENT_EXAMPLES, CLIENT_FILES, CLIENT_ENVIRONMENT),
    };
    terms(
        &mut rest,
        "EXIT STATUS",
        exit_status(command).iter().map(|(a, b)| (a.as_str(), b.as_str())),
    );
    terms(&mut rest, "FILES", files.iter().copied());
    terms(&mut rest, "ENVIRONMENT", environment.iter().copied());
    terms(&mut rest, "EXAMPLES", examples.iter().copied());
    rest.control("SH", ["SEE ALSO"]);
    let others: Vec<_> = PROGRAMS
        .iter()
        .filter(|(other, _)| *other != name)
        .map(|(other, section)| format!("{other}({section})"))
        .collect();
    rest.text([roman(others.join(", "))]);
    page.extend(rest.render().into_bytes());
    page
}

/// The section of the options. Its groups, which clap_mangen makes sections, are subsections.
fn options(command: &Command, man: &Man) -> Vec<u8> {
    let mut section = Vec::new();
    // Writing to memory does not fail.
    let _ = man.render_options_section(&mut section);
    let mut text = String::from_utf8_lossy(&section).into_owned();
    for heading in command.get_arguments().filter_map(Arg::get_help_heading) {
        let upper = heading.to_uppercase();
        for (from, to) in [
            (format!(".SH \"{upper}\"\n"), format!(".SS \"{heading}\"\n")),
            (format!(".SH {upper}\n"), format!(".SS {heading}\n")),
        ] {
            text = text.replace(&from, &to);
        }
    }
    text.into_bytes()
}

/// All that can be called, with the words that lead there: subcommands that have none of their own.
pub fn leaves(command: &Command) -> Vec<(Vec<String>, &Command)> {
    let below = |sub| match leaves(sub) {
        none if none.is_empty() => vec![(vec![sub.get_name().to_owned()], sub)],
        some => some
            .into_iter()
            .map(|(words, leaf)| ([vec![sub.get_name().to_owned()], words].concat(), leaf))
            .collect(),
    };
    command.get_subcommands().flat_map(below).collect()
}

/// How it is called, with the values that options take; each subcommand in a line of its own.
fn synopsis(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(call(command.get_name(), command, false));
    for (words, sub) in leaves(command) {
        roff.control("br", []);
        roff.text(call(&format!("{} {}", command.get_name(), words.join(" ")), sub, true));
    }
    roff
}

/// One line of it. What is inherited is not said again.
fn call(name: &str, command: &Command, inherited: bool) -> Vec<Inline> {
    let mut line = vec![bold(name)];
    for arg in command.get_positionals() {
        line.extend([roman(" "), italic(value(arg))]);
    }
    let own = |arg: &&Arg| is_own(arg) && !(inherited && arg.is_global_set());
    for arg in command.get_opts().chain(switches(command)).filter(own) {
        line.extend([roman(" ["), bold(spellings(arg).swap_remove(0))]);
        if arg.get_action().takes_values() {
            line.extend([roman(" "), italic(value(arg))]);
        }
        line.push(roman(if matches!(arg.get_action(), ArgAction::Append) { "]..." } else { "]" }));
    }
    line
}

fn switches(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !arg.get_action().takes_values())
}

/// Whether it is an option that a program defines, and shows.
fn is_own(arg: &Arg) -> bool {
    !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

/// `-x` and `--xyz`, as far as there are both.
fn spellings(arg: &Arg) -> Vec<String> {
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    short.into_iter().chain(arg.get_long().map(|word| format!("--{word}"))).collect()
}

fn value(arg: &Arg) -> String {
    arg.get_value_names().map_or_else(|| arg.get_id().to_string(), |names| names.join(" "))
}

fn subcommands(roff: &mut Roff, command: &Command) {
    if !command.has_subcommands() {
        return;
    }
    roff.control("SH", ["COMMANDS"]);
    // What the program takes as well is explained there.
    let is_inherited = |arg: &Arg| {
        arg.get_long().is_some()
            && command.get_arguments().any(|top| top.get_long() == arg.get_long())
    };
    for (words, sub) in leaves(command) {
        roff.control("SS", [format!("{} {}", command.get_name(), words.join(" ")).as_str()]);
        roff.text([roman(sub.get_about().map(ToString::to_string).unwrap_or_default())]);
        for arg in sub.get_arguments().filter(|arg| is_own(arg) && !is_inherited(arg)) {
            let mut head = vec![bold(if arg.is_positional() {
                value(arg)
            } else {
                spellings(arg).join(", ")
            })];
            if !arg.is_positional() && arg.get_action().takes_values() {
                head.extend([roman(" "), italic(value(arg))]);
            }
            roff.control("TP", []);
            roff.text(head);
            roff.text([roman(arg.get_help().map(ToString::to_string).unwrap_or_default())]);
        }
    }
}

/// The prompt's commands, from the table that the prompt reads.
fn commands(roff: &mut Roff) {
    roff.control("SH", ["COMMANDS"]);
    roff.text([roman("Commands come from -c, from standard input where that is no terminal, or from the prompt. ")]);
    roff.text([roman("Words are quoted as in a shell; behind -- a name may begin with -.")]);
    for command in COMMANDS {
        roff.control("SS", [command.usage]);
        let also = command.aliases.join(", ");
        let also = if also.is_empty() { also } else { format!(" Also: {also}.") };
        roff.text([roman(format!("{}.{also}", capital(command.summary)))]);
        command.help.split("\n\n").for_each(|part| paragraph(roff, part));
    }
}

/// A paragraph of help. Examples keep their lines.
fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    let example = text.starts_with("Example");
    for (at, line) in text.lines().enumerate() {
        if example && at > 0 {
            roff.control("br", []);
        }
        roff.text([if example { bold(line) } else { Inline::Roman(line.trim().to_owned()) }]);
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `Exit status: 0 all well, 1 ...` at the end of a program's help.
fn exit_status(command: &Command) -> Vec<(String, String)> {
    let text =
        command.get_after_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    let text = text.trim_start_matches("Exit status:").trim_end_matches('.');
    // A meaning may hold a comma; a status is a number.
    let mut statuses: Vec<(String, String)> = Vec::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once(' ') {
            Some((status, meaning)) if status.parse::<u8>().is_ok() => {
                statuses.push((status.to_owned(), meaning.to_owned()))
            }
            _ => {
                if let Some((_, meaning)) = statuses.last_mut() {
                    *meaning = format!("{meaning}, {part}");
                }
            }
        }
    }
    statuses
}

fn terms<'a>(roff: &mut Roff, heading: &str, terms: impl IntoIterator<Item = (&'a str, &'a str)>) {
    roff.control("SH", [heading]);
    for (term, meaning) in terms {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(capital(meaning))]);
    }
}
