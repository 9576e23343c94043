//! Each command in each state, with good, missing and bad arguments, against a table of codes.

mod table;
mod transfer;

use std::net::{Shutdown, SocketAddr, TcpStream};

use relais_ftp::{COMMANDS, CommandInfo, SITE_COMMANDS};

use super::{FtpTestClient, start_ftp};
use crate::accounts;
use crate::harness::{SOON, Standalone, eventually};
use table::{ROWS, Row};

/// Files of the slave. `big` is more than the buffers of a data connection hold.
const BIG: usize = 24 * 1024 * 1024;

/// What has happened on the control connection before the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The greeting.
    Connected,
    /// USER, without PASS.
    Named,
    /// The login of a user that may read.
    Reader,
    /// The login of a user that may write.
    Writer,
    /// A login and REIN.
    Reinitialized,
}

impl State {
    fn code(self, row: &Row) -> u16 {
        let [connected, named, reader, writer] = row.codes;
        match self {
            Self::Connected | Self::Reinitialized => connected,
            Self::Named => named,
            Self::Reader => reader,
            Self::Writer => writer,
        }
    }

    /// Returns a connection in this state.
    fn enter(self, addr: SocketAddr) -> FtpTestClient {
        // A busy machine verifies few passwords in time; further ones are refused.
        let log_in = |user| {
            eventually(SOON, "the login is taken", || {
                let mut client = FtpTestClient::connect(addr);
                client.expect(&format!("USER {user}"), 331);
                let password = format!("PASS {}", accounts::password(user));
                let has_logged_in = client.command(&password).code == 230;
                has_logged_in.then(|| client.expect("TYPE I", 200)).map(|_| client)
            })
        };
        match self {
            Self::Connected => FtpTestClient::connect(addr),
            Self::Named => {
                let mut client = FtpTestClient::connect(addr);
                client.expect("USER reader", 331);
                client
            }
            Self::Reader => log_in("reader"),
            Self::Writer => log_in("writer"),
            Self::Reinitialized => {
                let mut client = log_in("reader");
                client.expect("REIN", 220);
                client
            }
        }
    }
}

/// Starts a slave with the users `reader` and `writer` and the files of the table.
fn start() -> (Standalone, SocketAddr) {
    let big = vec![b'x'; BIG];
    let (slave, addr) = start_ftp(
        &[],
        &[("f", b"content\n"), ("dir/x", b"x"), ("old", b"old"), ("victim", b"v"), ("big", &big)],
    );
    for (user, rights) in [("reader", "read"), ("writer", "write")] {
        accounts::add(&slave.dir, &slave.dir.folder("state"), user, rights, "/");
    }
    eventually(SOON, "the accounts are in force", || {
        let mut client = FtpTestClient::connect(addr);
        client.expect("USER writer", 331);
        let password = accounts::password("writer");
        (client.command(&format!("PASS {password}")).code == 230).then_some(())
    });
    (slave, addr)
}

/// Sends the commands of a row and returns the code of the last reply to the last one.
fn code_of(client: &mut FtpTestClient, row: &Row) -> u16 {
    for line in row.before {
        client.command(line);
    }
    let data = row.has_data.then(|| client.command("EPSV")).filter(|reply| reply.code == 229);
    let data = data.map(|reply| {
        let text = reply.text();
        let port = text.split("|||").nth(1).unwrap().split('|').next().unwrap().parse().unwrap();
        let ip = client.control().peer_addr().unwrap().ip();
        TcpStream::connect((ip, port)).unwrap()
    });
    client.send(row.line);
    let first = client.try_reply().unwrap_or_else(|| panic!("no reply to {}", row.line));
    if first.code != 150 {
        return first.code;
    }
    // Whatever the direction: the data ends here, and the server has no more than fits.
    let data = data.expect(row.line);
    data.shutdown(Shutdown::Write).unwrap();
    let last = client.reply().code;
    drop(data);
    last
}

/// Checks all rows in a state. A connection that was expensive to log in serves several rows.
fn check(addr: SocketAddr, state: State) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut kept: Option<(FtpTestClient, usize)> = None;
    for row in ROWS {
        let (mut client, rows) = kept.take().unwrap_or_else(|| (state.enter(addr), 0));
        let (mut code, expected) = (code_of(&mut client, row), state.code(row));
        if code == 421 && expected != 421 {
            code = eventually(SOON, "the password is verified", || {
                client = state.enter(addr);
                Some(code_of(&mut client, row)).filter(|code| *code != 421)
            });
        }
        if code != expected {
            wrong.push(format!("{state:?}: {}: {code}, not {expected}", row.line));
        }
        if row.is_last {
            continue;
        }
        match state {
            State::Connected | State::Named => {}
            // The number of commands before a login and their time are limited.
            State::Reinitialized if rows == 20 => {}
            State::Reinitialized => kept = Some((client, rows + 1)),
            State::Reader | State::Writer => {
                client.expect("CWD /", 250);
                client.expect("REST 0", 350);
                kept = Some((client, 0));
            }
        }
    }
    wrong
}

#[test]
fn each_command_has_its_code_in_each_state() {
    let (_slave, addr) = start();
    let states = [
        State::Connected,
        State::Named,
        State::Reader,
        State::Reinitialized,
        // Last, because it changes the files.
        State::Writer,
    ];
    let wrong: Vec<String> = states.into_iter().flat_map(|state| check(addr, state)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table is complete: each command with a good argument, and with none and a bad one if it can
/// have them.
#[test]
fn the_table_has_each_command() {
    for info in COMMANDS.iter().chain(SITE_COMMANDS) {
        let own: Vec<&Row> = ROWS.iter().filter(|row| is_of(row, info)).collect();
        let has = |wanted: &dyn Fn(u16) -> bool| own.iter().any(|row| wanted(row.codes[3]));
        assert!(!own.is_empty(), "{}", info.name);
        assert!(has(&|code| (200..400).contains(&code)) || needs_tls(info), "{}", info.name);
        assert!(has(&|code| code >= 500), "{} with a bad argument", info.name);
        if !info.syntax.is_empty() && !info.syntax.starts_with('[') && info.name != "PASS" {
            let bare = ROWS.iter().find(|row| row.line == info.name).expect(info.name);
            assert_eq!(bare.codes, [501; 4], "{}", info.name);
        }
    }
}

fn is_of(row: &Row, info: &CommandInfo) -> bool {
    let rest = row.line.strip_prefix(info.name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// These succeed only over TLS, which has its own tests.
fn needs_tls(info: &CommandInfo) -> bool {
    matches!(info.name, "AUTH" | "PBSZ" | "PROT" | "HOST" | "USER" | "PASS")
}
