//! The state of a database in at most ten lines for a terminal.

use super::formats::{exemption, verdict};
use super::page::GuardPart;
use super::priority::{Concerned, Exposure};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rules::Context;
use crate::sql::printable;

/// How many findings are listed.
const FIRST: usize = 4;

/// The number of characters of a line beside its topic.
const WIDTH: usize = 105;

/// A line of a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryLine {
    /// What the line is about, in one word.
    pub topic: &'static str,
    /// The facts.
    pub text: String,
}

/// Returns at most ten lines: the contract, the verdict, who is concerned, what to fix first, how
/// much is exempt, the guard, and the next command. `findings` are those of the audit, the most
/// severe first, exempt ones included; `guard` is the status of the guard.
#[must_use]
pub fn summary(cx: &Context<'_>, findings: &[Finding], guard: &[GuardPart]) -> Vec<SummaryLine> {
    let (exempt, open): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| exemption(finding).is_some());
    let concerned = Concerned::of(cx);
    let first = concerned.to_fix(&open);
    let mut lines = Vec::new();
    let mut add = |topic, text: String| {
        lines.push(SummaryLine { topic, text: one_line(&text) });
    };
    let [contract, database] =
        [&cx.contract.name, &cx.snapshot.database.name].map(|n| printable(n));
    add("contract", format!("{contract} {} on database {database}", cx.contract.version));
    add("verdict", verdict(&open));
    if !first.is_empty() {
        add("concerns", concerns(&concerned, &first));
    }
    for finding in first.iter().take(FIRST) {
        add("first", format!("{}: {}", finding.severity.as_str(), finding.detail));
    }
    if !exempt.is_empty() {
        add("exempt", format!("{}: SELECT * FROM ops.v_exemptions;", counted(exempt.len())));
    }
    add("guard", guard_line(guard));
    add("next", next(&open).to_owned());
    lines
}

/// Returns the beginning of a text, on one line.
fn one_line(text: &str) -> String {
    let text = text.replace('\n', " ");
    match text.char_indices().nth(WIDTH) {
        Some(_) => text.chars().take(WIDTH - 3).chain("...".chars()).collect(),
        None => text,
    }
}

/// Returns how many errors and warnings concern which roles.
fn concerns(concerned: &Concerned<'_>, findings: &[&Finding]) -> String {
    let of = [
        (Exposure::Anyone, "anyone who can send a request"),
        (Exposure::Clients, "clients"),
        (Exposure::Others, "other roles, or none in particular"),
        (Exposure::Missing, "what is declared and missing"),
    ];
    let count = |exposure| findings.iter().filter(|f| concerned.by(f) == exposure).count();
    let words = of.map(|(exposure, who)| (count(exposure), who)).into_iter();
    let words = words.filter(|(count, _)| *count > 0).map(|(count, who)| format!("{who}: {count}"));
    words.collect::<Vec<_>>().join("; ")
}

fn counted(findings: usize) -> String {
    if findings == 1 { "1 finding".to_owned() } else { format!("{findings} findings") }
}

/// Returns which components of the guard are not active.
fn guard_line(guard: &[GuardPart]) -> String {
    let inactive: Vec<&str> =
        guard.iter().filter(|part| !part.active).map(|part| part.name.as_str()).collect();
    if inactive.is_empty() {
        "All components are active.".to_owned()
    } else {
        format!("Not active: {}. SELECT * FROM ops.guard_status();", inactive.join(", "))
    }
}

/// Returns the next command.
fn next(open: &[&Finding]) -> &'static str {
    match open.iter().map(|finding| finding.severity).max() {
        None => "SELECT ops.assert_security(); in the checks of each change keeps it so.",
        Some(Severity::Info) => "SELECT * FROM ops.findings('info');",
        Some(_) => "SELECT * FROM ops.golden_sql(); returns the statements that fix it.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::rules::RULES;
    use crate::rules::testing::World;
    use serde_json::json;

    fn part(name: &str, active: bool) -> GuardPart {
        GuardPart { name: name.into(), active, detail: String::new(), gap: None, fix: None }
    }

    /// Returns the summary of a world, with some of its findings exempt.
    fn lines(world: &World, exempt: usize, guard: &[GuardPart]) -> Vec<(&'static str, String)> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
        let mut found: Vec<Finding> = RULES.iter().flat_map(|rule| cx.run(rule)).collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        for finding in found.iter_mut().take(exempt) {
            finding.evidence["exemption"] = json!({"status": "active", "reason": "known"});
        }
        let lines = summary(&cx, &found, guard);
        lines.into_iter().map(|line| (line.topic, line.text)).collect()
    }

    #[test]
    fn summary_of_a_database_that_conforms_says_so() {
        let lines = lines(&World::conforming(), 0, &[part("log", true)]);
        let topics: Vec<&str> = lines.iter().map(|(topic, _)| *topic).collect();
        assert_eq!(topics, ["contract", "verdict", "guard", "next"]);
        assert_eq!(lines[1].1, "The database conforms to its contract.");
        assert_eq!(lines[2].1, "All components are active.");
    }

    #[test]
    fn summary_has_ten_lines_and_begins_with_what_anyone_can_use() {
        let mut world = World::conforming();
        let [anon, other] = ["anon", "authenticated"].map(|role| world.role(role).oid);
        for table in ["public.judgments", "public.plaintiffs", "public.job_queue"] {
            for role in [other, anon] {
                world.grant(table, role, crate::catalog::Privileges::TRUNCATE);
            }
        }
        let guard = [part("log", true), part("mode", false)];
        let lines = lines(&world, 1, &guard);
        assert!(lines.len() <= 10, "{lines:#?}");
        let first: Vec<&str> =
            lines.iter().filter(|(topic, _)| *topic == "first").map(|(_, t)| t.as_str()).collect();
        assert!(first[0].contains("\"anon\""), "{first:#?}");
        let text = |of: &str| &lines.iter().find(|(topic, _)| *topic == of).unwrap().1;
        assert!(text("concerns").starts_with("anyone who can send a request: "), "{lines:#?}");
        assert_eq!(text("guard"), "Not active: mode. SELECT * FROM ops.guard_status();");
        assert_eq!(text("exempt"), "1 finding: SELECT * FROM ops.v_exemptions;");
        assert!(lines.iter().all(|(_, text)| text.chars().count() <= WIDTH), "{lines:#?}");
    }
}
