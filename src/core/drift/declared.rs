//! Drift from the contract: declared objects that are missing or of another kind.

use super::compare::{Change, Difference};
use crate::finding::Finding;

/// Returns the findings of the rules `required_object_missing` and `role_missing` as differences.
#[must_use]
pub fn from_findings(findings: &[Finding]) -> Vec<Difference> {
    findings.iter().map(difference).collect()
}

fn difference(finding: &Finding) -> Difference {
    // Present where the object exists and differs in one property.
    let differs = finding.evidence.get("differs");
    let value = |key: &str| differs.and_then(|d| d[key].as_str()).map(str::to_owned);
    Difference {
        change: if differs.is_some() { Change::Changed } else { Change::Removed },
        object_type: finding.object.object_type.to_owned(),
        schema: finding.object.schema.clone(),
        identity: finding.object.identity.clone(),
        property: value("property"),
        expected: value("expected"),
        actual: value("actual"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::RelationKind;
    use crate::rules::testing::World;
    use crate::rules::{required_object_missing, role_missing};

    #[test]
    fn declared_object_is_removed_or_changed() {
        let mut world = World::conforming();
        world.relation("public.judgments").kind = RelationKind::View;
        world.routine("get_ceo_metrics").security_definer = false;
        world.snapshot.relations.retain(|r| r.name != "v_rls_coverage");
        world.snapshot.roles.retain(|r| r.name != "service_role");
        let findings = [&required_object_missing::RULE, &role_missing::RULE]
            .map(|rule| world.findings(rule))
            .concat();
        let found: Vec<String> = from_findings(&findings)
            .into_iter()
            .map(|d| {
                format!(
                    "{} {} {} {:?} {:?} {:?}",
                    d.change.as_str(),
                    d.object_type,
                    d.identity,
                    d.property,
                    d.expected,
                    d.actual
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "changed function api.get_ceo_metrics() Some(\"security\") Some(\"DEFINER\") \
                 Some(\"INVOKER\")",
                "removed view ops.v_rls_coverage None None None",
                r#"changed table public.judgments Some("kind") Some("table") Some("view")"#,
                "removed role service_role None None None",
            ]
        );
    }
}
