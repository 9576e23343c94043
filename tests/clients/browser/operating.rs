//! Operators in the browser: log in at the master, drain a slave, make it ready, and log out.

use super::driver::Browser;
use crate::harness::{Cluster, SOON, eventually};
use crate::site::{PASSWORD, add_user_with, ready};

#[test]
fn an_admin_drains_a_slave_without_scripts() {
    let cluster = Cluster::of(2).master_args(&["--http", "127.0.0.1:0"]).start();
    let http = ready(&cluster.master, "http");
    let url = |path: &str| format!("http://{http}{path}");
    let browser = Browser::start();
    browser.block_scripts();
    browser.open(&url("/-/status"));
    browser.wait_for_text("ftpmaster user add NAME --rights admin");
    add_user_with(&cluster.dir, &cluster.dir.folder("master"), "admin", "admin");
    eventually(SOON, "the page asks for a login", || {
        browser.open(&url("/-/status"));
        browser.text().contains("log in").then_some(())
    });
    assert!(browser.all("td.actions form").is_empty());
    browser.click("a[href^='/-/login']");
    browser.type_into("#user", "admin");
    browser.type_into("#password", PASSWORD);
    browser.click("form.login button");
    browser.wait_for_text("Recent events");
    assert_eq!(browser.run("return document.cookie"), "", "no script can read the cookie");

    browser.click("form[action='/-/status/drain'] button");
    browser.wait_for_text("gets no new sessions");
    assert_eq!(cluster.count("draining"), 0, "it is not confirmed yet");
    browser.click("form[action='/-/status/drain'] button");
    // The page of the action reloads itself.
    browser.wait_for_text("done: it has no sessions");
    assert_eq!(cluster.count("draining"), 1);
    browser.open(&url("/-/status"));
    browser.wait_for_text("http: user admin drained slave");
    browser.click("tbody[data-state=draining] form[action='/-/status/ready'] button");
    browser.wait_for_text("done: slave");
    cluster.wait_in_service(2);
    browser.open(&url("/-/status/actions"));
    browser.wait_for_text("by admin");

    browser.click("form.account button");
    browser.wait_for_text("Password");
    browser.open(&url("/-/status"));
    browser.wait_for_text("log in");
    assert!(browser.all("td.actions form").is_empty());
}
