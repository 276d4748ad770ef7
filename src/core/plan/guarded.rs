//! What the guard would reject after the statements of a plan: it compares what roles can do
//! without and with them, while a plan asks for findings.

use crate::access::Access;
use crate::catalog::Snapshot;
use crate::contract::{Contract, GuardAction};
use crate::finding::Finding;
use crate::guard::Change;
use crate::rule::{Recheck, Rule};
use crate::rules::Context;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::rc::Rc;

/// The catalog before a plan, as the guard compares with it.
pub(super) struct Guarded<'a> {
    contract: &'a Contract,
    snapshot: &'a Snapshot,
    /// The fingerprints of the findings before.
    known: HashSet<&'a str>,
    /// The snapshot without what parts of objects use: what is needed no longer because of a
    /// statement was there before.
    without_uses: OnceCell<Snapshot>,
    interrupts: &'a dyn Fn(),
}

impl<'a> Guarded<'a> {
    /// Takes the catalog before a plan, and its findings.
    pub(super) fn new(
        contract: &'a Contract,
        snapshot: &'a Snapshot,
        before: &'a [Rc<Finding>],
        interrupts: &'a dyn Fn(),
    ) -> Self {
        let known = before.iter().map(|f| f.fingerprint.as_str()).collect();
        Self { contract, snapshot, known, without_uses: OnceCell::new(), interrupts }
    }

    /// Returns the findings for which the guard would reject a transaction that leads to `after`;
    /// `found` are all findings there that are not exempt. A finding that was there before is no
    /// regression, so that mostly there is nothing to compare.
    pub(super) fn rejected(&self, after: &Snapshot, found: &[Rc<Finding>]) -> Vec<Finding> {
        // The guard checks routines of their own by the reasons of their paths, not by findings.
        let is_compared = |f: &Finding| f.rule.recheck != Recheck::Routines;
        let is_new = |f: &&Finding| is_compared(f) && !self.known.contains(f.fingerprint.as_str());
        let found = || found.iter().map(AsRef::as_ref).filter(is_new);
        let new: HashSet<&str> = found().map(|f| f.fingerprint.as_str()).collect();
        let mut rules: Vec<&'static Rule> = Vec::new();
        for finding in found() {
            if !rules.contains(&finding.rule) {
                rules.push(finding.rule);
            }
        }
        if rules.is_empty() {
            return vec![];
        }
        let before = self.without_uses.get_or_init(|| self.without_uses());
        let (old, now) = (Access::new(before), Access::new(after));
        let old = Context::new(self.contract, before, &old, self.interrupts);
        let now = Context::new(self.contract, after, &now, self.interrupts);
        let change = Change::new(&old, &now);
        let regressions = rules.into_iter().flat_map(|rule| change.regressions(rule));
        regressions
            .filter(|worse| worse.action == GuardAction::Block)
            .filter(|worse| new.contains(worse.audited.fingerprint.as_str()))
            .map(|worse| worse.finding)
            .collect()
    }

    fn without_uses(&self) -> Snapshot {
        Snapshot { dependencies: Rc::default(), ..self.snapshot.clone() }
    }
}
