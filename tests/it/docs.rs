//! Documentation: `--help`, `help`, the manual pages and the guides in docs list the same options
//! and commands.

use std::collections::BTreeSet;
use std::path::Path;

use relais_client::COMMANDS;

use crate::harness::{Client, Output, ProgramBuilder, Standalone, TestDir};

#[path = "../../examples/docs/pages.rs"]
mod pages;

/// The spellings of an option, such as `-d` and `--dir`.
type Spellings = BTreeSet<String>;

#[track_caller]
fn run(program: &str, args: &[&str]) -> Output {
    let dir = TestDir::new();
    Client::finish(&mut ProgramBuilder::new(program, dir.path()).args(args).start())
}

/// Extracts the spellings of an option from a text with values and brackets.
fn spellings(text: &str) -> Spellings {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c: char| !word(c)).filter(|w| {
        w.starts_with('-') && w.trim_start_matches('-').starts_with(char::is_alphabetic)
    });
    words.map(str::to_owned).collect()
}

/// Returns the options in `--help`, without `--help` and `--version`.
fn options_of_help(help: &str) -> BTreeSet<Spellings> {
    let heads = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let options =
        heads.map(|line| spellings(line.split("  ").next().unwrap().split('<').next().unwrap()));
    options
        .filter(|option| {
            !option.is_empty() && !option.contains("--help") && !option.contains("--version")
        })
        .collect()
}

/// Renders a manual page and removes its markup.
fn manual(command: &clap::Command) -> String {
    let page = String::from_utf8(pages::manual(command)).unwrap();
    let plain = [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\-", "-"),
        ("\\*(Aq", "'"),
        ("\\(aq", "'"),
        ("\\&", ""),
        ("\\\\", "\\"),
    ];
    plain.iter().fold(page, |page, (markup, text)| page.replace(markup, text))
}

/// Returns the lines of a section of a manual page.
fn section<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = page
        .lines()
        .skip_while(|line| {
            *line != format!(".SH {heading}") && *line != format!(".SH \"{heading}\"")
        })
        .skip(1);
    lines.take_while(|line| !line.starts_with(".SH")).collect()
}

/// Returns the options that head a paragraph of a manual page.
fn options_of_manual(lines: &[&str]) -> BTreeSet<Spellings> {
    let heads =
        lines.windows(2).filter(|two| two[0] == ".TP" && two[1].starts_with('-')).map(|two| two[1]);
    let options =
        heads.map(|line| spellings(line.split('<').next().unwrap().split(" [").next().unwrap()));
    options.filter(|option| !option.contains("--help") && !option.contains("--version")).collect()
}

/// The guides for users and administrators.
fn guides() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    ["user-guide.md", "administrator-guide.md"]
        .map(|name| std::fs::read_to_string(folder.join(name)).unwrap())
        .concat()
}

/// Returns the first `synopsis` block below the heading of a program.
fn synopsis(guides: &str, program: &str) -> Vec<String> {
    let below = guides
        .split_once(&format!("\n### {program}\n"))
        .unwrap_or_else(|| panic!("{program} has no heading"))
        .1;
    let block = below.split_once("```synopsis\n").unwrap().1;
    let lines = block.lines().take_while(|line| *line != "```");
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn options_agree_in_help_manual_and_guides() {
    let guides = guides();
    for command in pages::programs() {
        let program = command.get_name();
        let page = manual(&command);
        let mut all = options_of_help(&run(program, &["--help"]).ok().stdout);
        assert!(!all.is_empty());
        assert_eq!(
            options_of_manual(&section(&page, "OPTIONS")),
            all,
            "--help of {program} and its manual page"
        );
        let lines = synopsis(&guides, program);
        let inherited = all.clone();
        for (words, _) in pages::leaves(&command) {
            let name = format!("{program} {}", words.join(" "));
            let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
            let own: BTreeSet<_> = options_of_help(&run(program, &words).ok().stdout)
                .difference(&inherited)
                .cloned()
                .collect();
            let documented: Vec<_> = section(&page, "COMMANDS")
                .into_iter()
                .skip_while(|line| *line != format!(".SS \"{name}\""))
                .collect();
            let end = documented
                .iter()
                .skip(1)
                .position(|line| line.starts_with(".SS"))
                .map_or(documented.len(), |at| at + 1);
            assert_eq!(
                options_of_manual(&documented[..end]),
                own,
                "--help of {name} and its manual page"
            );
            let line = lines
                .iter()
                .find(|line| line.starts_with(&name))
                .unwrap_or_else(|| panic!("the guides' synopsis misses {name}"));
            own.iter().for_each(|option| {
                assert!(
                    !option.is_disjoint(&spellings(line)),
                    "the guides' synopsis of {name} misses {option:?}"
                )
            });
            all.extend(own);
        }
        let documented = spellings(&lines.join(" "));
        let known: Spellings = all.iter().flatten().cloned().collect();
        assert_eq!(
            documented.difference(&known).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "options in the guides' synopsis of {program} that --help does not list"
        );
        all.iter().for_each(|option| {
            assert!(
                !option.is_disjoint(&documented),
                "the guides' synopsis of {program} misses {option:?}"
            )
        });
    }
}

#[test]
fn manual_pages_have_sections_and_examples() {
    for command in pages::programs() {
        let program = command.get_name();
        let page = manual(&command);
        let number = if program == "ftpclient" { 1 } else { 8 };
        let title = format!(".TH {} {number}", program.to_uppercase());
        assert!(page.contains(&title), "{program}: {page}");
        let mut headings = BTreeSet::new();
        for line in page.lines().filter(|line| line.starts_with(".SH ")) {
            assert!(headings.insert(line), "{program} has {line} twice");
        }
        let examples = section(&page, "EXAMPLES");
        let calls: Vec<_> = examples.iter().filter(|line| line.starts_with(program)).collect();
        assert!(calls.len() >= 2, "{program}: {examples:?}");
        for call in calls {
            // The example is valid: clap parses all its words.
            let words = shlex_words(call);
            let parsed = pages::programs()
                .into_iter()
                .find(|other| other.get_name() == program)
                .unwrap()
                .try_get_matches_from(words);
            parsed.unwrap_or_else(|error| panic!("{call}: {error}"));
        }
    }
}

/// Splits a command line that uses only single quotes.
fn shlex_words(call: &str) -> Vec<String> {
    let parts = call.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn help_groups_the_options() {
    for (program, headings) in [
        ("ftpmaster", &["Cluster:", "Network and encryption:"][..]),
        ("ftpslave", &["Folder:", "Cluster:", "Sessions:"]),
        ("ftpclient", &["Login:", "Encryption:", "Transfers:"]),
    ] {
        let help = run(program, &["-h"]).ok().stdout;
        for heading in headings {
            assert!(help.lines().any(|line| line == *heading), "{program}: {heading} in {help}");
        }
    }
}

#[test]
fn an_invalid_log_filter_is_a_usage_error() {
    for (program, args) in [
        ("ftpmaster", &["status"][..]),
        ("ftpslave", &["0", "--standalone"]),
        ("ftpclient", &["127.0.0.1:1", "-c", "pwd"]),
    ] {
        for filter in ["verbose", "relais_net=loud"] {
            let dir = TestDir::new();
            let setup = ProgramBuilder::new(program, dir.path()).args(args).env("RUST_LOG", filter);
            let output = Client::finish(&mut setup.start()).fails(2);
            assert!(output.stderr.contains("RUST_LOG"), "{program}: {output:?}");
        }
    }
}

#[test]
fn exit_statuses_agree_in_help_manual_and_guides() {
    let guides = guides().replace('\n', " ");
    for command in pages::programs() {
        let page = manual(&command);
        let documented: Vec<_> = section(&page, "EXIT STATUS")
            .windows(2)
            .filter(|two| two[0] == ".TP")
            .map(|two| two[1])
            .collect();
        let wanted: &[&str] = match command.get_name() {
            "ftpclient" => &["0", "1", "2", "3", "4", "5", "130"],
            "ftpmaster" => &["0", "1", "2", "3", "4"],
            _ => &["0", "1", "2", "3"],
        };
        assert_eq!(documented, wanted, "{}", command.get_name());
        let help = run(command.get_name(), &["--help"]).ok().stdout.replace('\n', " ");
        for status in wanted {
            assert!(
                help.split_once("Exit status:").unwrap().1.contains(&format!(" {status} ")),
                "{}: {status}",
                command.get_name()
            );
            assert!(
                guides
                    .split("Exit status:")
                    .skip(1)
                    .any(|told| told.contains(&format!(" {status} "))),
                "the guides: {status}"
            );
        }
    }
}

/// Returns the usages in the first column of the user guide's table of commands.
fn table(guides: &str) -> BTreeSet<String> {
    let rows = guides
        .split_once("| command |")
        .unwrap()
        .1
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let columns = rows.map(|row| row.split('|').nth(1).unwrap().to_owned());
    columns
        .flat_map(|column| {
            column.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn commands_agree_in_help_manual_and_guides() {
    let slave = Standalone::start(&[], &[]);
    let client = slave.client();
    let help = client.run(&["-c", "help"]).ok().stdout;
    let documented: BTreeSet<String> = help
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|l| l.split("  ").next().unwrap().to_owned())
        .collect();
    assert_eq!(table(&guides()), documented, "the user guide's table and help");
    let page = manual(&pages::programs()[2]);
    let headed: BTreeSet<String> = section(&page, "COMMANDS")
        .iter()
        .filter_map(|line| Some(line.strip_prefix(".SS ")?.trim_matches('"').to_owned()))
        .collect();
    assert_eq!(headed, documented, "the manual page and help");
    let lines: Vec<String> =
        COMMANDS.iter().map(|command| format!("help {}", client_word(command.name))).collect();
    let args: Vec<&str> = lines.iter().flat_map(|line| ["-c", line.as_str()]).collect();
    let explained = client.run(&args).ok().stdout;
    for command in COMMANDS {
        assert!(
            explained.contains(command.usage) && explained.contains(command.help),
            "help {}",
            command.name
        );
        assert!(
            command.help.lines().any(|line| line.starts_with("Example")),
            "help {} has no example",
            command.name
        );
        let usage = spellings(command.usage);
        for (option, _) in command.options {
            assert!(
                usage.contains(*option) || command.help.contains(option),
                "help {} does not describe {option}",
                command.name
            );
        }
        let known: Spellings =
            command.options.iter().map(|(option, _)| (*option).to_owned()).collect();
        assert!(
            usage.is_subset(&known),
            "the usage of {} has options without completion: {usage:?}",
            command.name
        );
    }
}

/// Quotes a command's name as an argument of `help`.
fn client_word(name: &str) -> String {
    crate::harness::quote(name)
}
