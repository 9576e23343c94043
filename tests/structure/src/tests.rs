//! The checks on small crates and texts.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::names::TypeNames;
use crate::resolve::{Resolver, Target};
use crate::source::{Modules, load};
use crate::{cycles, text};

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn modules(files: &[(&str, &str)]) -> Modules {
    let dir = TempDir::new().unwrap();
    write(dir.path(), files);
    load(dir.path(), &dir.path().join("lib.rs")).unwrap()
}

/// Returns how many files are in cycles.
fn in_cycles(files: &[(&str, &str)]) -> usize {
    cycles::check(&modules(files)).0
}

#[test]
fn two_files_that_need_each_other_are_a_cycle() {
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    let c = ("c.rs", "use crate::{a, b}; pub struct C(a::A, b::B);");
    assert_eq!(in_cycles(&[root, a, ("b.rs", "pub struct B;"), c]), 0);
    let back = ("b.rs", "pub struct B; pub fn b() { let _: super::a::A; }");
    assert_eq!(in_cycles(&[root, a, back, c]), 2);
    let in_macro = ("b.rs", "pub struct B; pub fn b() { println!(\"{}\", crate::a::A::x(1)); }");
    assert_eq!(in_cycles(&[root, a, in_macro, c]), 2);
    let glob = ("b.rs", "use crate::a::*; pub struct B; pub fn b() -> Option<A> { None }");
    assert_eq!(in_cycles(&[root, a, glob, c]), 2);
    let of_tests = ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }");
    assert_eq!(in_cycles(&[root, a, of_tests, c]), 0);
}

#[test]
fn a_child_that_needs_its_parent_is_a_cycle() {
    let root = ("lib.rs", "mod parent;");
    let child = ("parent/child.rs", "pub struct Child(super::Parent);");
    let alone = ("parent/mod.rs", "mod child; pub struct Parent;");
    assert_eq!(in_cycles(&[root, alone, child]), 0, "a declaration is no use");
    let reexport = ("parent/mod.rs", "mod child; pub use child::Child; pub struct Parent;");
    assert_eq!(in_cycles(&[root, reexport, child]), 2);
}

#[test]
fn a_path_counts_for_the_file_that_defines_the_item() {
    let modules = modules(&[
        ("lib.rs", "pub mod a; pub use a::*; mod user;"),
        ("a/mod.rs", "mod inner; pub use inner::Inner as Outer;"),
        ("a/inner.rs", "pub enum Inner { Variant }"),
        ("user.rs", "use crate::Outer; pub fn f() -> Outer { Outer::Variant }"),
    ]);
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let target = Resolver(&modules).resolve(&path("user"), &path("Outer::Variant"));
    assert_eq!(target, Some(Target::Item(path("a::inner"), "Inner".to_owned())));
    let foreign = Resolver(&modules).resolve(&path("user"), &path("std::fs::File"));
    assert_eq!(foreign, None);
    assert_eq!(cycles::check(&modules).0, 0);
}

#[test]
fn inline_modules_count_as_modules() {
    let root = ("lib.rs", "mod outside; mod one { pub struct X(crate::outside::Y); }");
    assert_eq!(in_cycles(&[root, ("outside.rs", "pub struct Y(crate::one::X);")]), 2);
    let inner = "mod a { pub struct A(super::b::B); } mod b { pub struct B(super::a::A); }";
    assert_eq!(in_cycles(&[("lib.rs", inner)]), 1);
}

#[test]
fn crates_that_need_each_other_are_a_cycle() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &[("a/Cargo.toml", "[dependencies]\nrelais-b.workspace = true\n")]);
    write(dir.path(), &[("b/Cargo.toml", "[package]\nname = \"relais-b\"\n")]);
    let folders = ["a", "b"].map(|name| dir.path().join(name));
    assert!(cycles::check_crates(&folders).unwrap().is_empty());
    write(dir.path(), &[("b/Cargo.toml", "[dev-dependencies]\nrelais-a = { path = \"../a\" }\n")]);
    assert!(!cycles::check_crates(&folders).unwrap().is_empty());
}

#[test]
fn a_type_name_has_one_meaning_in_a_crate() {
    let one = modules(&[("lib.rs", "pub struct Thing; pub struct Error;")]);
    let two = modules(&[("lib.rs", "mod a { struct Thing; enum Error {} } enum Thing {}")]);
    let violations = |crates: &[(&str, &Modules)]| {
        let mut names = TypeNames::default();
        crates.iter().for_each(|(name, modules)| names.add(name, modules));
        names.check().len()
    };
    assert_eq!(violations(&[("one", &one), ("other", &one)]), 0);
    assert_eq!(violations(&[("one", &one), ("other", &one), ("third", &one)]), 1);
    assert_eq!(violations(&[("two", &two)]), 1);
}

#[test]
fn avoided_words_are_counted() {
    let found = |line| text::avoided(line).count();
    assert_eq!(found("Whoever asks, asks somebody for whom nobody is a stranger."), 5);
    assert_eq!(found("The user `nobody`, \"nobody\", nobody_else, estranged"), 0);
}

#[test]
fn wide_lines_of_prose_are_found() {
    let wide = "x".repeat(101);
    let lines = |text: &str, markdown| text::wide_lines(text, markdown).collect::<Vec<_>>();
    assert_eq!(lines(&format!("a\n{wide}\n"), false), [2]);
    assert_eq!(
        lines(&format!("{wide}\n| {wide}\n    {wide}\n```\n{wide}\n```\n{wide}"), true),
        [1, 7]
    );
}
