//! The words and the line length of sources, SQL, scripts and documentation.
//!
//! `docs/concepts.md` says which term stands for what; this test names the words that earlier
//! versions used instead.

use std::path::{Path, PathBuf};

/// Words that are not used, with what is written instead.
const INSTEAD: &[(&str, &str)] = &[
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mending", "fixing"),
    ("mends", "fixes"),
    ("anew", "again"),
    ("whoever", "the role that"),
    ("whom", "the role"),
    ("somebody", "a role, a person"),
    ("nobody", "no role, no person"),
    ("somebody's", "another role's"),
    ("nobody's", "no role's"),
    ("stranger", "untrusted role"),
    ("strangers", "untrusted roles"),
    ("left away", "omitted"),
    ("carried out", "executed"),
    ("carry out", "execute"),
    ("lives by", "depends on"),
    ("let be", "allowed"),
    ("lets pass", "allows"),
    ("pass by", "bypass"),
    ("passes row security", "bypasses row security"),
    ("ratchet", "only regressions are blocked"),
    ("on sand", "depends on a temporary object"),
    ("epitaph", "expiry note"),
    ("laid hands", "changed"),
    ("trusted with the structure", "trusted owner"),
    ("touched", "changed"),
    ("judged", "checked"),
];

/// Names of columns of results that contain such a word: they cannot be changed.
const NAMES: &[&str] = &["of_whom"];

/// The longest line, in characters.
const LONGEST: usize = 100;

/// What is read: folders and files below the project's folder.
const READ: &[&str] = &[
    "src",
    "sql",
    "fuzz/src",
    "fuzz/fuzz_targets",
    "docs",
    "scripts",
    "tests/tests",
    "tests/harness",
    "tests/in_server",
    "tests/core/README.md",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the project")
}

/// Whether a file has this extension.
fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// Every file that is read with its text, this file, JSON documents and pictures aside.
fn files() -> Vec<(String, String)> {
    let root = project();
    let mut queue: Vec<PathBuf> = READ.iter().map(|name| root.join(name)).collect();
    let mut found = Vec::new();
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            queue.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let name = path.strip_prefix(&root).expect("below the project").display().to_string();
        let is_read = !has_extension(&name, "json") && !has_extension(&name, "png");
        if is_read && !name.ends_with("tests/vocabulary.rs") {
            found.push((name, std::fs::read_to_string(&path).expect("UTF-8")));
        }
    }
    assert!(found.len() > 100, "only {} files were found", found.len());
    found.sort();
    found
}

#[test]
fn deny_listed_words_do_not_occur() {
    let mut problems = Vec::new();
    for (name, text) in files() {
        for (number, line) in text.lines().enumerate() {
            let line = NAMES.iter().fold(line.to_owned(), |line, name| line.replace(name, ""));
            for (word, instead) in INSTEAD.iter().filter(|(word, _)| has_word(&line, word)) {
                problems.push(format!("{name}:{}: \"{word}\": write {instead}", number + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{} words:\n{}", problems.len(), problems.join("\n"));
}

/// Whether a line has a word, in any case, between characters that are no letters.
fn has_word(line: &str, word: &str) -> bool {
    let line = line.to_lowercase();
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        ![before, after].into_iter().flatten().any(|c| c.is_alphabetic() || c == '\'')
    })
}

#[test]
fn has_word_finds_whole_words_only() {
    assert!(has_word("Mended by SQL", "mended"));
    assert!(has_word("is_mended", "mended"));
    assert!(!has_word("amended", "mended"));
    assert!(!has_word("recommend", "mend"));
}

#[test]
fn lines_are_at_most_100_characters_long() {
    let mut problems = Vec::new();
    for (name, text) in files() {
        let is_page = has_extension(&name, "md");
        let mut in_fence = false;
        for (number, line) in text.lines().enumerate() {
            in_fence ^= is_page && line.trim_start().starts_with("```");
            // Tables cannot be wrapped, and a transcript is what psql prints.
            let is_exempt = is_page && (in_fence || line.starts_with('|'));
            if !is_exempt && line.chars().count() > LONGEST {
                problems.push(format!(
                    "{name}:{}: {} characters",
                    number + 1,
                    line.chars().count()
                ));
            }
        }
    }
    assert!(problems.is_empty(), "{} lines:\n{}", problems.len(), problems.join("\n"));
}
