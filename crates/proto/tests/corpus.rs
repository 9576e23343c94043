//! Runs the committed corpus of the fuzz targets, and millions of inputs made
//! from it, through the same checks as the fuzzer, on a stable compiler.
//!
//! `cargo test -p relais-proto --test corpus -- --ignored` writes the corpus
//! again after the protocol has changed. `RELAIS_SEED` chooses other inputs,
//! `RELAIS_INPUTS` another number of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use relais_proto::{FrameType, HEADER_LEN, TreePath, limits};

#[path = "../fuzz/src/lib.rs"]
mod checks;
#[path = "common/mutate.rs"]
mod mutate;
#[allow(dead_code)] // The tests share it; each uses a part.
#[path = "common/samples.rs"]
mod samples;

use checks::frames;
use frames::write_frame;

type Check = fn(&[u8]);

const TARGETS: [(&str, Check); 5] = [
    ("request", checks::request),
    ("reply", checks::reply),
    ("link", checks::link),
    ("frame", checks::frame),
    ("path", checks::path),
];
const SEED: u64 = 20_261_121;
const INPUTS: usize = 3_000_000;
/// Longer inputs of the corpus are taken more rarely, so that millions take seconds.
const LONG: usize = 1024;

/// Files of the corpus by target and name.
type Corpus = BTreeMap<(&'static str, String), Vec<u8>>;

#[test]
fn the_corpus_is_complete() {
    let there = read_corpus();
    for (key, input) in generate() {
        assert_eq!(
            there.get(&key),
            Some(&input),
            "{key:?} is missing or old: run this test with --ignored"
        );
    }
    let types_of = |single: &[&str]| -> BTreeSet<u8> {
        let of_targets = there.iter().filter(|((target, _), _)| single.contains(target));
        of_targets.filter_map(|(_, input)| input.first().copied()).collect()
    };
    let mut messages = types_of(&["request", "reply", "link"]);
    messages.extend([FrameType::Block.number(), FrameType::Data.number()]);
    assert!(FrameType::ALL.iter().all(|kind| messages.contains(&kind.number())));
    let frames: Vec<u8> = there
        .iter()
        .filter(|((target, _), _)| *target == "frame")
        .filter_map(|(_, f)| f.get(HEADER_LEN - 1).copied())
        .collect();
    for kind in FrameType::ALL {
        assert!(frames.contains(&kind.number()), "no stream of frames begins with {kind:?}");
    }
}

#[test]
fn every_input_of_the_corpus_passes() {
    for ((target, name), input) in read_corpus() {
        let _shown = OnPanic { what: name, input: &input };
        for (_, check) in TARGETS.iter().filter(|(of, _)| *of == target) {
            check(&input);
        }
    }
}

#[test]
fn millions_of_inputs_made_from_the_corpus_pass() {
    let seed = number_from("RELAIS_SEED", SEED);
    let inputs = usize::try_from(number_from("RELAIS_INPUTS", INPUTS as u64)).unwrap();
    println!("RELAIS_SEED={seed} RELAIS_INPUTS={inputs}");
    let corpus = read_corpus();
    let pools = TARGETS.map(|(target, check)| {
        let of_target =
            corpus.iter().filter(|((of, _), _)| *of == target).map(|(_, input)| input.clone());
        let (long, short): (Vec<_>, Vec<_>) = of_target.partition(|input| input.len() > LONG);
        (target, check, short, long)
    });
    let mut chance = mutate::Chance::new(seed);
    for turn in 0..inputs {
        let (target, check, short, long) = &pools[turn % pools.len()];
        let pool = if long.is_empty() || chance.below(20) > 0 { short } else { long };
        let mut input = chance.pick(pool).clone();
        mutate::mutate(&mut input, pool, &mut chance);
        let _shown =
            OnPanic { what: format!("{target}, input {turn} of seed {seed}"), input: &input };
        check(&input);
    }
}

#[test]
#[ignore = "writes the corpus"]
fn write_corpus() {
    for ((target, name), input) in generate() {
        let folder = root().join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), input).unwrap();
    }
}

/// Names the input that a check did not survive.
struct OnPanic<'a> {
    what: String,
    input: &'a [u8],
}

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("failed: {}: {hex}", self.what);
        }
    }
}

fn number_from(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
    })
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn read_corpus() -> Corpus {
    let mut corpus = Corpus::new();
    for (target, _) in TARGETS {
        let folder = root().join(target);
        let files =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for file in
            files.map(|file| file.unwrap_or_else(|error| panic!("{}: {error}", folder.display())))
        {
            let input = fs::read(file.path())
                .unwrap_or_else(|error| panic!("{}: {error}", file.path().display()));
            corpus.insert((target, file.file_name().to_string_lossy().into_owned()), input);
        }
    }
    corpus
}

fn generate() -> Corpus {
    let mut corpus = Corpus::new();
    for (name, frame) in samples::all() {
        let (kind, payload) = samples::open(&frame);
        let target = match kind.number() {
            0x40..=0x7f | 0xc0..=0xff => "link",
            0x00..=0x3f => "request",
            0x80..=0xbf => "reply",
        };
        corpus.insert((target, name.clone()), samples::bare(kind, &payload));
        // One stream for each type is enough; the shortest message of each comes first.
        if !corpus
            .iter()
            .any(|((of, _), stream)| *of == "frame" && stream[HEADER_LEN - 1] == kind.number())
        {
            corpus.insert(("frame", name), frame);
        }
    }
    corpus.extend(streams().into_iter().map(|(name, stream)| (("frame", name.to_owned()), stream)));
    corpus.extend(paths().into_iter().map(|(name, path)| (("path", name.to_owned()), path)));
    corpus
}

/// Streams of several frames, and blocks.
fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let small = |prefixes: &[&str]| -> Vec<u8> {
        let named = prefixes
            .iter()
            .flat_map(|prefix| samples::all().into_iter().find(|(name, _)| name == prefix));
        named.flat_map(|(_, frame)| frame).collect()
    };
    let filled = |kind, bytes: &[u8]| {
        let mut frame = Vec::new();
        assert!(write_frame(&mut frame, kind, bytes).is_ok());
        frame
    };
    let (block, data) = (
        |bytes: &[u8]| filled(FrameType::Block, bytes),
        |bytes: &[u8]| filled(FrameType::Data, bytes),
    );
    let content = [
        small(&["header-max"]),
        block(b"nine byte"),
        block(b"nine byte"),
        block(b"two"),
        small(&["end"]),
    ]
    .concat();
    let mut cut = content.clone();
    cut.truncate(content.len() - 7);
    vec![
        ("nothing", Vec::new()),
        ("block-empty", block(b"")),
        ("block-one", block(b"x")),
        ("data-one", data(b"x")),
        (
            "upload",
            [small(&["put-max"]), data(b"nine byte"), data(b"two"), small(&["put-end", "ping"])]
                .concat(),
        ),
        ("content", content),
        ("content-cut", cut),
        (
            "session",
            small(&["hello-min", "ticket-min", "list-min", "stat-min", "get-resume", "ping"]),
        ),
        (
            "answers",
            small(&[
                "welcome-min",
                "wait-min",
                "opened-min",
                "entries-one",
                "done-min",
                "error-min",
                "pong",
            ]),
        ),
        (
            "cluster-link",
            small(&[
                "hello-slave",
                "link-open-min",
                "link-challenge",
                "link-proof",
                "register-min",
                "beat-min",
            ]),
        ),
        (
            "slave-link",
            small(&[
                "join-min",
                "follow-min",
                "lacks-min",
                "propose-max",
                "tell-max",
                "ready",
                "applied-max",
                "holds-max",
            ]),
        ),
        ("operator-link", small(&["operate-recover", "line", "line-end-max"])),
        ("unknown-type", vec![0, 0, 0, 0, 0xee]),
        (
            "over-the-cap",
            [(limits::CONTROL_FRAME + 1).to_be_bytes().as_slice(), &[FrameType::Ping.number()]]
                .concat(),
        ),
        ("longest-length", vec![0xff, 0xff, 0xff, 0xff, FrameType::Block.number()]),
    ]
}

fn paths() -> Vec<(&'static str, Vec<u8>)> {
    let mut paths: Vec<(&str, Vec<u8>)> = [
        ("root", TreePath::root().as_str()),
        ("name", "a"),
        ("folders", "a/b/c.txt"),
        ("letters", "naïve/日本/-r \"q\" "),
        ("dots", "a/../b"),
        ("dot", "./a"),
        ("three-dots", "..."),
        ("slash", "/"),
        ("absolute", "/etc/passwd"),
        ("ends-in-slash", "a/"),
        ("empty-part", "a//b"),
        ("nul", "a\0b"),
        ("escape", "a\u{1b}[2J"),
        ("c1", "a\u{9b}b"),
        ("reserved", ".relais/catalogue.db"),
        ("reserved-capitals", ".RELAIS"),
        ("reserved-padded", ".relais. "),
        ("reserved-long-s", ".relai\u{17f}"),
        ("reserved-invisible", ".re\u{200d}lais"),
        ("not-reserved", "a/.relais"),
    ]
    .map(|(name, path)| (name, path.as_bytes().to_vec()))
    .to_vec();
    paths.push(("not-utf8", b"a\xff".to_vec()));
    paths.push(("part-longest", vec![b'x'; limits::NAME_PART]));
    paths.push(("part-too-long", vec![b'x'; limits::NAME_PART + 1]));
    paths.push(("longest", samples::path_of(limits::PATH).as_str().as_bytes().to_vec()));
    paths.push(("too-long", b"xy/".repeat(1365).into_iter().chain(*b"x").collect()));
    paths
}
