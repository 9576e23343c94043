//! Logins by the form, and what they protect.

use super::PageSite;
use crate::harness::{TestDir, write_old};
use crate::site::{PASSWORD, add_user};

#[test]
fn users_log_in_and_out() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    write_old(&root.join("secret.txt"), b"for ann alone");
    add_user(&dir, &dir.folder("state"), "ann");
    let site = PageSite::start_in(dir, root);
    let browser = &site.browser;
    site.open("/secret.txt", "Log in");
    site.picture("web-page-login.png");
    browser.type_into("#user", "ann");
    browser.type_into("#password", "wrong");
    browser.click("form.login button");
    browser.wait_for_text("Log in");
    assert!(!browser.text().contains("for ann alone"));
    browser.type_into("#user", "ann");
    browser.type_into("#password", PASSWORD);
    browser.click("form.login button");
    browser.wait_for_text("for ann alone");

    site.open("/", "secret.txt");
    assert!(browser.text().contains("ann"));
    assert_eq!(browser.run("return document.cookie"), "", "no script can read the cookie");
    // A request without the token of the page changes nothing.
    let status = browser.run_async(
        "fetch('/secret.txt', { method: 'DELETE' }).then((answer) => done(answer.status))",
    );
    assert_eq!(status, 403);
    browser.click("button[aria-label='Rename secret.txt']");
    browser.type_into("dialog input", "open.txt");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("open.txt");

    browser.click("form.account button");
    browser.wait_for_text("Log in");
    browser.open(&site.url("/open.txt"));
    browser.wait_for_text("Log in");
    assert!(!browser.text().contains("for ann alone"));
}
