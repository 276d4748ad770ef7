//! Whether two callers are isolated from each other.

use super::experiment::Pair;
use super::failure::Failure;
use super::proof::{Expected, Proof, Verdict};
use super::session::Session;
use super::subject::Subject;
use super::table::Table;
use crate::catalog::QUESTIONS;
use crate::pg::heap::interrupts;
use crate::pg::{privileges, restricted, statement, subtransaction};
use dragonfly_core::catalog::{Command, Rows};
use dragonfly_core::sql::quote_literal;
use pgrx::pg_sys;
use serde_json::{Map, Value as Json};

/// How many rows of a table are compared.
const MOST_ROWS: usize = 1_000;

/// Tries to reach rows of caller `b` as caller `a`: rows that the policies say are `b`'s, put into
/// the tables, and those that are there.
pub fn isolation(subject: &Subject<'_>, pair: &Pair, commands: &[Command]) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for (command, rows) in QUESTIONS {
        let is_asked = commands.contains(&command) && subject.has_privilege(command);
        if !is_asked {
            continue;
        }
        for policy in subject.policies {
            interrupts();
            if !policy.is_permissive
                || !policy.is_for(command, subject.role, subject.catalog.rights())
            {
                continue;
            }
            let Ok(scenarios) = subject.scenarios(policy, command, rows) else {
                proofs.push(subject.too_large(policy, command));
                continue;
            };
            for scenario in scenarios.iter() {
                let tried = subject.experiment(policy, (command, rows), scenario, Some(pair));
                proofs.extend(tried);
            }
        }
        if command == Command::Select {
            proofs.push(subject.existing(pair));
        }
    }
    proofs
}

impl Subject<'_> {
    /// Compares the rows of the table that both callers read.
    fn existing(&self, pair: &Pair) -> Proof {
        let mut proof = Proof {
            policy: String::new(),
            command: Command::Select,
            as_who: format!("{}, user a", self.role_name),
            of_whom: "the rows that user b reads".to_owned(),
            expected: Expected::NotReached,
            observed: "nothing".to_owned(),
            verdict: Verdict::NotTried,
            why: String::new(),
            witness: Vec::new(),
        };
        if !privileges::on_relation(self.role, self.relation, pg_sys::ACL_SELECT) {
            let why = "The role has SELECT on some columns only: the rows that two callers read \
                       cannot be compared."
                .to_owned();
            return Proof { why, ..proof };
        }
        let counted = subtransaction::rolled_back(|| self.rows_of_both(pair));
        let (all, both) = match counted {
            Ok(counted) => counted,
            Err(error) => {
                let failure = Failure::of(&error);
                proof.why =
                    failure.after(&format!("The rows could not be read: {}", failure.message));
                return proof;
            }
        };
        let first = if all == MOST_ROWS { "the first " } else { "" };
        proof.observed = format!("{both} of {first}{all} rows");
        let (verdict, why) = match (all, both) {
            (0, _) => (Verdict::NotTried, "User b reads no row of the table: insert one of b's."),
            (_, 0) => (Verdict::IsolatedHere, "User a reads none of them: a sample, and no proof."),
            _ => (
                Verdict::Refuted,
                "User a reads rows that user b reads: rows of both, or something that the \
                 analysis does not see.",
            ),
        };
        let proof = Proof { verdict, why: why.to_owned(), ..proof };
        self.explained(proof, Rows::Existing, None)
    }

    /// Returns how many rows `b` reads, of the first ones, and how many of these `a` reads.
    fn rows_of_both(&self, pair: &Pair) -> (usize, u64) {
        let Some(Table { name: table, .. }) = Table::read(self.relation) else { return (0, 0) };
        let session = |claims: &Map<String, Json>| {
            Session::of_claims(claims.clone(), self.role_name, self.identities).set();
        };
        statement::count("SELECT pg_catalog.set_config('row_security', 'on', true)");
        let of_b = restricted::as_role(self.role, || {
            session(&pair.b);
            statement::rows(&format!("SELECT tableoid, ctid FROM {table} LIMIT {MOST_ROWS}"))
        });
        let places = of_b.iter().filter_map(|row| match &row[..] {
            [Some(table), Some(place)] => {
                Some(format!("({table}::pg_catalog.oid, {}::pg_catalog.tid)", quote_literal(place)))
            }
            _ => None,
        });
        let places: Vec<String> = places.collect();
        if places.is_empty() {
            return (0, 0);
        }
        let both = restricted::as_role(self.role, || {
            session(&pair.a);
            statement::count(&format!(
                "SELECT FROM {table} WHERE (tableoid, ctid) OPERATOR(pg_catalog.=) ANY
                   (SELECT * FROM (VALUES {}) AS of_b)",
                places.join(", ")
            ))
        });
        (of_b.len(), both)
    }
}
