//! Uploads from the page: by button, by dropping, cut and resumed.

use std::fs;

use super::PageSite;
use crate::harness::{SOON, TestDir, content, eventually};

/// Size of the file that is cut: 100 MB.
const LARGE: usize = 100_000_000;

#[test]
fn a_cut_upload_resumes_where_it_was() {
    let mut site = PageSite::start(&[("readme.txt", b"hello")]);
    site.open("/", "readme.txt");
    let local = TestDir::new();
    let sent = content(7, LARGE);
    let path = local.path().join("lab image.iso");
    fs::write(&path, &sent).unwrap();
    // The page sends the offset at which it resumes.
    site.browser.run(
        "window.offsets = [];
        const set = XMLHttpRequest.prototype.setRequestHeader;
        XMLHttpRequest.prototype.setRequestHeader = function (name, value) {
            if (name === 'Upload-Offset') window.offsets.push(Number(value));
            set.call(this, name, value);
        }",
    );
    site.browser.press("input[type=file]", path.to_str().unwrap());
    let progress = "return document.querySelector('#uploads progress')?.value ?? 0";
    eventually(SOON, "a third is sent", || {
        (site.browser.run(progress).as_f64()? > 33_000_000.0).then_some(())
    });
    site.picture("web-page-upload.png");
    site.slave.program.kill();
    site.browser.wait_for_text("trying again");
    assert!(!site.slave.root.join("lab image.iso").exists());
    let offsets = |site: &PageSite| site.browser.run("return window.offsets");
    let before = offsets(&site).as_array().unwrap().len();
    site.slave.restart_on_same_port();
    let first =
        eventually(SOON, "the upload resumes", || offsets(&site).as_array()?.get(before)?.as_f64());
    assert!(first > 16_000_000.0, "it resumes at {first}, not at the beginning");
    let stored = site.slave.root.join("lab image.iso");
    eventually(SOON, "the file is stored", || stored.exists().then_some(()));
    assert!(fs::read(stored).unwrap() == sent, "the content is equal");
    site.browser.wait_for_text("95 MiB");
}

#[test]
fn a_reloaded_page_resumes_its_upload() {
    let mut site = PageSite::start(&[("readme.txt", b"hello")]);
    site.open("/", "readme.txt");
    let local = TestDir::new();
    let sent = content(8, LARGE / 2);
    let path = local.path().join("half.bin");
    fs::write(&path, &sent).unwrap();
    site.browser.press("input[type=file]", path.to_str().unwrap());
    let progress = "return document.querySelector('#uploads progress')?.value ?? 0";
    eventually(SOON, "a third is sent", || {
        (site.browser.run(progress).as_f64()? > 16_000_000.0).then_some(())
    });
    site.slave.program.kill();
    site.slave.restart_on_same_port();
    site.open("/", "readme.txt");
    site.browser.run(
        "window.asked = [];
        const open = XMLHttpRequest.prototype.open;
        XMLHttpRequest.prototype.open = function (method, url) {
            window.asked.push(method);
            open.call(this, method, url);
        }",
    );
    site.browser.press("input[type=file]", path.to_str().unwrap());
    let first = eventually(SOON, "the page asks for the upload", || {
        site.browser.run("return window.asked[0]").as_str().map(str::to_owned)
    });
    assert_eq!(first, "HEAD", "it continues the upload that it knows");
    let stored = site.slave.root.join("half.bin");
    eventually(SOON, "the file is stored", || stored.exists().then_some(()));
    assert!(fs::read(stored).unwrap() == sent, "the content is equal");
}

#[test]
fn an_upload_that_was_dropped_begins_again() {
    let site = PageSite::start(&[("readme.txt", b"hello")]);
    site.open("/", "readme.txt");
    let local = TestDir::new();
    let sent = content(9, LARGE / 2);
    let path = local.path().join("evicted.bin");
    fs::write(&path, &sent).unwrap();
    site.browser.press("input[type=file]", path.to_str().unwrap());
    let progress = "return document.querySelector('#uploads progress')?.value ?? 0";
    eventually(SOON, "a third is sent", || {
        (site.browser.run(progress).as_f64()? > 16_000_000.0).then_some(())
    });
    // As if a limit had evicted it.
    for staged in fs::read_dir(site.slave.root.join(".relais/staging")).unwrap() {
        fs::remove_file(staged.unwrap().path()).unwrap();
    }
    let stored = site.slave.root.join("evicted.bin");
    eventually(SOON, "the file is stored", || stored.exists().then_some(()));
    assert!(fs::read(stored).unwrap() == sent, "the content is equal");
}

#[test]
fn dropped_files_are_uploaded() {
    let site = PageSite::start(&[("docs/a.txt", b"old")]);
    site.open("/docs/", "a.txt");
    site.browser.run(
        "const transfer = new DataTransfer();
        transfer.items.add(new File(['dropped'], 'b & c #1.txt'));
        transfer.items.add(new File([], 'empty.txt'));
        document.body.dispatchEvent(new DragEvent('drop', {
            dataTransfer: transfer, bubbles: true, cancelable: true }));",
    );
    site.browser.wait_for_text("b & c #1.txt");
    let folder = site.slave.root.join("docs");
    eventually(SOON, "both files", || folder.join("empty.txt").exists().then_some(()));
    assert_eq!(fs::read(folder.join("b & c #1.txt")).unwrap(), b"dropped");
    assert_eq!(fs::read(folder.join("empty.txt")).unwrap(), b"");
}

#[test]
fn replacing_a_file_is_confirmed() {
    let site = PageSite::start(&[("a.txt", b"old")]);
    site.open("/", "a.txt");
    let local = TestDir::new();
    let path = local.path().join("a.txt");
    fs::write(&path, b"new").unwrap();
    site.browser.press("input[type=file]", path.to_str().unwrap());
    site.browser.wait_for_text("Replace a.txt?");
    site.browser.click("dialog button[type=button]");
    assert_eq!(fs::read(site.slave.root.join("a.txt")).unwrap(), b"old");
    site.browser.reload();
    site.browser.press("input[type=file]", path.to_str().unwrap());
    site.browser.click("dialog button[type=submit]");
    eventually(SOON, "the new content", || {
        (fs::read(site.slave.root.join("a.txt")).ok()? == b"new").then_some(())
    });
}
