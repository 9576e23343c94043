//! The requests of clients that were not tried: Windows Explorer and macOS Finder.
//!
//! The order and spelling of the commands are those that these clients are known to send. Passive
//! connections come by PASV from Explorer, and by EPSV from Finder.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{FtpTestClient, start_ftp};
use crate::harness::{content, eventually};

/// Sends commands in turn, each with the code of its reply.
fn exchange(client: &mut FtpTestClient, commands: &[(&str, u16)]) {
    for (line, code) in commands {
        client.expect(line, *code);
    }
}

/// Connects to the port of a PASV reply.
fn passive(client: &mut FtpTestClient) -> TcpStream {
    let text = client.expect("PASV", 227).text();
    let inside = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
    let numbers: Vec<u8> = inside.split(',').map(|number| number.parse().unwrap()).collect();
    let ip = <[u8; 4]>::try_from(&numbers[..4]).unwrap();
    let port = u16::from_be_bytes([numbers[4], numbers[5]]);
    TcpStream::connect(SocketAddr::from((ip, port))).unwrap()
}

/// Sends a command with a data connection by PASV; returns the data.
fn receive(client: &mut FtpTestClient, line: &str) -> Vec<u8> {
    let (mut data, mut bytes) = (passive(client), Vec::new());
    client.expect(line, 150);
    data.read_to_end(&mut bytes).unwrap();
    client.reply_of(226);
    bytes
}

#[test]
fn windows_explorer_browses_gets_and_puts() {
    let file = content(1, 200_000);
    let (slave, addr) = start_ftp(&[], &[("folder/report.pdf", &file)]);
    let mut client = FtpTestClient::connect(addr);
    exchange(&mut client, &[("USER anonymous", 331), ("PASS IEUser@", 230)]);
    exchange(&mut client, &[("opts utf8 on", 200), ("syst", 215), ("site help", 214)]);
    exchange(&mut client, &[("PWD", 257), ("noop", 200), ("CWD /", 250), ("TYPE A", 200)]);
    let listed = String::from_utf8(receive(&mut client, "LIST")).unwrap();
    assert!(listed.starts_with("drwx") && listed.ends_with(" folder\r\n"), "{listed}");
    exchange(&mut client, &[("CWD /folder/", 250), ("TYPE A", 200)]);
    let listed = String::from_utf8(receive(&mut client, "LIST")).unwrap();
    assert!(listed.contains(" 200000 ") && listed.ends_with(" report.pdf\r\n"), "{listed}");
    exchange(&mut client, &[("TYPE I", 200), ("SIZE report.pdf", 213)]);
    assert!(receive(&mut client, "RETR report.pdf") == file);
    // A new folder and a file in it, as by drag and drop.
    exchange(&mut client, &[("MKD New Folder", 257), ("RNFR New Folder", 350)]);
    exchange(&mut client, &[("RNTO Pictures", 250), ("CWD /folder/Pictures/", 250)]);
    exchange(&mut client, &[("TYPE I", 200)]);
    let mut data = passive(&mut client);
    client.expect("STOR one.jpg", 150);
    data.write_all(&file).unwrap();
    drop(data);
    client.reply_of(226);
    assert!(std::fs::read(slave.root.join("folder/Pictures/one.jpg")).unwrap() == file);
    exchange(&mut client, &[("DELE one.jpg", 250), ("CWD /folder/", 250), ("RMD Pictures", 250)]);
    client.expect("QUIT", 221);
}

#[test]
fn macos_finder_browses_and_gets() {
    let file = content(2, 300_000);
    let (_slave, addr) = start_ftp(&[], &[("Fotos/Übung.jpg", &file)]);
    let mut client = FtpTestClient::connect(addr);
    exchange(&mut client, &[("USER anonymous", 331), ("PASS cfnetwork@apple.com", 230)]);
    exchange(&mut client, &[("SYST", 215), ("PWD", 257), ("TYPE I", 200), ("CWD /", 250)]);
    let listed = eventually(crate::harness::SOON, "the folder is listed", || {
        let listed = String::from_utf8(client.get("LIST")).unwrap();
        listed.contains("Fotos").then_some(listed)
    });
    assert!(listed.starts_with("drwx"), "{listed}");
    exchange(&mut client, &[("CWD Fotos", 250), ("PWD", 257)]);
    let listed = String::from_utf8(client.get("LIST -a")).unwrap();
    assert!(listed.contains("Übung.jpg"), "{listed}");
    exchange(&mut client, &[("SIZE Übung.jpg", 213), ("MDTM Übung.jpg", 213)]);
    // It reads a file in parts, and breaks off what it does not need.
    exchange(&mut client, &[("REST 100000", 350)]);
    let mut data = client.begin("RETR Übung.jpg");
    let mut part = vec![0; 50_000];
    data.read_exact(&mut part).unwrap();
    assert!(part == file[100_000..150_000]);
    drop(data);
    let ended = client.reply().code;
    assert!([226, 426].contains(&ended), "{ended}");
    assert!(client.get("RETR Übung.jpg") == file);
    client.expect("QUIT", 221);
}
