//! Names and contents that attack the page have no effect.

use super::PageSite;

/// A script that would list, change and reach the server, and mark the page.
const ATTACK: &str = "document.title = 'attacked';
    fetch('/', { headers: { Accept: 'application/json' } })
        .then(() => { document.title += ' listed' });
    fetch('/attacked.txt', { method: 'PUT', body: 'x' }).catch(() => {});
    fetch('/-/status').then(() => { document.title += ' status' });";

#[test]
fn hostile_names_are_text() {
    let names = [
        "<img src=x onerror='window.attacked=1'>.txt",
        "\"><script>window.attacked=1<\u{2044}script>.txt",
        "' onmouseover='window.attacked=1.txt",
        "javascript:window.attacked=1",
        "&lt;b&gt;.txt",
        "\u{202e}txt.exe",
        "{{constructor}}.txt",
    ];
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"x"[..])).collect();
    let site = PageSite::start(&files);
    site.open("/", "{{constructor}}.txt");
    let browser = &site.browser;
    let shown = browser.run(
        "return [...document.querySelectorAll('td.name a')].map((link) => link.textContent).sort()",
    );
    let mut wanted = names;
    wanted.sort_unstable();
    let shown: Vec<&str> = shown.as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert_eq!(shown.len(), wanted.len(), "{shown:?}");
    for name in wanted {
        assert!(shown.contains(&name), "{name}: {shown:?}");
    }
    // Each link leads to the file of that name, also one that looks like a scheme.
    let leads_away = "return [...document.querySelectorAll('td.name a')]
        .filter((link) => link.origin !== location.origin).length";
    assert_eq!(browser.run(leads_away), 0);
    for button in browser
        .run("return [...document.querySelectorAll('button')].map((button, at) => at)")
        .as_array()
        .unwrap()
    {
        browser.run(&format!(
            "document.querySelectorAll('button')[{button}].dispatchEvent(
            new MouseEvent('mouseover', {{ bubbles: true }}))"
        ));
    }
    assert_eq!(browser.run("return window.attacked ?? 0"), 0);
}

#[test]
fn uploaded_pages_cannot_act() {
    let html =
        format!("<!doctype html><title>harmless</title><p>shown</p><script>{ATTACK}</script>");
    let svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg'><title>harmless</title><text y='20'>shown</text>\
         <script>{ATTACK}</script></svg>"
    );
    let xhtml = format!(
        "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>harmless</title></head>\
         <body><p>shown</p><script><![CDATA[{ATTACK}]]></script></body></html>"
    );
    let site = PageSite::start(&[
        ("evil.html", html.as_bytes()),
        ("evil.svg", svg.as_bytes()),
        ("evil.xhtml", xhtml.as_bytes()),
        ("evil.xml", xhtml.as_bytes()),
        ("text.txt", html.as_bytes()),
    ]);
    site.open("/", "evil.html");
    for name in ["evil.html", "evil.svg", "evil.xhtml", "evil.xml", "text.txt", "-/files/evil.html"]
    {
        site.browser.open(&site.url(&format!("/{name}")));
        let title = site.browser.run("return document.title");
        assert!(!title.as_str().unwrap().contains("attacked"), "{name}: {title}");
        let origin = site.browser.run("return window.origin");
        assert_ne!(origin, site.url(""), "{name} has an origin of its own");
    }
    assert!(!site.slave.root.join("attacked.txt").exists());
}

#[test]
fn other_sites_cannot_use_the_page() {
    let site = PageSite::start(&[("a.txt", b"x")]);
    site.open("/", "a.txt");
    // An empty page has an origin of its own, and no policy that would stop its requests.
    site.browser.open("about:blank");
    let target = site.url("/a.txt");
    let answers = site.browser.run_async(&format!(
        "Promise.allSettled([
            fetch('{target}'),
            fetch('{target}', {{ method: 'DELETE' }}),
            fetch('{target}', {{ method: 'POST', body: 'x', mode: 'no-cors' }}),
        ]).then((all) => done(all.map((one) => one.value?.type ?? 'failed')))"
    ));
    assert_eq!(answers[0], "failed", "it cannot be read");
    assert_eq!(answers[1], "failed", "it cannot be deleted");
    assert!(site.slave.root.join("a.txt").exists());
}
