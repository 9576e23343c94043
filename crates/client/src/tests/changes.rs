//! `mkdir`, `rm`, `mv`, and local programs.

use std::sync::atomic::Ordering;

use relais_proto::{ChangeId, Request};

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
    tree.state().asked.iter().filter_map(id).collect()
}

#[test]
fn folders_are_made_with_those_above_them_where_that_is_asked_for() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.run(0, &["mkdir new"]);
    assert_eq!(bench.printed.take(), "{\"command\":\"mkdir\",\"ok\":true,\"version\":\"1-5\"}\n");
    bench.run(1, &["mkdir new", "mkdir deep/er", "mkdir -p a.txt/b", "mkdir /"]);
    bench.printed.take();
    bench.run(0, &["mkdir -p p/q/r"]);
    assert_eq!(bench.object()["version"], "1-8");
    bench.run(0, &["mkdir -p p/q/r"]);
    assert_eq!(bench.object()["version"], serde_json::Value::Null);
    bench.run(0, &["cd p", "mkdir -p q/s ../t"]);
    assert_eq!(
        files(&tree),
        ["a.txt", "docs/x", "docs/y", "new/", "p/", "p/q/", "p/q/r/", "p/q/s/", "t/"]
    );
}

#[test]
fn what_is_removed_is_gone_and_each_of_several_is_tried() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.run(1, &["rm docs", "rm -r /", "rm nothing", "rm ."]);
    bench.printed.take();
    assert_eq!(ids(&tree).len(), 2);
    bench.run(1, &["rm a.txt nothing docs/x"]);
    let object = bench.object();
    assert_eq!(
        (&object["ok"], &object["version"], &object["failed"][0]["remote"]),
        (&false.into(), &"1-6".into(), &"/nothing".into())
    );
    assert_eq!(object["failed"][0]["error"]["code"], "not-found");
    bench.run(0, &["rm -r docs"]);
    assert!(files(&tree).is_empty());
}

#[test]
fn people_are_told_what_to_do_about_a_folder_that_is_not_empty() {
    let mut bench = TestClient::new(&[tree()], false);
    bench.run(1, &["rm docs", "rm nothing"]);
    let told = bench.told();
    assert!(
        told[0].starts_with("rm: /docs: ")
            && told[0].ends_with("rm -r removes it with its content"),
        "{told:?}"
    );
    assert_eq!(told[1], "rm: /nothing does not exist; in / there is: a.txt, docs/");
    assert_eq!(bench.printed.take(), "");
}

#[test]
fn names_are_moved_onto_a_name_or_into_a_folder() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    bench.run(
        0,
        &[
            "mv a.txt b.txt",
            "mv b.txt docs/",
            "mv docs/x docs/y",
            "mkdir old",
            "mv docs/b.txt docs/y old",
        ],
    );
    bench.run(
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
    bench.run(2, &["mv", "mv a"]);
    assert_eq!(files(&tree), ["old/b.txt", "old/y", "old/"]);
    assert_eq!(tree.state().files["old/y"], [2]);
}

#[test]
fn a_change_whose_answer_was_lost_is_asked_again_elsewhere_under_the_same_id() {
    let tree = tree();
    tree.lose_answer.store(true, Ordering::SeqCst);
    let mut bench = TestClient::new(&[tree.clone(), tree.beside()], true);
    bench.run(0, &["mkdir new"]);
    assert_eq!(bench.object()["version"], "1-5");
    let asked = ids(&tree);
    assert!(asked.len() == 2 && asked[0] == asked[1]);
    bench.run(0, &["mkdir newer"]);
    assert_ne!(ids(&tree)[2], asked[0]);
}

#[test]
fn a_change_that_nobody_answers_may_have_been_made() {
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
fn changes_that_are_not_possible_are_asked_for_again_for_a_while() {
    let tree = tree();
    tree.no_changes.store(1, Ordering::SeqCst);
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.run(0, &["mkdir new"]);
    tree.no_changes.store(u64::MAX, Ordering::SeqCst);
    bench.printed.take();
    bench.run(1, &["mkdir newer"]);
    assert_eq!(bench.object()["error"]["code"], "no-changes");
}

#[test]
fn local_programs_run_in_the_local_folder() {
    let mut bench = TestClient::new(&[tree()], true);
    std::fs::create_dir(bench.dir.path().join("sub")).unwrap();
    bench.run(0, &["! printf 'a  b|c' > 'out put' # not here", "lcd sub", "!pwd -P >../place"]);
    assert_eq!(bench.local("out put"), b"a  b|c");
    let place = bench.dir.path().canonicalize().unwrap().join("sub");
    assert_eq!(
        String::from_utf8(bench.local("place")).unwrap().trim_end(),
        place.to_str().unwrap()
    );
    bench.run(1, &["!exit 7", "!kill -TERM $$", "!/no/such/program 2>/dev/null"]);
    bench.run(2, &["!", "! "]);
    bench.run(130, &["!kill -INT $$"]);
    // What the program prints is no object; it goes elsewhere.
    bench.printed.take();
    bench.run(0, &["!true"]);
    assert_eq!(bench.printed.take(), "{\"command\":\"!\",\"ok\":true}\n");
    bench.run(1, &["!exit 3"]);
    assert_eq!(bench.object()["error"]["message"], "the command ended with status 3");
}

#[test]
fn local_programs_have_the_usual_signals_and_leave_the_commands_alone() {
    let mut bench = TestClient::new(&[tree()], false);
    bench.shell.input_is_commands = true;
    bench.run(0, &["!wc -c > count", "!grep -E '^Sig(Blk|Ign)' /proc/self/status > signals"]);
    assert_eq!(String::from_utf8(bench.local("count")).unwrap().trim(), "0");
    for line in String::from_utf8(bench.local("signals")).unwrap().lines() {
        // SIGHUP, SIGINT, SIGQUIT, SIGPIPE and SIGTERM are neither blocked nor ignored.
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(mask & (1 << 1 | 1 << 12 | 1 << 14), 0, "{line}");
    }
}
