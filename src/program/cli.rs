//! The command line.

use crate::commands::audit::AuditArgs;
use crate::commands::completions::{CompletionsArgs, man};
use crate::commands::contract::ContractArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::infer::InferArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::rules::RulesArgs;
use crate::commands::snapshot::SnapshotArgs;
use crate::commands::validate::ValidateArgs;
use crate::failure::Failure;
use crate::filter::Verdict;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

/// Audits a PostgreSQL database against a security contract, from outside.
///
/// It reads the catalogs of PostgreSQL 13 to 18 in one read-only transaction. The role that
/// connects needs nothing but LOGIN and CONNECT; nothing is installed and nothing is changed.
#[derive(Debug, Parser)]
#[command(
    name = "dragonfly-guard",
    version,
    disable_help_flag = true,
    after_help = AFTER,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print help
    #[arg(short = '?', long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
}

const AFTER: &str = "\
Exit codes:
  0  nothing was found that counts
  1  findings of at least the severity of --fail-on (default: error), access that is denied
  2  the program could not judge: usage, connection, invalid contract or snapshot

Connections:
  As psql: options, a connection string or URI, PGHOST and the other variables of libpq, PGSERVICE
  and pg_service.conf, ~/.pgpass. sslmode is disable, prefer, require, verify-ca or verify-full.
  No option takes a password: use PGPASSWORD, ~/.pgpass or a service.

Examples:
  dragonfly-guard infer -d app -o contract.json
  dragonfly-guard audit -d app --contract contract.json
  dragonfly-guard audit postgresql://auditor@db.example.org/app?sslmode=verify-full \\
      -c contract.json --format sarif -o findings.sarif
  dragonfly-guard plan -d app -c contract.json -o plan.sql --undo undo.sql";

const AUDIT: &str = "\
Exit codes:
  0  no finding counts
  1  findings of at least the severity of --fail-on, neither exempt nor in the baseline
  2  the program could not judge

Examples:
  dragonfly-guard audit -h db.example.org -U auditor -d app --contract contract.json
  dragonfly-guard audit --snapshot app.json -c contract.json --format html -o report.html
  dragonfly-guard audit -d app -c contract.json --format jsonl -o baseline.jsonl --fail-on never
  dragonfly-guard audit -d app -c contract.json --baseline baseline.jsonl --fail-on warning

A file with exemptions:
  [{\"rule\": \"rls_disabled\", \"object\": \"public.countries\",
    \"reason\": \"the same for everyone\", \"expires_at\": \"2030-01-01\"},
   {\"fingerprint\": \"0f3c...\", \"reason\": \"until the worker is replaced\"}]";

const SNAPSHOT: &str = "\
Examples:
  dragonfly-guard snapshot -h db.example.org -U auditor app -o app.json
  PGSERVICE=app dragonfly-guard snapshot | gzip > app.json.gz";

const PLAN: &str = "\
The plan and the undo are files for psql. The program executes nothing.

Examples:
  dragonfly-guard plan -d app -c contract.json -o plan.sql --undo undo.sql
  dragonfly-guard plan --snapshot app.json -c contract.json --role postgres --schema public";

const DIFF: &str = "\
Exit code: 1 where NEW has findings that OLD has not, or that have changed; see --fail-on.

Examples:
  dragonfly-guard diff before.json after.json --contract contract.json
  dragonfly-guard diff service=staging service=production -c contract.json";

const EXPLAIN: &str = "\
Exit code: 0 where the access is allowed, 1 where it is denied or row security excludes every row of
the table, 2 where the question could not be answered, as where the role or the object does not
exist. A view over such a table is allowed: the answer says which rows it cannot read.

Examples:
  dragonfly-guard explain anon public.judgments -d app
  dragonfly-guard explain authenticated 'public.orders(id, note)' -P insert -d app
  dragonfly-guard explain anon 'api.close_case(bigint)' --snapshot app.json -c contract.json";

const INFER: &str = "\
Examples:
  dragonfly-guard infer -d app -o contract.json
  dragonfly-guard infer --snapshot app.json --schema public --schema api --mode as-is";

const VALIDATE: &str = "\
Exit code: 0 for a valid contract, 1 for one with errors (see --fail-on), 2 where it is not read.

Example:
  dragonfly-guard validate contract.json";

const RULES: &str = "\
Example:
  dragonfly-guard rules --format json";

/// What the program does.
#[derive(Debug, Subcommand)]
enum Command {
    /// List the differences between a database and its contract
    #[command(after_help = AUDIT)]
    Audit(AuditArgs),
    /// Write the statements that bring a database into its contract, and their undo
    #[command(after_help = PLAN)]
    Plan(PlanArgs),
    /// Draft a contract from what a database permits now
    #[command(after_help = INFER)]
    Infer(InferArgs),
    /// Write the catalogs of a database as JSON, for an audit elsewhere or later
    #[command(after_help = SNAPSHOT)]
    Snapshot(SnapshotArgs),
    /// Compare the findings of two databases or snapshots
    #[command(after_help = DIFF)]
    Diff(DiffArgs),
    /// Explain why a role can access an object or cannot
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArgs),
    /// List the problems of a contract
    #[command(after_help = VALIDATE)]
    Validate(ValidateArgs),
    /// Compare contracts
    Contract(ContractArgs),
    /// List the rules of an audit
    #[command(after_help = RULES)]
    Rules(RulesArgs),
    /// Write the completions for a shell
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Write the man page
    #[command(hide = true)]
    Man,
}

impl Cli {
    /// Runs the command.
    pub fn run(&self) -> Result<Verdict, Failure> {
        match &self.command {
            Command::Audit(args) => args.run(),
            Command::Plan(args) => args.run(),
            Command::Infer(args) => args.run(),
            Command::Snapshot(args) => args.run(),
            Command::Diff(args) => args.run(),
            Command::Explain(args) => args.run(),
            Command::Validate(args) => args.run(),
            Command::Contract(args) => args.run(),
            Command::Rules(args) => args.run(),
            Command::Completions(args) => args.run(Self::command()),
            Command::Man => man(Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent_and_has_no_option_for_a_password() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                assert!(!argument.get_id().as_str().contains("password"), "{argument:?}");
            }
        }
    }

    #[test]
    fn snapshot_and_connection_exclude_each_other() {
        let parse = |arguments: &[&str]| {
            Cli::try_parse_from([&["dragonfly-guard", "audit", "-c", "c"], arguments].concat())
        };
        assert!(parse(&["--snapshot", "s"]).is_ok());
        assert!(parse(&["app", "-h", "db", "-p", "5433", "-U", "me"]).is_ok());
        for wrong in
            [&["app", "--snapshot", "s"][..], &["-h", "db", "--snapshot", "s"], &["a", "-d", "b"]]
        {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
