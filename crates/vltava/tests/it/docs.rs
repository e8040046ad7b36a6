//! Pages that must say what the code says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jsonata::{Budget, ERROR_CODES, Limit};

/// The clone's folder: asked at run time, since a clone may run what another clone built.
fn root() -> PathBuf {
    let vltava = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    PathBuf::from(vltava).join("../..")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Error codes as they stand in quotes of this kind.
fn codes(text: &str, quote: char) -> BTreeSet<String> {
    let is_code = |word: &&str| {
        word.len() == 5 && word.starts_with(['S', 'T', 'D']) && word[1..].bytes().all(|b| b.is_ascii_digit())
    };
    text.split(quote).filter(is_code).map(String::from).collect()
}

#[test]
fn the_page_of_error_codes_lists_each_with_its_message() {
    let page = page("jsonata-errors.md");
    let mut rows = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [code, message, advice] = cells[..] else { panic!("not three cells: {row}") };
        assert!(advice.len() > 5, "{row}");
        assert!(rows.insert((code.trim_matches('`').to_owned(), message.to_owned())), "twice: {row}");
    }
    rows.retain(|(code, _)| code != "invalid_json");
    let known =
        ERROR_CODES.iter().map(|(code, message)| ((*code).to_owned(), (*message).to_owned())).collect();
    let differ: Vec<_> = rows.symmetric_difference(&known).collect();
    assert!(differ.is_empty(), "only in the page, or only in the code: {differ:#?}");
}

#[test]
fn codes_that_are_given_are_listed_and_the_other_way_round() {
    let mut given = BTreeSet::new();
    let mut folders = vec![root().join("crates/jsonata/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("messages.rs") {
                given.append(&mut codes(&std::fs::read_to_string(path).unwrap(), '"'));
            }
        }
    }
    let listed: BTreeSet<String> = ERROR_CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    let differ: Vec<_> = listed.symmetric_difference(&given).collect();
    assert!(differ.is_empty(), "listed but never given, or given but not listed: {differ:?}");
}

#[test]
fn the_page_of_budgets_has_the_defaults() {
    let page = page("jsonata.md");
    let Budget { steps, depth, bytes, output_bytes, regex_steps, wall } = Budget::default();
    for (limit, default, unit) in [
        (Limit::Steps, steps, ""),
        (Limit::Depth, u64::from(depth), ""),
        (Limit::Bytes, bytes as u64, ""),
        (Limit::OutputBytes, output_bytes as u64, ""),
        (Limit::RegexSteps, regex_steps, ""),
        (Limit::WallTime, wall.as_millis() as u64, " ms"),
    ] {
        let digits = default.to_string();
        let grouped: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
        let row = format!("| `{}` | {}{unit} | `{}` |", limit.name(), grouped.join(","), limit.code());
        assert!(page.contains(&row), "{row}");
    }
}
