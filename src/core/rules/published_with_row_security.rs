//! A publication contains a table with row security.

use super::context::Context;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::safe_ident;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "published_with_row_security",
    title: "A publication contains a table with row security",
    area: Area::Rls,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No publication contains a governed table with row security, apart from \
              those of the platform: supabase_realtime and \
              supabase_realtime_messages_publication.",
    why: "A subscriber receives every row, whatever the policies are: row security \
              does not apply to logical replication.",
    fix: "Drop the table from the publication, or restrict the rows by WHERE.",
    exempt: "A subscriber that may have every row, such as a warehouse or a replica.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE PUBLICATION changes FOR TABLE public.judgments;",
        correct: "CREATE PUBLICATION changes FOR TABLE public.plaintiff_tasks;",
    },
    references: &["CWE-863"],
};

/// The publications whose subscriber asks the policies itself.
const OF_PLATFORM: [&str; 2] = ["supabase_realtime", "supabase_realtime_messages_publication"];

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let all = cx.snapshot.publications.iter();
    for publication in all.filter(|of| !OF_PLATFORM.contains(&of.name.as_str())) {
        for (relation, _) in cx.relations().filter(|(relation, _)| relation.row_security) {
            cx.check_interrupts();
            if !publication.contains(relation) {
                continue;
            }
            let (name, table) = (safe_ident(&publication.name), cx.snapshot.relation_sql(relation));
            let detail = format!(
                "Publication {name} contains table {table}, which has row security: subscribers \
                 receive every row."
            );
            let proposal = format!("{}\nALTER PUBLICATION {name} DROP TABLE {table};", RULE.fix);
            let draft = Draft::new(cx.relation_object(relation), RULE.severity, detail);
            out.push(
                draft
                    .key(publication.name.clone())
                    .evidence(json!({"publication": publication.name}))
                    .fix(Fix::Proposal(proposal)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Publication;

    #[test]
    fn publication_of_a_table_with_row_security_is_reported() {
        let mut world = World::conforming();
        let (with, without) =
            (world.relation("public.judgments").oid, world.relation("ops.event_log").oid);
        let mut publication = Publication { name: "changes".to_owned(), ..Publication::default() };
        publication.tables.extend([with, without]);
        world.snapshot.publications = vec![publication.clone()].into();
        assert_eq!(
            world.details(&RULE),
            ["warning: Publication changes contains table public.judgments, which has row \
              security: subscribers receive every row."]
        );
        publication.name = "supabase_realtime".to_owned();
        world.snapshot.publications = vec![publication.clone()].into();
        assert_eq!(world.details(&RULE), [""; 0]);
        let all = Publication { name: "all".to_owned(), all_tables: true, ..publication };
        world.snapshot.publications = vec![all].into();
        assert!(world.details(&RULE).len() > 1);
    }
}
