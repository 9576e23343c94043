//! Small files over a slow link: pipelining keeps the number of round trips low.

use std::time::{Duration, Instant};

use super::{CommandFixture, tree};
use crate::harness::{Client, DelayedLink};

const FILES: u32 = 2000;
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// Far less than a round trip for each file, and far more than a slow machine needs.
const MOST: Duration = Duration::from_secs(8);

fn name(n: u32) -> String {
    format!("t/{}/file-{n}", n % 20)
}

#[track_caller]
fn timed(client: &Client, command: &str) {
    let began = Instant::now();
    let json = client.command(command).ok().json();
    let time = began.elapsed();
    assert_eq!(json["files"], FILES, "{json}");
    assert!(
        time < MOST,
        "{command} took {time:?}; a round trip for each file would be {:?}",
        ROUND_TRIP * FILES
    );
}

#[test]
fn two_thousand_files_take_few_round_trips() {
    let names: Vec<String> = (0..FILES).map(name).collect();
    let files: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let fixture = CommandFixture::on_disk(&files);
    let proxy = DelayedLink::to(fixture.slave.addr, ROUND_TRIP);
    let client = Client::new(proxy.addr());
    timed(&client, "get -r t");
    assert_eq!(tree(&client.folder()), tree(&fixture.slave.root));
    timed(&client, "mirror t m");
    timed(&client, "put -r t -o u");
    timed(&client, "mirror -R t v");
    assert_eq!(tree(&fixture.slave.root.join("v")), tree(&client.folder().join("t")));
    // Compared by the digests of all files.
    let began = Instant::now();
    let json = client.command("mirror --checksum t m").ok().json();
    assert_eq!(json["files"], 0, "{json}");
    assert!(began.elapsed() < MOST, "{:?}", began.elapsed());
}
