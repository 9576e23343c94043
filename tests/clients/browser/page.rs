//! Browsing, searching, previews and changes.

use std::fs;

use super::PageSite;
use crate::harness::{SOON, content, eventually};

const TEXT: &[u8] = b"First line <b>not bold</b>\nsecond line\n";

/// A white pixel as GIF.
const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\0\0\0\0\0,\0\0\0\0\
    \x01\0\x01\0\0\x02\x02D\x01\0;";

fn site() -> PageSite {
    let large = content(1, 3_000_000);
    PageSite::start(&[
        ("docs/handbook.pdf", &large[..1_400_000]),
        ("docs/notes.txt", TEXT),
        ("lectures/week 1/slides.pdf", &large[..700_000]),
        ("lectures/week 2/slides.pdf", &large[..900_000]),
        ("image.gif", PIXEL),
        ("large.iso", &large),
        ("small.txt", TEXT),
    ])
}

#[test]
fn folders_are_browsed_without_scripts() {
    let site = site();
    site.open("/", "large.iso");
    let browser = &site.browser;
    browser.block_scripts();
    site.open("/", "large.iso");
    assert!(browser.all("td.actions button").is_empty());
    let text = browser.text();
    assert!(text.contains("2.9 MiB") && text.contains("lectures"), "{text}");
    browser.click("a[href='lectures/'], a[href='/lectures/']");
    browser.click("a[href*='week%202']");
    browser.wait_for_text("slides.pdf");
    browser.click("nav a[href='/lectures/']");
    browser.wait_for_text("week 1");
    browser.click("nav a[href='/']");
    browser.click("th.size a");
    browser.click("th.size a");
    browser.wait_for_text("large.iso");
    let text = browser.text();
    let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(at("large.iso") < at("small.txt") && at("docs") < at("large.iso"), "{text}");
}

#[test]
fn search_filters_and_finds_below() {
    let site = site();
    site.open("/", "large.iso");
    let browser = &site.browser;
    browser.type_into("#search", "LARGE");
    browser.wait_until_gone("small.txt");
    assert!(browser.text().contains("large.iso"));
    browser.type_into("#search", "slides\u{e007}");
    browser.wait_for_text("lectures/week 1/slides.pdf");
    assert!(browser.text().contains("lectures/week 2/slides.pdf"));
    browser.click("a[href$='week%201/slides.pdf']");
}

#[test]
fn pictures_and_texts_are_previewed() {
    let site = site();
    site.open("/", "image.gif");
    let browser = &site.browser;
    browser.click("button[aria-label='Preview small.txt']");
    browser.wait_for_text("First line <b>not bold</b>");
    browser.click("dialog .bar button");
    browser.click("button[aria-label='Preview image.gif']");
    eventually(SOON, "the picture", || {
        (browser.run("return document.querySelector('dialog img')?.naturalWidth") == 1)
            .then_some(())
    });
    assert!(browser.all("button[aria-label='Preview large.iso']").is_empty());
}

#[test]
fn entries_are_made_renamed_and_deleted() {
    let site = site();
    site.open("/", "small.txt");
    let browser = &site.browser;
    browser.click("#new-folder");
    browser.type_into("dialog input", "term 2");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("term 2");
    assert!(site.slave.root.join("term 2").is_dir());

    browser.click("button[aria-label='Rename small.txt']");
    browser.type_into("dialog input", "50 % off?.txt");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("50 % off?.txt");
    assert_eq!(fs::read(site.slave.root.join("50 % off?.txt")).unwrap(), TEXT);

    // A name that exists is not replaced.
    browser.click("button[aria-label='Rename large.iso']");
    browser.type_into("dialog input", "image.gif");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("Cannot rename large.iso");
    assert_eq!(fs::read(site.slave.root.join("image.gif")).unwrap(), PIXEL);

    browser.click("button[aria-label='Delete docs']");
    browser.wait_for_text("everything in it");
    browser.click("dialog button[type=button]");
    assert!(site.slave.root.join("docs/notes.txt").exists());
    browser.click("button[aria-label='Delete docs']");
    browser.click("dialog button[type=submit]");
    browser.wait_until_gone("docs");
    assert!(!site.slave.root.join("docs").exists());
}

#[test]
fn entries_that_a_search_finds_are_changed_where_they_are() {
    let site = site();
    site.open("/?search=slides", "lectures/week 1/slides.pdf");
    let browser = &site.browser;
    browser.click("button[aria-label='Rename lectures/week 1/slides.pdf']");
    browser.type_into("dialog input", "first.pdf");
    browser.click("dialog button[type=submit]");
    browser.wait_until_gone("lectures/week 1/slides.pdf");
    assert!(site.slave.root.join("lectures/week 1/first.pdf").exists());
    browser.click("button[aria-label='Delete lectures/week 2/slides.pdf']");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("0 names found");
    assert!(!site.slave.root.join("lectures/week 2/slides.pdf").exists());
    site.open("/?search=notes", "docs/notes.txt");
    browser.click("button[aria-label='Preview docs/notes.txt']");
    browser.wait_for_text("First line <b>not bold</b>");
}

#[test]
fn small_and_dark_screens_are_readable() {
    let site = site();
    site.open("/", "large.iso");
    let browser = &site.browser;
    site.picture("web-page-light.png");
    let background = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.run(background);
    browser.prefer("dark");
    assert_ne!(browser.run(background), light);
    site.picture("web-page-dark.png");
    browser.resize(500, 800);
    let width =
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    assert_eq!(browser.run(width), true, "nothing is cut off on a small screen");
    site.picture("web-page-small.png");
    // Each button has a name for screen readers, each field a label.
    let unnamed = "return [...document.querySelectorAll('button, input:not([type=hidden])')]
        .filter((node) => !node.ariaLabel && !node.textContent.trim() && !node.labels?.length)
        .map((node) => node.outerHTML)";
    assert_eq!(browser.run(unnamed), serde_json::json!([]));
}

#[test]
fn listings_are_used_by_keyboard() {
    let site = site();
    site.open("/", "large.iso");
    let browser = &site.browser;
    browser.press("body", "/");
    assert_eq!(browser.run("return document.activeElement.id"), "search");
    // The dialog has the focus, and Escape closes it without a change.
    browser.run("document.querySelector('[aria-label=\"Delete large.iso\"]').focus()");
    browser.press("[aria-label='Delete large.iso']", "\u{e007}");
    browser.wait_for_text("deleted on all servers");
    assert_eq!(browser.run("return !!document.activeElement.closest('dialog')"), true);
    browser.press("dialog button", "\u{e00c}");
    browser.wait_until_gone("deleted on all servers");
    assert!(site.slave.root.join("large.iso").exists());
}
