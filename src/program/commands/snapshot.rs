//! `dragonfly-guard snapshot`: writes the catalogs as data.

use crate::connection::ConnectionArgs;
use crate::failure::Failure;
use crate::filter::Verdict;
use crate::output::Output;
use crate::source::run;
use clap::Args;
use std::path::PathBuf;

/// The arguments of `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl SnapshotArgs {
    /// Writes the snapshot, as the server sends it.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let mut client = self.connection.connect()?;
        let mut output = Output::open(self.output.as_deref())?;
        run(&mut client, &mut |line| {
            output.write(line)?;
            output.write("\n")
        })?;
        output.close()?;
        Ok(Verdict::Clean)
    }
}
