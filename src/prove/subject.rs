//! What an experiment is about.

use super::outcome::when;
use super::plan::{Plan, may_have};
use super::proof::{Expected, Proof, Verdict};
use super::seed::Caller;
use super::value::Values;
use crate::catalog::{self, Mentioned, StoredPolicy};
use dragonfly_core::catalog::{Command, Oid, Opening, Rows};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Claims, Reached, Scenario, TooLarge};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// What an experiment is about.
pub struct Subject<'a> {
    /// What conditions mention.
    pub catalog: &'a Mentioned<'a>,
    /// Where the values of sessions are.
    pub identities: &'a Identities,
    /// The table.
    pub relation: Oid,
    /// Its policies.
    pub policies: &'a [StoredPolicy],
    /// The columns by which a row belongs to a caller.
    pub keys: &'a BTreeSet<i16>,
    /// The caller.
    pub caller: Caller,
    /// The client role.
    pub role: Oid,
    /// Its name.
    pub role_name: &'a str,
    /// Whether UPDATE and DELETE are executed without WHERE where other rows are there.
    pub without_where: bool,
    /// The scenarios of policies that have been searched.
    pub known: Known,
}

/// Scenarios by policy, command and whether they are about new rows.
pub type Known = RefCell<HashMap<(String, Command, bool), Result<Rc<Vec<Scenario>>, TooLarge>>>;

impl Subject<'_> {
    /// Whether the role has the privilege for a command on the table, or on a part of it.
    pub fn has_privilege(&self, command: Command) -> bool {
        self.catalog.rights().on_part(self.role, self.relation, command.privilege())
    }

    /// Returns why rows pass a policy, each with a session and rows.
    pub fn scenarios(
        &self,
        policy: &StoredPolicy,
        command: Command,
        rows: Rows,
    ) -> Result<Rc<Vec<Scenario>>, TooLarge> {
        let key = (policy.name.clone(), command, rows == Rows::New);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let found = catalog::scenarios(
            (self.catalog, self.identities),
            self.relation,
            (policy, self.policies),
            self.role,
            (command, rows),
        );
        let found = found.map(Rc::new);
        self.known.borrow_mut().insert(key, found.clone());
        found
    }

    /// Returns the result for a policy that was not tried, because there are too many ways to pass
    /// it.
    pub fn too_large(&self, policy: &StoredPolicy, command: Command) -> Proof {
        Proof {
            policy: policy.name.clone(),
            command,
            as_who: self.role_name.to_owned(),
            of_whom: String::new(),
            expected: Expected::Unknown,
            observed: "nothing".to_owned(),
            verdict: Verdict::NotTried,
            why: "The condition is too large: split the policy into several, of which each is \
                  tried alone."
                .to_owned(),
            witness: Vec::new(),
        }
    }

    /// Returns the result for a row of another caller that was reached: as expected, where a policy
    /// opens rows.
    pub fn explained(&self, proof: Proof, rows: Rows, values: Option<&Values>) -> Proof {
        if proof.verdict != Verdict::Refuted {
            return proof;
        }
        match self.open(proof.command, rows, values) {
            Some((policy, why)) => Proof {
                expected: Expected::Reached,
                verdict: Verdict::Confirmed,
                why: format!("Policy {policy} opens rows. {why}"),
                ..proof
            },
            None => proof,
        }
    }

    /// Returns a policy by which rows pass that are not the caller's, and how.
    fn open(
        &self,
        command: Command,
        rows: Rows,
        values: Option<&Values>,
    ) -> Option<(String, String)> {
        let policies = self.policies.iter();
        let rights = self.catalog.rights();
        let permissive =
            policies.filter(|of| of.is_permissive && of.is_for(command, self.role, rights));
        permissive
            .flat_map(|policy| {
                let scenarios = self.scenarios(policy, command, rows).unwrap_or_default();
                (0..scenarios.len()).map(move |at| (policy, scenarios[at].clone()))
            })
            .find(|(_, scenario)| {
                let unknown = [Opening::Opaque, Opening::ForeignOperator];
                matches!(scenario.reached, Reached::Open(of) if !unknown.contains(&of))
                    && values.is_none_or(|values| may_have(values, scenario))
            })
            .map(|(policy, scenario)| (policy.name.clone(), when(&scenario.conditions)))
    }

    /// Returns who tries to reach a row, and whose it is.
    pub fn parties(&self, plan: &Plan<'_>) -> (String, String) {
        let as_who = match plan.main.claims {
            Claims::Missing => format!("{} without claims", self.role_name),
            Claims::Role => format!("{} without a user", self.role_name),
            Claims::User => format!("{}, user a", self.role_name),
        };
        let of_whom = match (plan.is_own(), plan.rows) {
            (false, _) if plan.reached == Reached::Never => "anyone",
            (false, _) => "user b",
            (true, Rows::Existing) => "another caller",
            (true, Rows::New) => "a new row of another caller",
        };
        (as_who, of_whom.to_owned())
    }
}
