//! The psql transcripts of the documentation are executed and must show what the page shows.
//! `UPDATE_DOCS=1` writes their output into the pages.
//!
//! A transcript is a fenced block `psql`, in `README.md` or in any page under `docs/`. An HTML
//! comment `<!-- before: ... -->` anywhere in the section is SQL that is executed first, with the
//! guard off. Each section (`## ...`) has its own database: the one of the contract document.

use dragonfly_tests::pages::{Page, pages};
use dragonfly_tests::{Cluster, SUPERUSER, major_version};
use std::sync::Mutex;

#[test]
fn every_transcript_shows_the_real_output() {
    let mut pages: Vec<Page> = pages();
    pages.retain(|page| page.text.contains(FENCE));
    if major_version() != 15 {
        // Packages of other major versions lag behind Debian's.
        eprintln!("skipped: {COUNTED}, which counts a check of the minor release");
        pages.retain(|page| !page.path.ends_with(COUNTED));
    }
    assert!(pages.len() > 5, "pages with transcripts are missing: {pages:?}");
    let queue = Mutex::new(pages.into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(page) = queue.lock().unwrap().next() else { break };
                    if let Err(failure) = Page::compare(&page.path, &executed_page(&page.text)) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The page with the number of checks that pass.
const COUNTED: &str = "docs/how-to/morning-check.md";

const FENCE: &str = "```psql\n";

/// The page with the output that its transcripts produce now.
fn executed_page(text: &str) -> String {
    let sections = text.split_inclusive("\n## ");
    sections
        .map(
            |section| {
                if section.contains(FENCE) { executed_section(section) } else { section.to_owned() }
            },
        )
        .collect()
}

fn executed_section(section: &str) -> String {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for before in section.split("<!-- before:").skip(1) {
        let sql = before.split_once("-->").expect("a comment that ends").0;
        let sql = format!("SET dragonfly_guard.mode = off; {sql}");
        client.batch_execute(&sql).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    }
    drop(client);
    let mut parts = section.split(FENCE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let transcripts: Vec<(&str, &str)> =
        parts.map(|part| part.split_once("```").expect("a block that ends")).collect();
    let inputs: Vec<Vec<String>> =
        transcripts.iter().map(|(transcript, _)| inputs(transcript)).collect();
    let mut outputs = outputs(&cluster, &inputs.concat()).into_iter();
    for ((_, rest), inputs) in transcripts.iter().zip(&inputs) {
        out += FENCE;
        for input in inputs {
            out += input;
            out += &outputs.next().expect("an output for each input");
        }
        out += "```";
        out += rest;
    }
    out
}

/// The statements after the prompts, prompts included; a statement may have several lines.
fn inputs(transcript: &str) -> Vec<String> {
    let mut inputs: Vec<String> = Vec::new();
    for line in transcript.split_inclusive('\n') {
        if line.starts_with("app=# ") {
            inputs.push(line.to_owned());
        } else if line.starts_with("app-# ") {
            inputs.last_mut().expect("a statement that continues").push_str(line);
        }
    }
    inputs
}

/// The output of each of them in one session of psql.
fn outputs(cluster: &Cluster, inputs: &[String]) -> Vec<String> {
    let mut script = String::from("\\pset pager off\n");
    for input in inputs {
        script += "\\echo @@@\n";
        for line in input.lines() {
            script += line.split_once("# ").expect("a prompt").1;
            script += "\n";
        }
    }
    let file = cluster.folder().join("transcript.sql");
    std::fs::write(&file, script).unwrap();
    // Errors and notices belong to the statement that causes them.
    let psql = dragonfly_tests::program("psql");
    let command = format!("'{}' -X -d app -f '{}' 2>&1", psql.display(), file.display());
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .env("PGHOST", cluster.folder())
        .env("PGUSER", SUPERUSER)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let without_place =
        |line: &str| match line.strip_prefix("psql:").and_then(|rest| rest.split_once(": ")) {
            Some((_, message)) => message.to_owned(),
            None => line.trim_end().to_owned(),
        };
    let lines = |part: &str| part.lines().map(|line| without_place(line) + "\n").collect();
    text.split("@@@\n").skip(1).map(lines).collect()
}
