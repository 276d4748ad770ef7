//! A server without the extension, which the program `dragonfly-guard` looks at.

use crate::{Cluster, SUPERUSER, attempt, guard_program, project};
use postgres::Client;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A server without the extension, with the database of the contract document, and a role that may
/// do nothing but log in.
#[derive(Debug)]
pub struct Outside {
    /// The server.
    pub cluster: Cluster,
    /// A folder for files of the test.
    pub files: PathBuf,
}

impl Outside {
    /// Starts the server.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts the server with settings (`name=value`).
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        let cluster = Cluster::start_with(settings);
        let mut client = cluster.connect("postgres", SUPERUSER);
        attempt(&mut client, "CREATE DATABASE app").unwrap();
        attempt(&mut client, "CREATE ROLE looker LOGIN PASSWORD 'secret: \\'").unwrap();
        cluster.psql_file("app", "fixtures/document.sql");
        // As every new database has it since PostgreSQL 15, and as the document wants it.
        let revoke = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        attempt(&mut cluster.connect("app", SUPERUSER), revoke).unwrap();
        let files = std::env::temp_dir().join(cluster.folder().file_name().unwrap());
        std::fs::create_dir_all(&files).unwrap();
        Self { cluster, files }
    }

    /// Connects as a superuser.
    #[must_use]
    pub fn client(&self) -> Client {
        self.cluster.connect("app", SUPERUSER)
    }

    /// Returns the path of a file of the test.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.files.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file of the test and returns its path.
    #[allow(clippy::must_use_candidate, reason = "the path of a configuration is known")]
    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.file(name), text).unwrap();
        self.file(name)
    }

    /// Runs the program as the role that may do nothing but log in.
    #[must_use]
    pub fn connected(&self, arguments: &[&str]) -> Ended {
        let folder = self.cluster.folder().to_str().unwrap();
        run(&[arguments, &["-h", folder, "-U", "looker", "-d", "app"]].concat(), &[])
    }

    /// Audits under the shipped contract.
    #[must_use]
    pub fn audit(&self, arguments: &[&str]) -> Ended {
        self.connected(&[&["audit", "--contract", &contract()], arguments].concat())
    }

    /// Returns the fingerprints of an audit.
    #[must_use]
    pub fn fingerprints(&self) -> BTreeSet<String> {
        fingerprints(&self.audit(&["--format", "jsonl"]).out)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

/// Returns the path of the shipped contract.
#[must_use]
pub fn contract() -> String {
    project().join("src/core/contract/default.json").to_str().unwrap().to_owned()
}

/// Returns the fingerprints of findings in the format jsonl.
#[must_use]
pub fn fingerprints(lines: &str) -> BTreeSet<String> {
    let of = |finding: Value| finding["fingerprint"].as_str().unwrap().to_owned();
    findings(lines).into_iter().map(of).collect()
}

/// Returns findings in the format jsonl.
#[must_use]
pub fn findings(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How the program has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// What it has written to standard output.
    pub out: String,
    /// What it has written to standard error.
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs the program with nothing in its environment but some variables.
#[must_use]
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(guard_program());
    command.env_clear().envs(environment.iter().copied()).args(arguments).stdin(Stdio::null());
    command.output().expect("the program runs").into()
}
