//! A policy of storage.objects is for every bucket.

use super::context::Context;
use crate::catalog::{Command, Object, ObjectId, StoragePolicy};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Predicate, Verb};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{listed, quote_ident, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_bucket_unbound",
    title: "A policy of storage.objects is for every bucket",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each permissive policy of storage.objects for a client asks for a bucket \
              in each way in which it lets a row through. It concerns Supabase's table \
              of files, whether or not its schema is governed.",
    why: "All buckets are in one table. A policy that was written for one bucket \
              and does not say so opens the same paths in all others.",
    fix: "Add bucket_id = '...' to the condition.",
    exempt: "A policy that is meant for every bucket, such as that of the owner of a \
              file.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE SCHEMA storage;\n\
                    CREATE TABLE storage.objects (id uuid PRIMARY KEY, bucket_id text, \
                    owner uuid);\n\
                    ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;\n\
                    GRANT SELECT ON storage.objects TO authenticated;\n\
                    CREATE POLICY own_files ON storage.objects FOR SELECT TO \
                    authenticated\n\
                    USING (owner = (SELECT (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub')::uuid));",
        correct: "CREATE SCHEMA storage;\n\
                  CREATE TABLE storage.objects (id uuid PRIMARY KEY, bucket_id text, \
                  owner uuid);\n\
                  ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;\n\
                  GRANT SELECT ON storage.objects TO authenticated;\n\
                  CREATE POLICY own_files ON storage.objects FOR SELECT TO authenticated\n\
                  USING (owner = (SELECT (SELECT current_setting('request.jwt.claims', \
                  true)::json ->> 'sub')::uuid) AND bucket_id = 'avatars');",
    },
    references: &["CWE-863"],
};

/// The column for the bucket.
const BUCKET: &str = "bucket_id";

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for policy in cx.snapshot.storage_policies.iter() {
        for client in &cx.clients {
            let of_client = policy.exposures.iter().filter(|of| of.role == client.oid);
            let is_unbound = |of: &&crate::catalog::PolicyExposure| {
                let exposure = &of.exposure;
                !exposure.is_never_true
                    && !exposure.is_undecided()
                    && !exposure.fixed.contains(BUCKET)
            };
            let mut commands: Vec<Command> =
                of_client.filter(is_unbound).map(|of| of.command).collect();
            commands.dedup();
            if !commands.is_empty() {
                let grantee = (client.oid, client.name.as_str());
                out.push(draft(policy, grantee, &commands));
            }
        }
    }
}

fn draft(policy: &StoragePolicy, grantee: (u32, &str), commands: &[Command]) -> Draft {
    let words: Vec<&str> = commands.iter().map(|command| command.as_str()).collect();
    let name = safe_ident(&policy.name);
    let predicate = Predicate {
        verb: Verb::Of(format!("Policy {name} on table storage.objects lets")),
        rest: format!("{} the files that it lets through in every bucket.", listed(&words)),
    };
    let object = Object {
        object_type: "policy",
        schema: Some("storage".to_owned()),
        identity: format!("{} on storage.objects", quote_ident(&policy.name)),
        managed_by: None,
        id: ObjectId::Policy(policy.oid),
    };
    let clause = if words == ["INSERT"] { "WITH CHECK" } else { "USING" };
    let proposal = format!("{}\nALTER POLICY {name} ON storage.objects {clause} (...);", RULE.fix);
    Draft::of_grantee(object, RULE.severity, grantee, predicate)
        .key(words.join(", "))
        .evidence(json!({"commands": words}))
        .fix(Fix::Proposal(proposal))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, PolicyExposure, Rows, StoragePolicy};

    fn found(exposure: Exposure) -> Vec<String> {
        let mut world = World::conforming();
        let role = world.role("authenticated").oid;
        let exposure = PolicyExposure {
            policy: 9_000,
            role,
            command: Command::Select,
            rows: Rows::Existing,
            exposure: exposure.into(),
            covered_by: None,
            triggers: std::rc::Rc::default(),
        };
        let policy =
            StoragePolicy { oid: 9_000, name: "own".to_owned(), exposures: vec![exposure] };
        world.snapshot.storage_policies = vec![policy].into();
        world.details(&RULE)
    }

    #[test]
    fn policy_for_every_bucket_is_reported() {
        let ties = [["owner".to_owned()].into()].into();
        let tied = Exposure { ties, ..Exposure::default() };
        assert_eq!(
            found(tied.clone()),
            ["warning: Policy own on table storage.objects lets role \"authenticated\" SELECT \
              the files that it lets through in every bucket."]
        );
        let fixed = ["bucket_id".to_owned(), "owner".to_owned()].into();
        assert_eq!(found(Exposure { fixed, ..tied.clone() }), [""; 0]);
        assert_eq!(found(Exposure { is_never_true: true, ..tied }), [""; 0]);
    }
}
