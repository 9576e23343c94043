//! Resumed downloads at the prompt and in scripts: output, and how little is fetched twice.

use std::fs;

use super::{DownloadFixture, GET, NAME, NOTHING, converge};
use crate::harness::{Client, content, leftovers};

#[test]
pub fn little_is_fetched_twice() {
    const MIB: u64 = 1 << 20;
    let bytes = content(4, 16 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    fixture.proxy.throttle(Some(3 * MIB));
    let client = fixture.client();
    let (mut program, _) = fixture.freeze(&client, GET, 9 * MIB);
    program.kill();
    fixture.proxy.cut_all();
    fixture.proxy.throttle(None);
    fixture.proxy.take_content_bytes();
    converge(&client, &bytes);
    let fetched = fixture.proxy.take_content_bytes();
    // 7 MiB were missing. At most 4 MiB, more than a second's worth here, may be fetched twice.
    assert!(fetched <= 11 * MIB, "{fetched} bytes were fetched where 7 MiB were missing");
}

#[test]
fn the_json_object_has_the_resume_offset() {
    let bytes = content(5, 8 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    fixture.proxy.throttle(Some(2 << 20));
    let (mut program, _) = fixture.freeze(&client, GET, 5 << 20);
    program.signal(nix::sys::signal::Signal::SIGINT);
    let output = Client::finish(&mut program).fails(130);
    assert!(
        fs::read_to_string(client.folder().join(".log")).unwrap().contains("big file.bin"),
        "{output:?}"
    );
    fixture.proxy.cut_all();
    fixture.proxy.throttle(None);
    let again = client.run(GET).ok();
    assert!(client.read(NAME) == bytes);
    assert!(again.json()["resumed_from"].as_u64().unwrap() > 0, "{again:?}");
    assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
}

#[test]
pub fn a_prompt_resumes_unfinished_transfers_at_its_start() {
    let bytes = content(6, 12 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.killed(9 << 20);
    let said = client.resume_at_a_prompt();
    assert!(client.read(NAME) == bytes, "{said}");
    assert!(said.contains("resumed from"), "{said}");
    assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
}

#[test]
fn a_prompt_resumes_transfers_outside_of_the_local_folder() {
    let bytes = content(26, 12 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    let outside = client.home().join("outside");
    fs::create_dir(&outside).unwrap();
    for (n, place) in
        [format!("{}/", outside.display()), "../outside".to_owned()].iter().enumerate()
    {
        let get = format!("get '{NAME}' -o {place}");
        let (mut program, frozen) = fixture.freeze(&client, &["-c", &get], 5 << 20);
        assert!(frozen);
        program.kill();
        fixture.proxy.cut_all();
        let said = client.resume_at_a_prompt();
        assert!(fs::read(outside.join(NAME)).unwrap() == bytes, "{said}");
        assert!(said.contains("resumed from"), "{said}");
        assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{n}");
        fs::remove_file(outside.join(NAME)).unwrap();
    }
}

#[test]
fn transfers_shows_all_that_a_killed_client_received() {
    let bytes = content(27, 12 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    let (mut program, frozen) = fixture.freeze(&client, GET, 5 << 20);
    assert!(frozen);
    program.kill();
    fixture.proxy.cut_all();
    let mut names = fs::read_dir(client.folder()).unwrap().map(|entry| entry.unwrap().path());
    let part = names.find(|path| path.extension().is_some_and(|end| end == "part")).unwrap();
    let json = client.command("transfers").ok().json();
    assert_eq!(json["transfers"][0]["bytes"], fs::metadata(part).unwrap().len(), "{json}");
    let json = client.command("transfers --drop").ok().json();
    assert_eq!(json["dropped"], 1, "{json}");
    assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
}

#[test]
fn a_log_of_another_program_stays() {
    let bytes = content(28, 100_000);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    let log = client.folder().join(".log");
    fs::write(&log, "started\nstopped\n").unwrap();
    let output = client.run(GET).ok();
    assert!(output.stderr.contains("another program wrote this file"), "{output:?}");
    assert!(client.read(NAME) == bytes);
    let output = client.command("transfers --drop").fails(1);
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "started\nstopped\n");
}

#[test]
fn a_script_leaves_unfinished_transfers_alone() {
    let bytes = content(7, 12 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.killed(9 << 20);
    let log = || fs::read(client.folder().join(".log")).unwrap();
    let before = log();
    let asked = fixture.proxy.content_bytes();
    for args in [&["--json", "-c", "pwd"][..], &["--no-resume", "-c", "pwd"]] {
        let output = client.run(args).ok();
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    let mut program = client.setup(&[]).with_stdin().start();
    program.type_in("ls\n");
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(log() == before && !client.folder().join(NAME).exists());
    assert_eq!(fixture.proxy.content_bytes(), asked, "content was fetched");
    converge(&client, &bytes);
}

#[test]
pub fn a_running_client_is_not_disturbed_by_another() {
    let bytes = content(8, 3 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    let (mut program, frozen) = fixture.freeze(&client, GET, 1 << 20);
    assert!(frozen);
    // The same local folder, without the proxy. The second client may refuse or do other work, but
    // does no harm.
    let second = crate::harness::ProgramBuilder::new("ftpclient", client.home())
        .args([
            fixture.slave.addr.to_string().as_str(),
            "-d",
            client.folder().to_str().unwrap(),
            "-c",
            "get 'big file.bin'",
        ])
        .start();
    let mut second = second;
    Client::finish(&mut second).fails(1);
    fixture.proxy.release();
    Client::finish(&mut program).ok();
    assert!(client.read(NAME) == bytes);
}

#[test]
pub fn a_slave_that_comes_back_within_retry_is_enough() {
    let bytes = content(21, 48 << 20);
    let mut fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    let (mut program, frozen) =
        fixture.freeze(&client, &["--retry", "60", "--json", "-c", "get 'big file.bin'"], 10 << 20);
    assert!(frozen);
    fixture.slave.program.kill();
    fixture.proxy.cut_all();
    fixture.slave.restart();
    fixture.proxy.set_target(fixture.slave.addr);
    let output = Client::finish(&mut program);
    if output.status != 0 {
        output.fails(5);
        converge(&client, &bytes);
    }
    assert!(client.read(NAME) == bytes);
}
