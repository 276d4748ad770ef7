//! `dragonfly-guard contract`: what can be done with contracts alone.

use crate::contract_file::valid;
use crate::failure::{Failure, note};
use crate::filter::Verdict;
use crate::output::write;
use clap::{Args, Subcommand};
use dragonfly_core::contract::changes;
use std::path::PathBuf;

/// The arguments of `contract`.
#[derive(Debug, Args)]
pub struct ContractArgs {
    #[command(subcommand)]
    command: ContractCommand,
}

#[derive(Debug, Subcommand)]
enum ContractCommand {
    /// List the changes from one contract to another
    #[command(after_help = "Exit code: 0 without changes, 1 with changes, 2 where a file is no \
        contract.\n\nExample:\n  dragonfly-guard contract diff contract.json.orig contract.json")]
    Diff {
        /// Contract before
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// Contract after
        #[arg(value_name = "NEW")]
        new: PathBuf,
    },
}

impl ContractArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let ContractCommand::Diff { old, new } = &self.command;
        let (old, new) = (valid(old)?, valid(new)?);
        let changes = changes(&old, &new);
        write(None, &changes.iter().map(|change| format!("{change}\n")).collect::<String>())?;
        if changes.is_empty() {
            note("the contracts are the same");
        }
        Ok(Verdict::of(!changes.is_empty()))
    }
}
