//! The execution of a plan, and the checks of its result: what it should fix, new errors, access
//! that opens, and declared access that worked before. A failure names the step that causes it.

use crate::access::Probe;
use crate::access::declared::{self, LockTimeout};
use crate::audit;
use crate::catalog;
use crate::guard;
use crate::pg::heap::{State, interrupts};
use crate::pg::report::Report;
use crate::pg::{progress, setting, statement, subtransaction};
use crate::store::Installation;
use dragonfly_core::catalog::{ObjectId, Snapshot};
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::doctor::{AccessName, AccessOutcome, Outcome, declared_accesses};
use dragonfly_core::finding::{Finding, Subject};
use dragonfly_core::plan::effects::{self, Effect};
use dragonfly_core::plan::{Plan, Step};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::printable;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CStr;
use std::rc::Rc;

/// The execution of some steps of a plan.
pub struct Execution<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The positions of the steps to execute, in their order; none of them is a proposal.
    pub steps: &'a [usize],
    /// The findings before.
    pub before: &'a [Rc<Finding>],
    /// The catalog before.
    pub snapshot: &'a Snapshot,
}

/// Why the result of a plan is rejected. Each is a list of at least one.
enum Failure {
    /// Roles can do more, which the contract does not declare.
    Opened(Vec<Effect>),
    /// Roles have lost privileges that the contract declares, or that bodies use.
    Lost(Vec<Effect>),
    /// Declared access that worked fails, with the server's message.
    Broken(Denied),
    /// Views and bodies that were valid are not, with the server's message.
    Invalid(Invalid),
    /// Findings that are not fixed, or that are new.
    Findings(Vec<Left>),
}

/// A finding after the plan that should not be there.
struct Left {
    finding: Finding,
    /// The step that should have fixed it; `None` where the finding is new.
    step: Option<usize>,
}

/// Where the execution is.
#[derive(Clone, Copy)]
enum At {
    /// This step is executed.
    Step(usize),
    /// All steps have been executed.
    End,
}

impl Execution<'_> {
    /// Executes the steps and checks the result. Where a check fails, raises an error that names
    /// the step, so that everything is rolled back. Returns the fingerprints of the findings below
    /// severity `error` that the steps should fix and that are still there: the server executes
    /// some statements without effect and raises a warning only.
    pub fn run(&self, dry_run: bool) -> HashSet<String> {
        let at = Cell::new(At::End);
        let contract = Installation::now().contract;
        progress::step("checking which access works before");
        let worked = self.working();
        // SAFETY: reads the current command; `true` so that the command counts as used.
        let first = unsafe { pg_sys::GetCurrentCommandId(true) };
        let work = || {
            progress::step("executing the statements");
            self.execute(self.steps.len(), &at);
            at.set(At::End);
            progress::step("checking the result");
            guard::check_as_if_committing();
            self.check(&contract, &worked, first)
        };
        match subtransaction::kept_if(work, |result| result.is_ok() && !dry_run) {
            Ok(Ok(left)) => left,
            Ok(Err(failure)) => self.report(&failure, &contract),
            Err(error) => self.report_error(at.get(), *error),
        }
    }

    fn step(&self, position: usize) -> &Step {
        &self.plan.steps[position]
    }

    /// Executes the first steps.
    fn execute(&self, count: usize, at: &Cell<At>) {
        // Only the result of the whole plan counts: a step may depend on a later one.
        progress::parts(count);
        setting::under(&[setting::SAFE_PATH, (c"dragonfly_guard.check_at", c"commit")], || {
            for position in &self.steps[..count] {
                interrupts();
                progress::part_done();
                at.set(At::Step(*position));
                if let Err(rejected) = statement::run(&self.step(*position).statement) {
                    Report {
                        message: format!(
                            "statement cannot be executed in a function: {}",
                            rejected.code()
                        ),
                        ..Report::default()
                    }
                    .error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED);
                }
            }
        });
    }

    /// Checks the result of all steps.
    ///
    /// # Errors
    /// The first check that fails.
    fn check(
        &self,
        contract: &Contract,
        worked: &Working,
        first: pg_sys::CommandId,
    ) -> Result<HashSet<String>, Failure> {
        let after = snapshot(contract, &State::now());
        let mut opened = effects::opened(contract, self.snapshot, &after, &interrupts);
        if !opened.is_empty() {
            // What other transactions have committed meanwhile does not count.
            let before = snapshot(contract, &State::before(first));
            opened = effects::opened(contract, &before, &after, &interrupts);
        }
        let some = |found: Vec<Effect>| Some(found).filter(|found| !found.is_empty());
        if let Some(opened) = some(opened) {
            return Err(Failure::Opened(opened));
        }
        let lost = self.lost(contract, &after);
        if let Some(lost) = some(lost) {
            return Err(Failure::Lost(lost));
        }
        let (broken, invalid) = broken(worked);
        if !broken.is_empty() {
            return Err(Failure::Broken(broken));
        }
        if !invalid.is_empty() {
            return Err(Failure::Invalid(invalid));
        }
        self.check_findings()
    }

    /// Returns what works at present, of what the contract declares: accesses, views, and the
    /// bodies that run because of it.
    fn working(&self) -> Working {
        let works = |outcome: &AccessOutcome| *outcome == AccessOutcome::Works;
        audit::with_context(|cx| {
            let state = State::now();
            let accesses = declared::outcomes_by_name(cx, &state).into_iter();
            let probe = Probe::new(cx, &state);
            let objects = checked_objects(cx)
                .chain(self.plan.uses.bodies.iter().map(|oid| ObjectId::Routine(*oid)));
            let is_valid = |object: &ObjectId| {
                interrupts();
                probe.object(*object) == Some(Outcome::Works)
            };
            Working {
                accesses: accesses.filter(|(_, o)| works(o)).map(|(access, _)| access).collect(),
                valid: objects.collect::<BTreeSet<_>>().into_iter().filter(is_valid).collect(),
            }
        })
    }

    /// Returns the privileges that roles have lost: declared ones, and those that bodies use.
    fn lost(&self, contract: &Contract, after: &Snapshot) -> Vec<Effect> {
        let mut lost = effects::lost(contract, self.snapshot, after, &interrupts);
        lost.extend(audit::in_context(contract, after, |cx| self.plan.uses.lost(cx)));
        lost
    }

    /// Checks that no finding of severity `error` is new, or is still there although the steps
    /// should have fixed it.
    fn check_findings(&self) -> Result<HashSet<String>, Failure> {
        let after = audit::findings_now();
        let known: HashSet<_> = self.before.iter().flat_map(|f| f.about()).collect();
        let earlier: HashSet<&str> = self.before.iter().map(|f| f.fingerprint.as_str()).collect();
        let expected = self.expected();
        // The findings that the steps should fix and that this one is: the finding itself, or,
        // where a part of it was fixed, those about the same subject.
        let promised = |f: &Finding| -> Vec<&str> {
            if let Some((known, _)) = expected.get_key_value(f.fingerprint.as_str()) {
                vec![*known]
            } else if earlier.contains(f.fingerprint.as_str()) {
                vec![]
            } else {
                let about = f.subjects().filter_map(|subject| self.plan.about.get(&subject));
                about
                    .flatten()
                    .map(String::as_str)
                    .filter(|known| expected.contains_key(known))
                    .collect()
            }
        };
        let wrong: Vec<Left> = after
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .filter_map(|f| {
                match (promised(f).first(), f.about().all(|about| known.contains(&about))) {
                    (Some(known), _) => {
                        Some(Left { finding: f.clone(), step: Some(expected[known]) })
                    }
                    (None, false) => Some(Left { finding: f.clone(), step: None }),
                    (None, true) => None,
                }
            })
            .collect();
        if wrong.is_empty() {
            Ok(after.iter().flat_map(promised).map(str::to_owned).collect())
        } else {
            Err(Failure::Findings(wrong))
        }
    }

    /// Returns the findings that the executed steps should fix, with the last of the steps: those
    /// of which no step is left out.
    fn expected(&self) -> HashMap<&str, usize> {
        let executed: HashSet<usize> = self.steps.iter().copied().collect();
        let mut expected: HashMap<&str, usize> = HashMap::new();
        let mut left_out: HashSet<&str> = HashSet::new();
        for (position, step) in self.plan.steps.iter().enumerate() {
            for finding in step.findings.iter().filter(|f| self.plan.fixes.contains(*f)) {
                if executed.contains(&position) {
                    expected.insert(finding, position);
                } else if !step.is_proposal() {
                    left_out.insert(finding);
                }
            }
        }
        expected.retain(|finding, _| !left_out.contains(finding));
        expected
    }

    /// Returns the step after which something is there that is not there after the steps before it:
    /// executes the first half of the steps, and so on. `is_there` is true after all steps.
    fn cause(&self, is_there: &dyn Fn() -> bool) -> usize {
        let (mut absent, mut present) = (0, self.steps.len());
        while present - absent > 1 {
            let middle = absent.midpoint(present);
            let quiet = [(c"client_min_messages", c"error")];
            let work = || {
                setting::under(&quiet, || {
                    self.execute(middle, &Cell::new(At::End));
                    is_there()
                })
            };
            match subtransaction::rolled_back(work) {
                Ok(true) => present = middle,
                Ok(false) | Err(_) => absent = middle,
            }
        }
        self.steps[present - 1]
    }

    /// Raises the error about a result that is rejected.
    fn report(&self, failure: &Failure, contract: &Contract) -> ! {
        let effect = |found: &dyn Fn(&Snapshot) -> Vec<Effect>, wanted: &Effect| {
            self.cause(&|| found(&snapshot(contract, &State::now())).contains(wanted))
        };
        match failure {
            Failure::Opened(opened) => {
                let found =
                    |after: &Snapshot| effects::opened(contract, self.snapshot, after, &interrupts);
                self.reject(
                    effect(&found, &opened[0]),
                    "would open what the contract does not declare",
                    effects::described(opened),
                )
            }
            Failure::Lost(lost) => {
                let found = |after: &Snapshot| self.lost(contract, after);
                self.reject(
                    effect(&found, &lost[0]),
                    "would end access that the contract declares",
                    effects::described(lost),
                )
            }
            Failure::Broken(broken) => {
                let (access, _) = &broken[0];
                self.reject(
                    self.cause(&|| is_denied(access)),
                    "would end access that the contract declares",
                    described(broken),
                )
            }
            Failure::Invalid(invalid) => {
                let (object, _) = invalid[0];
                self.reject(
                    self.cause(&|| !invalid_among(&[object]).is_empty()),
                    "would break what the contract declares",
                    first_lines(invalid.iter().map(|(_, line)| line.clone()).collect()),
                )
            }
            Failure::Findings(left) => self.reject_findings(left),
        }
    }

    /// Raises the error about one step. `problem` follows the step in the message.
    fn reject(&self, position: usize, problem: &str, detail: String) -> ! {
        let statement = printable(&self.step(position).statement.replace('\n', " ")).into_owned();
        Report {
            message: format!("step {} of the plan {problem}", position + 1),
            detail: format!("{statement}\n{detail}"),
            hint: self.hint_without(position),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE)
    }

    fn reject_findings(&self, left: &[Left]) -> ! {
        const SHOWN: usize = 10;
        let line = |left: &Left| {
            let Left { finding, step } = left;
            let (rule, detail) = (finding.rule.id, &finding.detail);
            if let Some(position) = step {
                return format!("Not resolved by step {}: {rule}: {detail}", position + 1);
            }
            let known: HashSet<Subject> = self.before.iter().flat_map(|f| f.subjects()).collect();
            let subjects: Vec<Subject> =
                finding.subjects().filter(|subject| !known.contains(subject)).collect();
            let is_there = || {
                let found = audit::findings_now();
                found.iter().flat_map(Finding::subjects).any(|s| subjects.contains(&s))
            };
            format!("New after step {}: {rule}: {detail}", self.cause(&is_there) + 1)
        };
        let mut lines: Vec<String> = left.iter().take(SHOWN).map(line).collect();
        if left.len() > SHOWN {
            lines.push(format!("And {} more.", left.len() - SHOWN));
        }
        Report {
            message: "the plan did not resolve all findings".into(),
            detail: lines.join("\n"),
            hint: format!(
                "All changes were rolled back. ops.apply_golden_sql(steps => ...) executes some \
                 of the steps only.{}",
                grantor_hint()
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE)
    }

    /// Tells how to execute the other steps.
    fn hint_without(&self, position: usize) -> String {
        const SHOWN: usize = 40;
        let others: Vec<String> = self
            .steps
            .iter()
            .filter(|step| **step != position)
            .map(|step| (step + 1).to_string())
            .collect();
        match others.len() {
            0 => "All changes were rolled back.".into(),
            1..=SHOWN => format!(
                "All changes were rolled back. To execute the others: SELECT * FROM \
                 ops.apply_golden_sql(steps => '{{{}}}'), with the same filters.",
                others.join(",")
            ),
            _ => "All changes were rolled back. ops.apply_golden_sql(steps => ...) executes the \
                  other steps only."
                .into(),
        }
    }

    /// Raises an error of the execution again with the step that it belongs to.
    fn report_error(&self, at: At, error: CaughtError) -> ! {
        let report = subtransaction::report(&error);
        let (position, is_at_end) = match at {
            At::Step(position) => (position, false),
            At::End => {
                // The guard rejects the result of all steps.
                let message = report.message().to_owned();
                let is_same = || {
                    let check = || setting::under(&[QUIET], guard::check_as_if_committing);
                    subtransaction::rolled_back(check)
                        .is_err_and(|error| subtransaction::report(&error).message() == message)
                };
                (self.cause(&is_same), true)
            }
        };
        let original =
            [report.detail(), report.hint()].into_iter().flatten().collect::<Vec<_>>().join("\n");
        let statement = printable(&self.step(position).statement.replace('\n', " ")).into_owned();
        let verb = if is_at_end { "is rejected" } else { "failed" };
        let failure = Report {
            message: format!("step {} of the plan {verb}: {}", position + 1, report.message()),
            detail: format!("{statement}\n{original}").trim_end().to_owned(),
            hint: self.hint_without(position),
        };
        // An error that the guard raised is still recognized as one.
        match guard::Rejection::of(&error) {
            Some(rejection) => failure.error_from(rejection.origin(), report.sql_error_code()),
            None => failure.error(report.sql_error_code()),
        }
    }
}

/// The setting with which a repeated check sends nothing to the client.
const QUIET: (&CStr, &CStr) = (c"client_min_messages", c"error");

fn snapshot(contract: &Contract, state: &State) -> Snapshot {
    catalog::full(state, contract, &catalog::find_own(state))
}

/// Declared accesses that fail, with the server's message.
type Denied = Vec<(AccessName, String)>;

/// Views and routines that are not valid, each with a sentence about it.
type Invalid = Vec<(ObjectId, String)>;

/// What works before a plan.
struct Working {
    /// The declared accesses.
    accesses: HashSet<AccessName>,
    /// The views and the routines that are valid.
    valid: Vec<ObjectId>,
}

/// Returns the views and routines that the contract names.
fn checked_objects<'c>(cx: &'c Context<'_>) -> impl Iterator<Item = ObjectId> + 'c {
    let views = cx.relations().filter(|(relation, _)| cx.declares_relation(relation));
    let routines = cx.routines().filter(|(routine, schema)| {
        cx.contract.functions_named(&schema.name, &routine.name).next().is_some()
    });
    views
        .map(|(relation, _)| ObjectId::Relation(relation.oid))
        .chain(routines.map(|(routine, _)| ObjectId::Routine(routine.oid)))
}

/// Returns what worked and does not work at present, with the server's messages: declared accesses,
/// and views and bodies.
fn broken(worked: &Working) -> (Denied, Invalid) {
    audit::with_context(|cx| {
        let state = State::now();
        let denial = |(access, outcome)| match outcome {
            AccessOutcome::Denied(denial) => Some((access, denial.message)),
            AccessOutcome::Works | AccessOutcome::Unchecked(_) => None,
        };
        let denied = declared::outcomes_by_name(cx, &state).into_iter().filter_map(denial);
        let broken = denied.filter(|(access, _)| worked.accesses.contains(access)).collect();
        (broken, invalid_in(cx, &state, &worked.valid))
    })
}

/// Returns those of some views and routines that are not valid at present, with the server's
/// message.
fn invalid_among(objects: &[ObjectId]) -> Invalid {
    audit::with_context(|cx| invalid_in(cx, &State::now(), objects))
}

fn invalid_in(cx: &Context<'_>, state: &State, objects: &[ObjectId]) -> Invalid {
    let probe = Probe::new(cx, state);
    let failure = |object: &ObjectId| {
        interrupts();
        match probe.object(*object)? {
            Outcome::Fails(why) => Some((*object, described_object(cx, *object, &why))),
            Outcome::Works | Outcome::Unchecked(_) => None,
        }
    };
    objects.iter().filter_map(failure).collect()
}

/// Describes a view or routine that is not valid any more.
fn described_object(cx: &Context<'_>, object: ObjectId, why: &str) -> String {
    let why = printable(why);
    match object {
        ObjectId::Routine(oid) => {
            let name = cx.snapshot.routine(oid).map_or_else(String::new, |r| {
                format!("{} {}", r.object_type(), cx.snapshot.routine_message(r))
            });
            format!("The body of {name} was valid before: {why}.")
        }
        ObjectId::Relation(oid) => {
            let name = cx.snapshot.relation(oid).map_or_else(String::new, |r| {
                format!("{} {}", r.kind.object_type(), cx.snapshot.relation_identity(r))
            });
            format!("The {name} could be read before: {why}.")
        }
        _ => why.into_owned(),
    }
}

/// Whether the server denies one declared access at present.
fn is_denied(wanted: &AccessName) -> bool {
    audit::with_context(|cx| {
        let mut accesses = declared_accesses(cx);
        accesses.retain(|access| access.name(cx.snapshot).as_ref() == Some(wanted));
        let timeout = LockTimeout::default();
        declared::outcomes(cx, &State::now(), accesses, &timeout)
            .iter()
            .any(|(_, outcome)| matches!(outcome, AccessOutcome::Denied(_)))
    })
}

/// Describes declared accesses that fail.
fn described(broken: &[(AccessName, String)]) -> String {
    let line = |(access, why): &(AccessName, String)| {
        let AccessName { role, object, privilege } = access;
        format!(
            "Role \"{}\" had working {privilege} on {} before: {}.",
            printable(role),
            printable(object),
            printable(why)
        )
    };
    first_lines(broken.iter().map(line).collect())
}

/// Returns some lines, and how many more there are.
fn first_lines(mut lines: Vec<String>) -> String {
    const SHOWN: usize = 5;
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("And {more} more."));
    }
    lines.join("\n")
}

/// Explains why a GRANT or REVOKE may have had no effect: the server selects the grantor from the
/// roles that the caller is a member of (acl.c, `select_best_grantor`).
fn grantor_hint() -> &'static str {
    // SAFETY: a look-up in the system cache.
    if unsafe { pg_sys::superuser() } {
        ""
    } else {
        " For a role that is not a superuser, GRANT and REVOKE on objects of other roles use the \
         grantor that the server selects, or have no effect."
    }
}
