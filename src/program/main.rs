//! The program `dragonfly-guard`: audits a PostgreSQL database over an ordinary connection, without
//! the extension.
#![forbid(unsafe_code)]

mod baseline;
mod cli;
mod commands;
mod connection;
mod contract_file;
mod environment;
mod exemption_file;
mod failure;
mod filter;
mod migrations;
mod output;
mod parameters;
mod passfile;
mod pipe;
mod places;
mod progress;
mod service;
mod source;
mod table;
mod tls;

use clap::Parser;
use filter::Verdict;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = cli::Cli::parse().run();
    progress::Progress::erase();
    exit_code(result)
}

/// Returns the exit code of a command, and prints why it could not judge.
fn exit_code(result: Result<Verdict, failure::Failure>) -> ExitCode {
    match result {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Findings) => ExitCode::from(1),
        Err(failure) => {
            failure.print();
            ExitCode::from(2)
        }
    }
}
