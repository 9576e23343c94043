//! The master's metrics with promtool and Prometheus, and the files of docs/monitoring.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, Program, ProgramBuilder, TestDir, content, eventually};
use crate::site::{ready, succeed, words};

/// Time for two scrapes on a busy machine.
const SCRAPED: Duration = Duration::from_secs(40);

/// Names that other programs rely on, at the master.
const OF_MASTERS: &[&str] = &[
    "relais_leader",
    "relais_slave_up",
    "relais_slave_lag_changes",
    "relais_slave_lag_bytes",
    "relais_slave_lag_seconds",
    "relais_sessions",
    "relais_resumes_total",
    "relais_failovers_total",
    "relais_scrub_bad_total",
    "relais_missing_files",
    "relais_unapplied_changes",
    "relais_certificate_expiry_timestamp_seconds",
];
/// Those of a slave.
const OF_SLAVES: &[&str] = &[
    "relais_sessions",
    "relais_transfer_bytes_total",
    "relais_transfer_seconds",
    "relais_transfer_size_bytes",
    "relais_resumes_total",
    "relais_failovers_total",
    "relais_scrub_bad_total",
    "relais_missing_files",
    "relais_unapplied_changes",
    "relais_certificate_expiry_timestamp_seconds",
];

fn cluster() -> Cluster {
    Cluster::of(2)
        .master_args(&["--http", "127.0.0.1:0"])
        .slave_args(&["--http", "127.0.0.1:0"])
        .file("a", &content(1, 1000))
        .start()
}

fn fetch(url: &str, folder: &Path) -> String {
    succeed("curl", &words(["-sS", "-f", "-g", url]), folder)
}

fn repository(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn promtool_accepts_metrics_and_rules() {
    let cluster = cluster();
    let dir = TestDir::new();
    let page = |server: &Program| format!("http://{}/-/metrics", ready(server, "http"));
    let master = fetch(&page(&cluster.master), dir.path());
    assert!(master.contains("\nrelais_slave_up{slave=") && master.contains("relais_leader 1\n"));
    for (text, server, names) in [
        (&master, "the master", OF_MASTERS),
        (&fetch(&page(&cluster.slaves[0].program), dir.path()), "a slave", OF_SLAVES),
    ] {
        for name in names {
            assert!(text.contains(&format!("\n# TYPE {name} ")), "{name} of {server}:\n{text}");
        }
    }
    let slave = &cluster.slaves[0].program;
    let url = format!("http://{}/a", ready(slave, "http"));
    succeed("curl", &words(["-sS", "-f", "-o", "got", &url]), dir.path());
    let labels = "{protocol=\"http\",direction=\"download\"";
    let slave = eventually(SCRAPED, "the transfer is counted", || {
        let text = fetch(&page(slave), dir.path());
        let counter = format!("relais_transfer_bytes_total{labels}}} 1000\n");
        text.contains(&counter).then_some(text)
    });
    let bucket = format!("relais_transfer_size_bytes_bucket{labels},le=\"");
    assert!(slave.contains(&format!("{bucket}1000\"}} 1\n")), "{slave}");
    assert!(slave.contains(&format!("{bucket}+Inf\"}} 1\n")), "{slave}");
    for text in [master, slave] {
        fs::write(dir.path().join("metrics"), text).unwrap();
        let input = fs::File::open(dir.path().join("metrics")).unwrap();
        let checked =
            Command::new("promtool").args(["check", "metrics"]).stdin(input).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    succeed(
        "promtool",
        &words(["check", "rules", &repository("docs/monitoring/alerts.yml")]),
        dir.path(),
    );
}

/// Starts Prometheus, which scrapes a cluster each second; returns it with its URL.
fn prometheus(dir: &TestDir, target: &str, slaves: &[String]) -> (Program, String) {
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\n\
         scrape_configs:\n\
         - job_name: relais-master\n  metrics_path: /-/metrics\n  static_configs:\n\
         \x20 - targets: ['{target}']\n\
         - job_name: relais-slave\n  metrics_path: /-/metrics\n  static_configs:\n\
         \x20 - targets: [{}]\n",
        repository("docs/monitoring/alerts.yml"),
        slaves.join(", ")
    );
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    // Prometheus cannot choose a free port itself.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let words = [
        "/usr/bin/prometheus".to_owned(),
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()),
        format!("--web.listen-address={address}"),
    ];
    let program = ProgramBuilder::of(&words, dir.path()).stdout(Stdio::null()).start();
    (program, format!("http://{address}"))
}

/// Returns the expressions of all panels and rules.
fn expressions() -> Vec<String> {
    let text = fs::read_to_string(repository("docs/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_dashboard_and_the_alerts_work_with_prometheus() {
    let mut cluster = cluster();
    let dir = TestDir::new();
    let target = ready(&cluster.master, "http").to_string();
    let slaves = cluster.slaves.iter().map(|slave| ready(&slave.program, "http"));
    let slaves: Vec<String> = slaves.map(|addr| format!("'{addr}'")).collect();
    let (_prometheus, url) = prometheus(&dir, &target, &slaves);
    let ask = |path: &str, query: &str| -> Option<Value> {
        let query = format!("query={query}");
        let args = ["-s", "-f", "--data-urlencode", &query, &format!("{url}/api/v1/{path}")];
        let output = Command::new("curl").args(args).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    };
    for expression in expressions() {
        eventually(SCRAPED, &expression, || {
            let answer = ask("query", &expression)?;
            let found = answer["data"]["result"].as_array()?;
            (!found.is_empty()).then_some(())
        });
    }
    let rules = || -> Option<Value> {
        let output = Command::new("curl").args(["-s", &format!("{url}/api/v1/rules")]).output();
        serde_json::from_slice(&output.ok()?.stdout).ok()
    };
    let health = eventually(SCRAPED, "the rules are evaluated", || {
        let rules = rules()?["data"]["groups"][0]["rules"].as_array()?.clone();
        let is_known = |rule: &Value| rule["health"] != "unknown";
        (rules.len() == 12 && rules.iter().all(is_known)).then_some(rules)
    });
    assert!(health.iter().all(|rule| rule["health"] == "ok"), "{health:?}");
    cluster.slaves[0].program.kill();
    cluster.slaves[1].program.kill();
    eventually(SCRAPED, "the alert fires", || {
        let answer =
            ask("query", "ALERTS{alertname=\"RelaisNoSlaveInService\",alertstate=\"firing\"}")?;
        let found = answer["data"]["result"].as_array()?;
        (!found.is_empty()).then_some(())
    });
}
