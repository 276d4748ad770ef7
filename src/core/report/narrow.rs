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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Privileges;
    use crate::rules::testing::World;
    use crate::rules::{rls_disabled, table_privileges};

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
