//! The transcripts of the documentation: each is run, and must show what the page shows. `UPDATE_DOCS=1` writes the pages anew.
//!
//! A transcript is a fenced block `psql`; a comment `<!-- before: ... -->` anywhere in a section is SQL that brings about what has happened. Each
//! section has the document's database to itself.

use dragonfly_tests::{Cluster, SUPERUSER, project};

#[test]
fn the_cookbook_is_true() {
    check("cookbook.md");
}

#[test]
fn mending_is_true() {
    check("mending.md");
}

const FENCE: &str = "```psql\n";

fn check(page: &str) {
    let file = project().join("docs").join(page);
    let text = std::fs::read_to_string(&file).unwrap();
    let sections = text.split_inclusive("\n## ");
    let now: String =
        sections.map(|section| if section.contains(FENCE) { played(section) } else { section.to_owned() }).collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let (shown, seen): (Vec<&str>, Vec<&str>) = (text.lines().collect(), now.lines().collect());
    for (i, (shown, seen)) in shown.iter().zip(&seen).enumerate() {
        assert_eq!(shown, seen, "docs/{page}, line {}", i + 1);
    }
    assert_eq!(shown.len(), seen.len(), "docs/{page}");
}

/// A section with what its transcripts show now.
fn played(section: &str) -> String {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for before in section.split("<!-- before:").skip(1) {
        let sql = before.split_once("-->").expect("a comment that ends").0;
        client.batch_execute(&format!("SET dragonfly_guard.mode = off; {sql}")).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    }
    drop(client);
    let mut parts = section.split(FENCE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let transcripts: Vec<(&str, &str)> = parts.map(|part| part.split_once("```").expect("a block that ends")).collect();
    let inputs: Vec<Vec<String>> = transcripts.iter().map(|(transcript, _)| inputs(transcript)).collect();
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

/// What is typed after the prompts, prompts included; each with its lines.
fn inputs(transcript: &str) -> Vec<String> {
    let mut inputs: Vec<String> = Vec::new();
    for line in transcript.split_inclusive('\n') {
        if line.starts_with("app=# ") {
            inputs.push(line.to_owned());
        } else if line.starts_with("app-# ") {
            inputs.last_mut().expect("a statement that goes on").push_str(line);
        }
    }
    inputs
}

/// What one psql shows for each of them.
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
    // Errors and notices come where they happen.
    let command = format!("'{}' -X -d app -f '{}' 2>&1", dragonfly_tests::program("psql").display(), file.display());
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .env("PGHOST", cluster.folder())
        .env("PGUSER", SUPERUSER)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let unplaced = |line: &str| match line.strip_prefix("psql:").and_then(|rest| rest.split_once(": ")) {
        Some((_, message)) => message.to_owned(),
        None => line.trim_end().to_owned(),
    };
    let said = |part: &str| part.lines().map(|line| unplaced(line) + "\n").collect::<String>();
    text.split("@@@\n").skip(1).map(said).collect()
}
