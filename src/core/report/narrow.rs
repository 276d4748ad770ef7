//! Findings for a terminal: wrapped, so that a row with its severity has at most 120 columns.

use crate::finding::Finding;
use crate::sql::printable;

/// The widths of object and sentence. psql adds 2 columns for each border, and the severity has 8.
const OBJECT: usize = 34;
const SENTENCE: usize = 70;

/// A finding in two texts with line breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarrowFinding {
    /// The identity of the object.
    pub object: String,
    /// The rule and the sentence that states the problem.
    pub finding: String,
}

impl NarrowFinding {
    /// Returns a finding with line breaks.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        let object = &finding.object;
        // The owner of a schema is no schema: "database app", and "public.judgments".
        let identity = match object.schema {
            Some(_) => printable(&object.identity).into_owned(),
            None => format!("{} {}", object.type_in_message(), printable(&object.identity)),
        };
        Self {
            object: textwrap::fill(&identity, OBJECT),
            finding: textwrap::fill(&format!("{}: {}", finding.rule.id, finding.detail), SENTENCE),
        }
    }
}

/// The width of the changes beside version, replaces, findings, added and removed.
const CHANGES: usize = 64;

/// The number of changes that are shown.
const SHOWN_CHANGES: usize = 10;

/// Returns the first changes of a contract, one per line, and how many others there are. A line
/// that is too long continues in the next one, indented.
#[must_use]
pub fn narrow_changes(changes: &[String]) -> String {
    let options = textwrap::Options::new(CHANGES).subsequent_indent("    ");
    let mut lines: Vec<String> = changes
        .iter()
        .take(SHOWN_CHANGES)
        .map(|change| textwrap::fill(&printable(change), &options))
        .collect();
    if changes.len() > SHOWN_CHANGES {
        lines.push(format!("... and {} more", changes.len() - SHOWN_CHANGES));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Privileges;
    use crate::rules::testing::World;
    use crate::rules::{rls_disabled, table_privileges};

    #[test]
    fn changes_are_lines_that_fit_and_the_others_are_counted() {
        assert_eq!(narrow_changes(&[]), "");
        let change = |i: usize| format!("+ tables[public.t{i}]");
        assert_eq!(
            narrow_changes(&[change(1), change(2)]),
            "+ tables[public.t1]\n+ tables[public.t2]"
        );
        let mut many: Vec<String> = (0..12).map(change).collect();
        many[3] = format!("~ description: {} -> {}", "a word ".repeat(40), "x".repeat(100));
        let shown = narrow_changes(&many);
        assert!(shown.ends_with("+ tables[public.t9]\n... and 2 more"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= CHANGES), "{shown}");
        assert!(shown.contains("\n    "), "{shown}");
    }

    #[test]
    fn every_line_of_a_long_finding_fits() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        world.grant("public.judgments", anon, Privileges::SELECT | Privileges::INSERT);
        let mut long = world.relation("public.judgments").clone();
        (long.oid, long.name) = (9_001, "a_table_with_a_name_of_sixty_three_bytes".repeat(2));
        world.add_relation(long);
        let found =
            [world.findings(&table_privileges::RULE), world.findings(&rls_disabled::RULE)].concat();
        assert!(found.len() >= 2, "{found:?}");
        for narrow in found.iter().map(NarrowFinding::of) {
            for (text, width) in [(&narrow.object, OBJECT), (&narrow.finding, SENTENCE)] {
                assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            }
        }
        let first = NarrowFinding::of(&found[0]);
        assert!(first.finding.starts_with("table_privileges: Role"), "{first:?}");
    }
}
