//! Row level security does not bind the owner of the table.

use super::{Area, Context, Rule};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::{Change, Mend, Statement};
use serde_json::json;

pub(super) static RULE: Rule = Rule {
    id: "rls_not_forced",
    title: "Row level security is not forced on the owner",
    area: Area::Rls,
    severity: Severity::Info,
    guard: GuardAction::Block,
    section: "7",
    why: "The owner passes its own policies by, and so does every view and SECURITY DEFINER routine of the owner. Often that is \
          meant: the declared views live by it.",
    mend: "ALTER TABLE ... FORCE ROW LEVEL SECURITY, once the owner's views and routines have policies to live by.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| r.row_security && !r.force_row_security) {
        let Some(table) = cx.contract.table(&schema.name, &relation.name).filter(|t| t.row_security) else { continue };
        let sql = cx.snapshot.relation_sql(relation);
        let (severity, demanded) = match table.force_row_security {
            true => (Severity::Error, ", which the contract demands"),
            false => (Severity::Info, ""),
        };
        out.push(Draft {
            object: cx.relation_object(relation),
            role: Some(cx.snapshot.role_name(relation.owner)),
            severity,
            key: String::new(),
            measure: Measure::lack("", vec![]),
            detail: format!("Row level security of table {sql} is not forced on its owner{demanded}."),
            evidence: json!({"force_row_security": false, "declared": table.force_row_security}),
            mend: match table.force_row_security {
                true => Mend::by(Statement::new(
                    Change::ForceRowSecurity(relation.oid),
                    format!("ALTER TABLE {sql} FORCE ROW LEVEL SECURITY;"),
                )),
                false => Mend::Unknown,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn force_is_advice_where_it_is_not_declared() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.relation("public.judgments").force_row_security = false;
        assert_eq!(
            world.found(&RULE),
            ["info table public.judgments postgres: Row level security of table public.judgments is not forced on its owner."]
        );
        world.contract.tables[0].force_row_security = true;
        world.contract.rules.remove("rls_not_forced");
        assert!(world.fixes(&RULE)[0].contains("FORCE"));
    }
}
