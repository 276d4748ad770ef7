//! The fixes of findings in the words of the plan: where the plan only proposes a statement, the
//! fix of the audit is a comment with the same reason.

use super::order::{Wanted, in_order};
use super::search::{Planner, Search};
use super::step::Step;
use crate::catalog::Snapshot;
use crate::finding::Finding;
use crate::fix::{Change, Fix, Statement, Verb};
use std::collections::HashMap;
use std::rc::Rc;

impl Planner<'_> {
    /// Whether the plan may only propose a statement of the fix of a finding: one that gives or
    /// takes something. What a statement means that sets a search_path, or repairs the guard, is
    /// known.
    #[must_use]
    pub fn may_propose(&self, finding: &Finding) -> bool {
        let is_known = |statement: &Statement| {
            let Statement::Ddl(ddl) = statement else { return false };
            matches!(ddl.change, Change::AlterRoutine(..) | Change::Guard)
        };
        self.is_wanted(finding) && finding.fix.statements().iter().any(|s| !is_known(s))
    }

    /// Returns the fixes that differ from those of the findings, by fingerprint. `before` are the
    /// findings in the catalog.
    #[must_use]
    pub fn restated(&self, snapshot: &Snapshot, before: &[Finding]) -> HashMap<String, Fix> {
        let before: Vec<Rc<Finding>> = before.iter().cloned().map(Rc::new).collect();
        let search = Search::choose(self, snapshot, &before);
        let kept = kept(&search.chosen);
        if search.rejected.is_empty() && kept.is_empty() {
            return HashMap::new();
        }
        let why: HashMap<String, &str> =
            search.rejected.iter().map(|r| (r.statement.to_string(), r.why.as_str())).collect();
        let wanted = before.iter().filter(|finding| self.is_wanted(finding));
        let restated = |finding: &Rc<Finding>| {
            let kept = kept.get(finding.fingerprint.as_str()).map_or(&[][..], Vec::as_slice);
            let sql = Parts::of(finding, kept, &why).sql()?;
            Some((finding.fingerprint.clone(), Fix::Restated(sql)))
        };
        wanted.filter_map(restated).collect()
    }
}

/// Returns the grants that keep something, by the finding for which they were chosen.
fn kept(chosen: &[Wanted]) -> HashMap<&str, Vec<&Statement>> {
    let mut kept: HashMap<&str, Vec<&Statement>> = HashMap::new();
    for wanted in chosen.iter().filter(|wanted| keeps(&wanted.statement)) {
        for finding in &wanted.findings {
            if !finding.fix.statements().contains(&wanted.statement) {
                kept.entry(&finding.fingerprint).or_default().push(&wanted.statement);
            }
        }
    }
    kept
}

fn keeps(statement: &Statement) -> bool {
    matches!(statement, Statement::Acl(acl) if acl.verb == Verb::Keep)
}

/// The statements of a fix.
struct Parts<'a> {
    finding: &'a Finding,
    /// Whether the plan adds statements.
    is_longer: bool,
    /// Those that the plan can contain.
    steps: Vec<Statement>,
    /// Those that it only proposes.
    proposed: Vec<Statement>,
    /// Why it does.
    why: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Divides the fix of a finding by the rejected statements. `kept` are the grants that the
    /// plan adds to it.
    fn of(finding: &'a Finding, kept: &[&Statement], rejected: &HashMap<String, &'a str>) -> Self {
        let steps: Vec<Statement> = kept.iter().copied().cloned().collect();
        let mut all =
            Self { finding, is_longer: !steps.is_empty(), steps, proposed: vec![], why: None };
        for statement in finding.fix.statements() {
            if !rejected.contains_key(&statement.to_string()) {
                all.steps.push(statement.clone());
                continue;
            }
            let parts = match statement {
                Statement::Acl(acl) => acl.parts().into_iter().map(Statement::Acl).collect(),
                Statement::Ddl(_) => vec![],
            };
            let parts = if parts.is_empty() { vec![statement.clone()] } else { parts };
            for part in parts {
                match rejected.get(&part.to_string()) {
                    Some(why) => {
                        all.why = all.why.or(Some(*why));
                        all.proposed.push(part);
                    }
                    None => all.steps.push(part),
                }
            }
        }
        all
    }

    /// Returns the fix; `None` where it is that of the finding.
    fn sql(self) -> Option<String> {
        let Self { finding, is_longer, steps, proposed, why } = self;
        // What keeps a privilege is of no use without the REVOKE.
        if why.is_some() && steps.iter().all(keeps) {
            return Some(Step::proposal(finding, why).statement);
        }
        let mut lines: Vec<String> = merged(steps).iter().map(ToString::to_string).collect();
        if why.is_some() {
            let proposed = Finding { fix: Fix::Statements(merged(proposed)), ..finding.clone() };
            lines.push(Step::proposal(&proposed, why).statement);
        }
        (is_longer || why.is_some()).then(|| lines.join("\n"))
    }
}

/// Returns the statements, of which those about the privileges of one role on one object are one.
fn merged(statements: Vec<Statement>) -> Vec<Statement> {
    let wanted = |statement| Wanted { statement, findings: vec![] };
    let wanted: Vec<Wanted> = statements.into_iter().map(wanted).collect();
    in_order(&wanted).into_iter().map(|wanted| wanted.statement).collect()
}
