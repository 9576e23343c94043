//! The pages of the master itself: who may see them, logins by cookie, and operators' actions.

use relais_auth::{AuthenticatedUser, PasswordId, Rights, UrlSignature};
use relais_proto::TreePath;

use super::http::{Answer, ask, exchange, get, joined};
use super::logins::{add, file, reload};
use super::*;

/// `admin:secret`, `ann:secret` and `admin:wrong` in Base64.
const ADMIN: &str = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic YWRtaW46d3Jvbmc=\r\n";
/// Makes a request one of a client on another host.
const FAR: &str = "X-Forwarded-For: 192.0.2.7\r\n";
const BROWSER: &str = "Accept: text/html\r\nUser-Agent: Mozilla/5.0\r\n";

/// A master with the accounts `admin` (admin) and `ann` (write).
fn with_admin() -> Running {
    let master = Running::start();
    add(&master, "admin", Rights::Admin, "");
    add(&master, "ann", Rights::Write, "");
    master
}

fn post(master: &Running, target: &str, fields: &str, form: &str) -> Answer {
    let mut stream = std::net::TcpStream::connect(master.http).unwrap();
    let fields = format!("{fields}Host: {}\r\nContent-Length: {}\r\n", master.http, form.len());
    let request = format!("POST {target} HTTP/1.1\r\n{fields}\r\n{form}");
    exchange(&mut stream, &request)
}

/// Logs in by the form; returns the field with the cookie, and the token.
fn log_in(master: &Running, user: &str) -> (String, String) {
    let form = format!("user={user}&password=secret");
    let answer = post(master, "/-/login", "", &form);
    assert_eq!(answer.status(), 204, "{}", answer.head);
    let cookie = answer.field("Set-Cookie").to_owned();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let digits: String =
        master.key.cluster_id().0[..4].iter().map(|b| format!("{b:02x}")).collect();
    assert!(cookie.starts_with(&format!("relais-{digits}=")), "{cookie}");
    let value = cookie.split(';').next().unwrap();
    (format!("Cookie: {value}\r\n"), answer.field("X-CSRF-Token").to_owned())
}

fn status(master: &Running, target: &str, fields: &[&str]) -> u16 {
    ask(master, "GET", target, &fields.concat()).status()
}

/// Reads the page of an action until it has ended.
fn wait_for_end(master: &Running, target: &str, fields: &str) -> String {
    let begun = Instant::now();
    loop {
        let answer = ask(master, "GET", target, fields);
        assert_eq!(answer.status(), 200, "{}", answer.head);
        if answer.field("Refresh").is_empty() {
            return answer.body;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", answer.body);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn pages_are_open_on_this_host_and_need_an_admin_elsewhere() {
    let master = with_admin();
    for page in ["/-/status", "/-/metrics"] {
        assert_eq!(status(&master, page, &[]), 200, "{page}");
        assert_eq!(status(&master, page, &[ANN]), 200, "{page}");
        assert_eq!(status(&master, page, &["Authorization: Bearer x\r\n"]), 200, "{page}");
        for proxy in [FAR, "Forwarded: for=192.0.2.7\r\n", "Via: 1.1 proxy\r\n"] {
            assert_eq!(status(&master, page, &[proxy]), 401, "{page} {proxy}");
        }
        assert_eq!(status(&master, page, &[FAR, ANN]), 403, "{page}");
        assert_eq!(status(&master, page, &[FAR, ADMIN]), 200, "{page}");
        assert_eq!(status(&master, page, &[FAR, "Authorization: Bearer x\r\n"]), 400, "{page}");
        assert_eq!(ask(&master, "DELETE", page, ADMIN).status(), 405, "{page}");
    }
    let led = ask(&master, "GET", "/-/status?x", &[FAR, BROWSER].concat());
    assert_eq!((led.status(), led.field("Location")), (303, "/-/login?next=%2F-%2Fstatus%3Fx"));
    assert_eq!(status(&master, "/-/status/actions", &[]), 403, "it has paths of all users");
    assert_eq!(status(&master, "/-/status/actions", &[ADMIN]), 200);
    assert_eq!(status(&master, "/-/status/actions/1", &[ADMIN]), 404);
}

#[test]
fn a_signed_url_gives_no_access_to_pages() {
    let master = with_admin();
    let user = AuthenticatedUser {
        name: "admin".to_owned(),
        rights: Rights::Admin,
        root: TreePath::root(),
        generation: u64::MAX,
        password_id: PasswordId([0; 16]),
    };
    for (page, path) in [("/-/status", "-/status"), ("/-/metrics", "-/metrics")] {
        let path = TreePath::new(path).unwrap();
        let signature = UrlSignature::new(&user, u64::MAX / 2).sign(&master.key, &path);
        let target = format!("{page}?{}={signature}", UrlSignature::PARAMETER);
        assert_eq!(status(&master, &target, &[FAR]), 401, "{page}");
    }
}

/// Returns a Cookie field whose value begins with another character.
fn with_other_first_character(cookie: &str) -> String {
    let (name, value) = cookie.split_once('=').unwrap();
    let other = if value.starts_with('A') { 'B' } else { 'A' };
    format!("{name}={other}{}", &value[1..])
}

#[test]
fn a_cookie_is_a_login_until_the_log_out() {
    let master = with_admin();
    assert_eq!(get(&master, "/-/login").status(), 200);
    let (cookie, token) = log_in(&master, "admin");
    let (other, _) = log_in(&master, "admin");
    assert_eq!(status(&master, "/-/status", &[FAR, &cookie]), 200);
    let altered = with_other_first_character(&cookie);
    assert_eq!(status(&master, "/-/status", &[FAR, &altered]), 401);
    assert_eq!(status(&master, "/-/status", &[&altered]), 200, "it is open on this host");
    assert_eq!(post(&master, "/-/logout", &cookie, "csrf=x").status(), 403);
    assert_eq!(status(&master, "/-/status", &[FAR, &cookie]), 200);
    let out = post(&master, "/-/logout", &cookie, &format!("csrf={token}"));
    assert_eq!(out.status(), 204);
    assert!(out.field("Set-Cookie").contains("Max-Age=0"), "{}", out.head);
    assert_eq!(status(&master, "/-/status", &[FAR, &cookie]), 401);
    assert_eq!(status(&master, "/-/status", &[FAR, &other]), 200, "another login goes on");
    file(&master).change(|accounts| accounts.set("admin", Some(Rights::Read), None)).unwrap();
    reload(&master);
    assert_eq!(
        status(&master, "/-/status", &[FAR, &other]),
        403,
        "the rights are the present ones"
    );
    file(&master).change(|accounts| accounts.remove("admin")).unwrap();
    reload(&master);
    assert_eq!(status(&master, "/-/status", &[FAR, &other]), 401);
}

#[test]
fn wrong_login_forms_give_no_cookie() {
    let master = with_admin();
    let form = "user=admin&password=wrong&next=%2F-%2Fstatus";
    let answer = post(&master, "/-/login", BROWSER, form);
    assert!(answer.status() == 401 && answer.field("Set-Cookie").is_empty(), "{}", answer.head);
    assert!(answer.body.contains("value=\"/-/status\""), "{}", answer.body);
    for (fields, form, status) in [
        ("Origin: http://evil.example\r\n", "user=admin&password=secret", 403),
        ("Sec-Fetch-Site: cross-site\r\n", "user=admin&password=secret", 403),
        ("", "user=%ff", 400),
        ("", "", 401),
    ] {
        let answer = post(&master, "/-/login", fields, form);
        assert!(answer.field("Set-Cookie").is_empty(), "{form}");
        assert_eq!(answer.status(), status, "{fields}{form}");
    }
    assert_eq!(post(&master, "/-/login", "", &"x".repeat(16 * 1024 + 1)).status(), 413);
    let long = format!("user={}&password=x", "u".repeat(limits::USER + 1));
    assert_eq!(post(&master, "/-/login", "", &long).status(), 401);
}

#[test]
fn a_connection_is_kept_after_a_form() {
    let master = with_admin();
    let mut stream = std::net::TcpStream::connect(master.http).unwrap();
    let host = format!("Host: {}\r\n", master.http);
    let form = "user=admin&password=secret";
    let length = form.len();
    let request = format!("POST /-/login HTTP/1.1\r\n{host}Content-Length: {length}\r\n\r\n{form}");
    assert_eq!(exchange(&mut stream, &request).status(), 204);
    let next = exchange(&mut stream, &format!("GET /-/healthz HTTP/1.1\r\n{host}\r\n"));
    assert_eq!(next.status(), 200);
}

#[test]
fn only_an_admin_with_the_token_of_the_page_drains_a_slave() {
    let master = with_admin();
    let _one = joined(&master, 1);
    let slave = SlaveId([1; 16]);
    let form = format!("slave={slave}&confirm=yes");
    let (cookie, token) = log_in(&master, "admin");
    let (reader, reader_token) = log_in(&master, "ann");
    let with = |token: &str| format!("{form}&csrf={token}");
    let evil = format!("{cookie}Origin: http://evil.example\r\n");
    let rebound = |fields: &str| {
        let mut stream = std::net::TcpStream::connect(master.http).unwrap();
        let (form, host) = (with(&token), "Host: evil.example\r\n");
        let request = format!(
            "POST /-/status/drain HTTP/1.1\r\n{host}{fields}Content-Length: {}\r\n\r\n{form}",
            form.len()
        );
        exchange(&mut stream, &request).status()
    };
    for (fields, form, status) in [
        ("", form.clone(), 403),
        (&*cookie, form.clone(), 403),
        (&cookie, with("0"), 403),
        (&cookie, with(&reader_token), 403),
        (&reader, with(&reader_token), 403),
        (ANN, form.clone(), 403),
        (&evil, with(&token), 403),
        (&cookie, format!("slave=ffffffff&confirm=yes&csrf={token}"), 404),
        (&cookie, format!("confirm=yes&csrf={token}"), 404),
        // Without the confirmation programs get an error.
        (&cookie, format!("slave={slave}&csrf={token}"), 400),
    ] {
        let answer = post(&master, "/-/status/drain", fields, &form);
        assert_eq!(answer.status(), status, "{fields}{form}: {}", answer.body);
    }
    assert_eq!(rebound(&cookie), 421);
    assert_eq!(status(&master, "/-/status/drain", &[&cookie]), 405);
    assert!(report(&master, 1).state != SlaveState::Draining, "nothing has happened");

    let asked = format!("slave={slave}&csrf={token}");
    let asked = post(&master, "/-/status/drain", &format!("{cookie}{BROWSER}"), &asked);
    assert!(asked.body.contains("name=\"confirm\""), "{}", asked.body);
    assert!(asked.body.contains(&token) && asked.status() == 200, "{}", asked.body);

    let done = post(&master, "/-/status/drain", &cookie, &with(&token));
    assert_eq!((done.status(), done.field("Location")), (303, "/-/status/actions/1"));
    let begun = Instant::now();
    while report(&master, 1).state != SlaveState::Draining {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let page = ask(&master, "GET", "/-/status", &format!("{cookie}{BROWSER}")).body;
    assert!(page.contains(&format!("http: user admin drained slave {slave} from 127.0.0.1")));
    assert!(page.contains("action=\"/-/status/ready\""), "{page}");

    let ready = post(&master, "/-/status/ready", ADMIN, &format!("slave={slave}"));
    assert_eq!(ready.status(), 303, "{}", ready.body);
    let text = wait_for_end(&master, ready.field("Location"), ADMIN);
    assert!(text.starts_with("done: slave ") && text.contains("gets sessions again"), "{text}");
    assert_ne!(report(&master, 1).state, SlaveState::Draining);
}

#[test]
fn long_operations_run_beside_logins() {
    let master = with_admin();
    // This slave never answers, so the operation takes its time.
    let _one = joined(&master, 1);
    let started = post(&master, "/-/status/diff", ADMIN, "");
    assert_eq!(started.status(), 303, "{}", started.body);
    let target = started.field("Location").to_owned();
    let running = ask(&master, "GET", &target, &[ADMIN, BROWSER].concat());
    assert_eq!((running.status(), running.field("Refresh")), (200, "2"), "{}", running.body);
    assert!(running.body.contains("running"), "{}", running.body);
    let others: Vec<u16> =
        (0..4).map(|_| post(&master, "/-/status/diff", ADMIN, "").status()).collect();
    assert_eq!(others, [303, 303, 303, 503], "few run at a time");
    assert_eq!(status(&master, &target, &[ANN]), 403);
    let list = ask(&master, "GET", "/-/status/actions", ADMIN).body;
    assert_eq!(list.matches("by admin").count(), 4, "{list}");
}

#[test]
fn without_accounts_nothing_is_operated_by_http() {
    let master = Running::start();
    let _one = joined(&master, 1);
    let page = ask(&master, "GET", "/-/status", BROWSER).body;
    assert!(page.contains("ftpmaster drain") && !page.contains("<form"), "{page}");
    for action in ["drain", "ready", "scrub", "diff"] {
        let form = format!("slave={}&confirm=yes", SlaveId([1; 16]));
        let answer = post(&master, &format!("/-/status/{action}"), "", &form);
        assert_eq!(answer.status(), 403, "{action}");
        assert!(answer.body.contains("ftpmaster drain"), "{}", answer.body);
    }
    assert_eq!(status(&master, "/-/status", &[FAR]), 403);
    assert_ne!(report(&master, 1).state, SlaveState::Draining);
    let login = post(&master, "/-/login", "", "user=&password=");
    assert!(login.status() == 401 && login.body.contains("no accounts"), "{}", login.body);
}

#[test]
fn guesses_are_throttled_as_those_of_all_protocols() {
    let master = with_admin();
    let is_put_off = || status(&master, "/-/status", &[FAR, WRONG]) == 503;
    assert!((0..12).any(|_| is_put_off()), "an address has to wait after wrong passwords");
}

/// Returns the report on a slave.
fn report(master: &Running, n: u8) -> relais_proto::SlaveReport {
    let operator = OperatorClient::connect(&master.addr.to_string(), &master.key, TlsMode::Remote);
    let report = operator.unwrap().report().unwrap();
    report.slaves.into_iter().find(|slave| slave.id == SlaveId([n; 16])).unwrap()
}
