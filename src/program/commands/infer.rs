//! `dragonfly-guard infer`: a first contract from what a database permits now.

use crate::failure::{Failure, note};
use crate::filter::{Verdict, counts};
use crate::output::write;
use crate::progress::Progress;
use crate::source::SourceArgs;
use clap::{Args, ValueEnum};
use dragonfly_core::access::Access;
use dragonfly_core::audit::{Audit, Filter, Fixes};
use dragonfly_core::catalog::{Schema, Snapshot, owner_of_reserved_schema};
use dragonfly_core::contract::{self, Contract, DEFAULT};
use dragonfly_core::infer::{self, Inferred, LeftOut, ToConfirm};
use dragonfly_core::rules::{Context, Tool};
use dragonfly_core::sql::printable;
use dragonfly_core::sql::similar::did_you_mean;
use dragonfly_reader::audit::with_audit;
use dragonfly_reader::data::Data;
use dragonfly_reader::declared::each_outcome;
use dragonfly_reader::extension::Own;
use dragonfly_reader::objects::relation_named;
use dragonfly_reader::snapshot::{add_reach, base, objects_of, with_parts};
use std::path::PathBuf;

/// The arguments of `infer`.
#[derive(Debug, Args)]
pub struct InferArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Schema to govern; may be repeated [default: all of the application]
    #[arg(long = "schema", value_name = "NAME")]
    schemas: Vec<String>,
    /// How much of what exists is declared
    #[arg(long, value_enum, default_value_t = Mode::Strict)]
    mode: Mode,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Not what is probably not intended, which the audit then reports
    Strict,
    /// Everything, except for what no contract should declare
    AsIs,
}

impl Mode {
    fn of_core(self) -> infer::Mode {
        match self {
            Self::Strict => infer::Mode::Strict,
            Self::AsIs => infer::Mode::AsIs,
        }
    }
}

/// The version of a first contract.
const VERSION: &str = "1.0.0";

impl InferArgs {
    /// Writes the contract.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let data = self.source.read()?;
        let contract = self.inferred(&data)?;
        Progress::step("applying the rules");
        let find = |audit: Audit<'_>| audit.findings(&Filter::all(), Fixes::OfRules);
        let left = with_audit(&data, &contract, Tool::Program, find);
        write(self.output.as_deref(), &contract::write(&contract))?;
        note(&format!("an audit under this contract has {}", counts(&left)));
        note(
            "access is left out that fails by the catalogs; what triggers, rules and indexes need \
             is not followed: where the extension is installed, ops.infer_contract() asks the \
             server",
        );
        Ok(Verdict::Clean)
    }

    fn inferred(&self, data: &Data) -> Result<Contract, Failure> {
        let mode = self.mode.of_core();
        let shipped = Contract::from_json(DEFAULT).map_err(|error| {
            Failure::new("the shipped contract is not valid").detail(error.to_string())
        })?;
        Progress::step("reading the catalogs");
        let present = base(data).complete();
        let exists = |schema: &Schema, name: &str| relation_named(data, schema.oid, name).is_some();
        let base = infer::with_preset(&shipped, &present, &exists);
        let seed = infer::seed(&base, &self.governed(&base, &present)?);
        let own = Own::complete(data);
        let mut snapshot = with_parts(data, objects_of(data, &seed, own.as_ref()));
        // Which roles are clients is inferred first: what these reach is read.
        let mut with_roles = seed.clone();
        {
            let access = Access::new(&snapshot);
            let cx = Context::new(&seed, &snapshot, &access, &|| {});
            with_roles.roles = infer::roles(&cx, mode);
            infer::roles_to_confirm(&cx, mode).iter().for_each(say_kind);
        }
        add_reach(data, &with_roles, &mut snapshot);
        let access = Access::new(&snapshot);
        let cx = Context::new(&seed, &snapshot, &access, &|| {});
        let works = |cx: &Context<'_>, accesses, answer: &mut infer::Answer<'_>| {
            each_outcome(cx, data, accesses, answer);
        };
        let Inferred { contract, left_out } = infer::infer(&cx, VERSION, mode, &works);
        say_left_out(&left_out);
        Ok(contract)
    }

    /// Returns the schemas that the contract will govern.
    fn governed(&self, base: &Contract, present: &Snapshot) -> Result<Vec<String>, Failure> {
        if self.schemas.is_empty() {
            let schemas = infer::schemas_of_application(base, present);
            if schemas.is_empty() {
                return Err(
                    Failure::new("there is no schema to describe").hint("Name it: --schema NAME.")
                );
            }
            return Ok(schemas);
        }
        for name in &self.schemas {
            let shown = printable(name);
            if let Some(owner) = owner_of_reserved_schema(name) {
                return Err(Failure::new(format!("schema \"{shown}\" belongs to {owner}"))
                    .hint("Name the schemas of the application."));
            }
            if present.schema_named(name).is_none() {
                let failure = Failure::new(format!("schema \"{shown}\" does not exist"));
                let known = present.schemas.iter().map(|schema| schema.name.as_str());
                return Err(failure.meant(did_you_mean(name, known)));
            }
        }
        let mut schemas = self.schemas.clone();
        schemas.sort();
        schemas.dedup();
        Ok(schemas)
    }
}

fn say_left_out(left_out: &[LeftOut]) {
    if !left_out.is_empty() {
        Failure::new(LeftOut::message(left_out))
            .detail(LeftOut::lines(left_out))
            .hint(
                "dragonfly-guard explain ROLE OBJECT --privilege PRIVILEGE shows what is missing. \
                 Grant that first if the access is intended.",
            )
            .warn();
    }
}

fn say_kind(ToConfirm { role, kind, why }: &ToConfirm) {
    note(&format!(
        "role \"{}\" is declared as {}: it {why}; confirm it",
        printable(role),
        kind.as_str()
    ));
}
