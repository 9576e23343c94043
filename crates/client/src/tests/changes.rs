//! `mkdir`, `rm`, `mv`, and local programs.

use std::sync::atomic::Ordering;

use relais_proto::{ChangeId, Expect, Lsn, Request};

use super::TestClient;
use super::tree::Tree;

fn tree() -> Tree {
    Tree::new(&[("a.txt", vec![1]), ("docs/x", vec![2]), ("docs/y", vec![3])])
}

fn files(tree: &Tree) -> Vec<String> {
    let state = tree.state();
    state
        .files
        .keys()
        .cloned()
        .chain(state.folders.iter().map(|folder| format!("{folder}/")))
        .collect()
}

fn ids(tree: &Tree) -> Vec<ChangeId> {
    let id = |request: &Request| match request {
        Request::MakeFolder { id, .. } | Request::Remove { id, .. } | Request::Move { id, .. } => {
            Some(*id)
        }
        _ => None,
    };
    tree.state().requests.iter().filter_map(id).collect()
}

#[test]
fn mkdir_p_makes_missing_parents() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.run(0, &["mkdir new"]);
    assert_eq!(client.printed.take(), "{\"command\":\"mkdir\",\"ok\":true,\"version\":\"1-5\"}\n");
    client.run(1, &["mkdir new", "mkdir deep/er", "mkdir -p a.txt/b", "mkdir /"]);
    client.printed.take();
    client.run(0, &["mkdir -p p/q/r"]);
    assert_eq!(client.object()["version"], "1-8");
    client.run(0, &["mkdir -p p/q/r"]);
    assert_eq!(client.object()["version"], serde_json::Value::Null);
    client.run(0, &["cd p", "mkdir -p q/s ../t"]);
    assert_eq!(
        files(&tree),
        ["a.txt", "docs/x", "docs/y", "new/", "p/", "p/q/", "p/q/r/", "p/q/s/", "t/"]
    );
}

#[test]
fn if_version_guards_a_removal_and_a_move() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.run(0, &["rm a.txt --if-version 1-2", "mv docs/x z --if-version 1-3", "rm docs/y"]);
    let expect = |request: &Request| match request {
        Request::Remove { expect, .. } | Request::Move { expect, .. } => Some(*expect),
        _ => None,
    };
    let expected: Vec<_> = tree.state().requests.iter().filter_map(expect).collect();
    let version = |number| Expect::Lsn(Lsn { epoch: 1, number });
    assert_eq!(expected, [version(2), version(3), Expect::Any]);
    client.run(
        2,
        &["rm a b --if-version 1-2", "mv a b c --if-version 1-2", "mkdir d --if-version 1-2"],
    );
}

#[test]
fn rm_tries_each_of_several_names() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.run(1, &["rm docs", "rm -r /", "rm nothing", "rm ."]);
    client.printed.take();
    assert_eq!(ids(&tree).len(), 2);
    client.run(1, &["rm a.txt nothing docs/x"]);
    let object = client.object();
    assert_eq!(
        (&object["ok"], &object["version"], &object["failed"][0]["remote"]),
        (&false.into(), &"1-6".into(), &"/nothing".into())
    );
    assert_eq!(object["failed"][0]["error"]["code"], "not-found");
    client.run(0, &["rm -r docs"]);
    assert!(files(&tree).is_empty());
}

#[test]
fn rm_suggests_r_for_a_full_folder() {
    let mut client = TestClient::new(&[tree()], false);
    client.run(1, &["rm docs", "rm nothing"]);
    let messages = client.messages();
    assert!(
        messages[0].starts_with("rm: /docs: ")
            && messages[0].ends_with("rm -r removes it with its content"),
        "{messages:?}"
    );
    assert_eq!(messages[1], "rm: /nothing does not exist; in / there is: a.txt, docs/");
    assert_eq!(client.printed.take(), "");
}

#[test]
fn mv_moves_to_a_name_or_into_a_folder() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(
        0,
        &[
            "mv a.txt b.txt",
            "mv b.txt docs/",
            "mv docs/x docs/y",
            "mkdir old",
            "mv docs/b.txt docs/y old",
        ],
    );
    client.run(
        1,
        &[
            "mv old/y old",
            "mv nothing x",
            "mv old/y old/b.txt old/y",
            "mv old/y old/b.txt nothing",
            "mv / x",
            "mv old/y none/",
        ],
    );
    client.run(2, &["mv", "mv a"]);
    assert_eq!(files(&tree), ["old/b.txt", "old/y", "old/"]);
    assert_eq!(tree.state().files["old/y"], [2]);
}

#[test]
fn lost_answer_repeats_change_with_same_id() {
    let tree = tree();
    tree.lose_answer.store(true, Ordering::SeqCst);
    let mut client = TestClient::new(&[tree.clone(), tree.beside()], true);
    client.run(0, &["mkdir new"]);
    assert_eq!(client.object()["version"], "1-5");
    let requests = ids(&tree);
    assert!(requests.len() == 2 && requests[0] == requests[1]);
    client.run(0, &["mkdir newer"]);
    assert_ne!(ids(&tree)[2], requests[0]);
}

#[test]
fn unanswered_change_may_have_been_made() {
    let tree = tree();
    tree.lose_answer.store(true, Ordering::SeqCst);
    let addr = tree.slave(1);
    let (mut shell, _) =
        super::shell(super::get::once(addr), tempfile::tempdir().unwrap().keep(), false);
    assert_eq!(shell.execute("mkdir new").status, 3);
    assert!(
        shell.notices.collected()[0].ends_with("whether the change was made is not known"),
        "{:?}",
        shell.notices.collected()
    );
}

#[test]
fn no_changes_is_retried_for_a_while() {
    let tree = tree();
    tree.no_changes.store(1, Ordering::SeqCst);
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.run(0, &["mkdir new"]);
    tree.no_changes.store(u64::MAX, Ordering::SeqCst);
    client.printed.take();
    client.run(1, &["mkdir newer"]);
    assert_eq!(client.object()["error"]["code"], "no-changes");
}

#[test]
fn local_programs_run_in_the_local_folder() {
    let mut client = TestClient::new(&[tree()], true);
    std::fs::create_dir(client.dir.path().join("sub")).unwrap();
    client.run(0, &["! printf 'a  b|c' > 'out put' # not here", "lcd sub", "!pwd -P >../place"]);
    assert_eq!(client.local("out put"), b"a  b|c");
    let place = client.dir.path().canonicalize().unwrap().join("sub");
    assert_eq!(
        String::from_utf8(client.local("place")).unwrap().trim_end(),
        place.to_str().unwrap()
    );
    client.run(1, &["!exit 7", "!kill -TERM $$", "!/no/such/program 2>/dev/null"]);
    client.run(2, &["!", "! "]);
    client.run(130, &["!kill -INT $$"]);
    // The program's output is not JSON, so it goes to standard error.
    client.printed.take();
    client.run(0, &["!true"]);
    assert_eq!(client.printed.take(), "{\"command\":\"!\",\"ok\":true}\n");
    client.run(1, &["!exit 3"]);
    assert_eq!(client.object()["error"]["message"], "the command ended with status 3");
}

#[test]
fn local_programs_get_default_signals_and_no_stdin() {
    let mut client = TestClient::new(&[tree()], false);
    client.shell.input_is_commands = true;
    client.run(0, &["!wc -c > count", "!grep -E '^Sig(Blk|Ign)' /proc/self/status > signals"]);
    assert_eq!(String::from_utf8(client.local("count")).unwrap().trim(), "0");
    for line in String::from_utf8(client.local("signals")).unwrap().lines() {
        // SIGHUP, SIGINT, SIGQUIT, SIGPIPE and SIGTERM are neither blocked nor ignored.
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(mask & (1 << 1 | 1 << 12 | 1 << 14), 0, "{line}");
    }
}
