//! `dragonfly-guard plan`: the statements after which a database conforms to its contract, as a
//! file for psql, and the statements that revert them.

use super::audit::time;
use crate::contract_file;
use crate::failure::{Failure, note};
use crate::filter::{FilterArgs, Verdict, check_schemas};
use crate::output::write;
use crate::progress::Progress;
use crate::source::SourceArgs;
use clap::Args;
use dragonfly_core::access::Access;
use dragonfly_core::audit::{Audit, Filter};
use dragonfly_core::catalog::{BOOTSTRAP_SUPERUSER, Oid, Snapshot};
use dragonfly_core::contract::Severity;
use dragonfly_core::finding::Finding;
use dragonfly_core::orientation::Orientation;
use dragonfly_core::plan::{Plan, Planner, Step};
use dragonfly_core::rules::{Context, RULES, Tool};
use dragonfly_core::sql::printable;
use dragonfly_core::sql::similar::did_you_mean;
use dragonfly_reader::audit::with_audit;
use std::path::PathBuf;
use std::rc::Rc;

/// The arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Contract that the database shall conform to (required)
    #[arg(short, long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Write the plan to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the statements that revert the plan to this file
    #[arg(long, value_name = "FILE")]
    undo: Option<PathBuf>,
    /// Role that will execute the plan [default: a superuser]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What the head of a file says.
struct About {
    database: String,
    contract: String,
    at: String,
    role: Option<String>,
}

impl PlanArgs {
    /// Writes the plan.
    pub fn run(&self) -> Result<Verdict, Failure> {
        if self.undo.is_some() && self.undo == self.output {
            return Err(Failure::new("plan and undo cannot be the same file"));
        }
        let contract = contract_file::given(self.contract.as_deref())?.contract;
        let filter = self.filter.filter(Severity::Info)?;
        let data = self.source.read()?;
        Progress::step("searching the statements");
        let (plan, about) = with_audit(&data, &contract, Tool::Program, |audit| {
            let snapshot = audit.cx.snapshot;
            check_schemas(&filter, &contract, snapshot)?;
            let about = About {
                database: printable(&snapshot.database.name).into_owned(),
                contract: format!("{} {}", printable(&contract.name), contract.version),
                at: time(&data),
                role: self.role.clone(),
            };
            Ok((plan(&audit, &filter, self.runner(snapshot)?), about))
        })?;
        write(self.output.as_deref(), &script(&plan, &about))?;
        if let Some(file) = &self.undo {
            write(Some(file), &undo(&plan, &about))?;
        }
        let proposals = plan.steps.iter().filter(|step| step.is_proposal()).count();
        note(&format!(
            "{} and {} that a person decides",
            counted(plan.steps.len() - proposals, "statement"),
            counted(proposals, "proposal")
        ));
        Ok(Verdict::Clean)
    }

    /// Returns the role that will execute the plan.
    fn runner(&self, snapshot: &Snapshot) -> Result<Oid, Failure> {
        let Some(name) = &self.role else { return Ok(BOOTSTRAP_SUPERUSER) };
        let found = snapshot.roles.iter().find(|role| role.name == *name);
        found.map(|role| role.oid).ok_or_else(|| {
            let failure = Failure::new(format!("role \"{}\" does not exist", printable(name)));
            let known = snapshot.roles.iter().map(|role| role.name.as_str());
            failure.meant(did_you_mean(name, known))
        })
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn plan(audit: &Audit<'_>, filter: &Filter, runner: Oid) -> Plan {
    let cx = audit.cx;
    let visible_in = |snapshot: &Snapshot| {
        let access = Access::new(snapshot);
        let cx = Context::new(cx.contract, snapshot, &access, audit.interrupts);
        Audit { cx: &cx, ..*audit }.visible(&RULES, false)
    };
    let planner = Planner {
        contract: cx.contract,
        audit: &visible_in,
        wants: &|finding| filter.wants(finding),
        policy_sql: &|_| None,
        code: audit.code,
        runner,
        interrupts: audit.interrupts,
    };
    let before: Vec<Rc<Finding>> = visible_in(cx.snapshot).into_iter().map(Rc::new).collect();
    planner.plan_with(Orientation::of(cx).as_ref(), cx.snapshot, &before)
}

/// Returns the plan as a file for psql: the statements in one transaction, then the proposals.
fn script(plan: &Plan, about: &About) -> String {
    let (proposals, statements): (Vec<&Step>, Vec<&Step>) =
        plan.steps.iter().partition(|step| step.is_proposal());
    let role = match &about.role {
        Some(role) => format!("role \"{}\"", printable(role)),
        None => "a superuser".to_owned(),
    };
    let mut text = head("Brings the database into its contract", about);
    text.push_str(&format!(
        "-- For {role}. Read it first, then: psql -X -f FILE DATABASE\n\
         -- It is executed as a whole or not at all, and can be executed again.\n"
    ));
    if statements.is_empty() {
        text.push_str("\n-- There is nothing to execute.\n");
    } else {
        text.push_str(BEGIN);
        for (step, number) in statements.iter().zip(1..) {
            text.push_str(&format!("\n-- {number}. {}\n", title(step)));
            step.why.iter().for_each(|why| text.push_str(&comment("Why: ", why)));
            text.push_str(&comment("Risk: ", &step.risk));
            if step.undo.is_none() {
                text.push_str(&comment("Undo: ", NO_UNDO));
            }
            text.push_str(&format!("{}\n", step.statement));
        }
        text.push_str(END);
    }
    if !proposals.is_empty() {
        text.push_str("\n-- What a person decides:\n");
    }
    for step in proposals {
        text.push_str(&format!("\n-- {}\n", title(step)));
        step.why.iter().for_each(|why| text.push_str(&comment("Why: ", why)));
        text.push_str(&comment("Decision: ", &step.risk));
        text.push_str(&format!("{}\n", step.statement));
    }
    text
}

/// Returns the statements that revert a plan, the last one first.
fn undo(plan: &Plan, about: &About) -> String {
    let mut text = head("Reverts the plan", about);
    text.push_str("-- It opens again what the plan has closed.\n");
    text.push_str(BEGIN);
    let statements = plan.steps.iter().filter(|step| !step.is_proposal());
    let numbered: Vec<(&Step, usize)> = statements.zip(1..).collect();
    for (step, number) in numbered.into_iter().rev() {
        text.push_str(&format!("\n-- {number}. {}\n", title(step)));
        if let Some(undo) = &step.undo {
            text.push_str(&format!("{undo}\n"));
        } else {
            text.push_str(&comment("", NO_UNDO));
            text.push_str(&comment("Executed: ", &step.statement));
        }
    }
    text.push_str(END);
    text
}

/// What the files say where a statement has no undo: a snapshot has no text of conditions.
const NO_UNDO: &str = "none in the undo file; pg_dump --schema-only keeps the definition.";

/// How both files begin. What follows is in UTF-8, whatever the encoding of the database.
const BEGIN: &str = r"
\set ON_ERROR_STOP on
\encoding UTF8
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
";
const END: &str = "\nCOMMIT;\n";

fn head(what: &str, about: &About) -> String {
    let About { database, contract, at, .. } = about;
    format!(
        "-- {what}: database {database}, contract {contract}.\n\
         -- Written by dragonfly-guard {} for the catalogs as of {at}.\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn title(step: &Step) -> String {
    let rules: Vec<&str> = step.rules.iter().map(|rule| rule.id).collect();
    format!("{}: {}", printable(&step.object), rules.join(", "))
}

/// Returns a text as lines of a comment.
fn comment(label: &str, text: &str) -> String {
    let options = textwrap::Options::new(97).initial_indent(label).subsequent_indent("  ");
    let lines = text.lines().flat_map(|line| textwrap::wrap(line, &options));
    lines.map(|line| format!("-- {}\n", line.replace('\r', " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_comment_stays_in_it() {
        let text = comment("Why: ", "a\nDROP TABLE t;\r\n\\! id");
        assert!(text.lines().all(|line| line.starts_with("-- ")), "{text}");
    }
}
