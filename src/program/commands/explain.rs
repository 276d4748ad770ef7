//! `dragonfly-guard explain`: why a role can access an object or cannot.

use crate::contract_file;
use crate::failure::{Failure, note};
use crate::filter::Verdict;
use crate::output::{is_terminal, write};
use crate::progress::Progress;
use crate::source::SourceArgs;
use crate::table::{framed, plain};
use clap::{Args, ValueEnum};
use dragonfly_core::contract::{Contract, Platform, Preset};
use dragonfly_core::explain::Link;
use dragonfly_core::rules::Tool;
use dragonfly_core::sql::printable;
use dragonfly_core::sql::similar::did_you_mean;
use dragonfly_reader::data::Data;
use dragonfly_reader::explain::{Answer, Asked, Unanswered, UnknownPrivilege, answer};
use dragonfly_reader::named::{UNQUALIFIED, Unnamed};
use dragonfly_reader::snapshot::base;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Role that accesses the object
    #[arg(value_name = "ROLE")]
    role: String,
    /// Schema, schema.name, schema.table.column, schema.table(column, ...) or
    /// schema.function(types)
    #[arg(value_name = "OBJECT")]
    object: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Privilege, such as INSERT [default: SELECT, EXECUTE or USAGE]
    #[arg(short = 'P', long, value_name = "PRIVILEGE")]
    privilege: Option<String>,
    /// Contract to compare the answer with
    #[arg(short, long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Role that requests log in as [default: that of the contract, or authenticator]
    #[arg(long, value_name = "ROLE")]
    authenticator: Option<String>,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table on a terminal; one line a step, with tabs, in a pipe
    Table,
    /// A JSON array
    Json,
}

/// A contract that declares nothing.
const NO_CONTRACT: &str = r#"{
    "name": "none", "version": "0.0.0", "roles": [], "schemas": [],
    "security_definer": {"search_path": ["pg_temp"]}
}"#;

/// What is not read from the catalogs.
const NOT_FOLLOWED: &str = "what triggers, rules, indexes and the texts of functions do is not \
                            followed, and what the planner removes is; where the extension is \
                            installed, ops.explain_access() asks the server";

impl ExplainArgs {
    /// Writes the links from the role to the object.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let given = self.contract.as_deref().map(|file| contract_file::given(Some(file)));
        let given = given.transpose()?;
        let data = self.source.read()?;
        let contract = match given {
            Some(given) => given.contract,
            None => without_contract(&data)?,
        };
        Progress::step("following the access");
        let asked = Asked {
            role: &self.role,
            object: &self.object,
            privilege: self.privilege.as_deref(),
            authenticator: self.authenticator.as_deref(),
        };
        let Answer { mut links, missing } =
            answer(&data, &contract, Tool::Program, asked).map_err(|why| failure(&why))?;
        if self.contract.is_none() {
            // The last one compares with the contract.
            links.pop();
        }
        let verdict = links.iter().find(|link| link.step == "verdict");
        let is_allowed = verdict.is_some_and(|link| link.ok == Some(true));
        write(self.output.as_deref(), &self.written(&links))?;
        if let Some(missing) = missing {
            return Err(Failure::new(format!("{missing} does not exist")));
        }
        if is_allowed {
            note(NOT_FOLLOWED);
        } else if self.contract.is_none() {
            note("whether the access is meant is not known: a contract says it (--contract FILE)");
        }
        Ok(if is_allowed { Verdict::Clean } else { Verdict::Findings })
    }

    fn written(&self, links: &[Link]) -> String {
        if self.format == Format::Json {
            let all: Vec<Value> = links.iter().map(as_json).collect();
            return format!("{:#}\n", Value::from(all));
        }
        if !is_terminal(self.output.as_deref()) {
            return plain(&links.iter().map(line).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = links.iter().map(narrow).collect();
        framed(&["ok", "step", "detail"], &rows)
    }
}

/// Returns a contract that declares nothing, on the platform of a database.
fn without_contract(data: &Data) -> Result<Contract, Failure> {
    let mut contract = Contract::from_json(NO_CONTRACT)
        .map_err(|error| Failure::new("there is no empty contract").detail(error.to_string()))?;
    let snapshot = base(data).complete();
    for platform in Platform::of(&snapshot) {
        let preset = Preset { roles: vec![], ..platform.preset() };
        preset.add_to(&mut contract, &snapshot);
    }
    Ok(contract)
}

fn failure(why: &Unanswered) -> Failure {
    match why {
        Unanswered::Unnamed(unnamed) => {
            let failure = Failure::new(unnamed.message()).hint(unnamed.hint());
            match unnamed {
                Unnamed::Unqualified { .. } => failure.detail(UNQUALIFIED),
                _ => failure,
            }
        }
        Unanswered::TooComplex => Failure::new("the access depends on too many objects").detail(
            "it leads to more than 2,000 relations and routines, or through more than 200 of \
                 them one after the other, or to an expression that is not known",
        ),
        Unanswered::Privilege(UnknownPrivilege { given, valid }) => {
            let failure = Failure::new(format!("unrecognized privilege \"{}\"", printable(given)));
            let meant = did_you_mean(&given.to_uppercase(), valid.iter().copied());
            failure.detail(format!("valid: {}", valid.join(", "))).meant(meant)
        }
    }
}

fn is_ok(link: &Link) -> &'static str {
    match link.ok {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    }
}

/// The longest line of a table for a terminal.
const WIDTH: usize = 72;

fn narrow(link: &Link) -> Vec<String> {
    let mut detail = textwrap::fill(&link.detail, WIDTH);
    if let Some(fix) = &link.fix {
        // A statement stays in one line, to be copied.
        detail.push_str(&format!("\n{fix}"));
    }
    vec![is_ok(link).to_owned(), textwrap::fill(&link.step, 40), detail]
}

fn line(link: &Link) -> Vec<String> {
    let fix = link.fix.clone().unwrap_or_default();
    vec![is_ok(link).to_owned(), link.step.clone(), link.detail.clone(), fix]
}

fn as_json(link: &Link) -> Value {
    json!({"step": link.step, "ok": link.ok, "detail": link.detail, "fix": link.fix})
}
