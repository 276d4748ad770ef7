//! The commands of the runbook are executed and must show what the page shows. `UPDATE_DOCS=1`
//! writes their output into the page.
//!
//! Blocks `psql` are executed by `transcripts.rs`. A section with blocks `console` has its own
//! server, on a copy of the installation whose library can be missing. An HTML comment in the
//! section says what the server is like: `<!-- server: without library, shared_preload_libraries
//! -->`. Two programs are replaced: `pg_ctl` runs as the owner of the server, and `make install`
//! puts the library back.

use dragonfly_tests::pages::Page;
use dragonfly_tests::{SUPERUSER, as_postgres, major_version, pg_config, project};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PAGE: &str = "docs/how-to/runbook.md";

const FENCE: &str = "```console\n";

#[test]
fn every_command_of_the_runbook_shows_the_real_output() {
    let page = Page::read(Path::new(PAGE));
    let fences = page.text.lines().filter(|line| line.starts_with("```") && *line != "```");
    for fence in fences {
        assert!(["```psql", "```console"].contains(&fence), "{fence} is not executed");
    }
    let executed = page.text.split_inclusive("\n## ").enumerate().map(|(number, section)| {
        if section.contains(FENCE) { executed_section(number, section) } else { section.to_owned() }
    });
    let executed: String = executed.collect();
    assert!(executed.matches(FENCE).count() > 5, "blocks of commands are missing");
    if let Err(difference) = Page::compare(&page.path, &executed) {
        panic!("{difference}");
    }
}

/// The section with the output that its commands produce now.
fn executed_section(number: usize, section: &str) -> String {
    let like = section.split_once("<!-- server: ").and_then(|(_, rest)| rest.split_once(" -->"));
    let (like, _) = like.unwrap_or_else(|| panic!("no comment about the server:\n{section}"));
    if let Some((_, since)) = like.split_once("since ")
        && major_version() < since.parse().expect("a major version")
    {
        return section.to_owned();
    }
    let server = Server::start(number, like);
    let mut parts = section.split(FENCE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (block, rest) = part.split_once("```").expect("a block that ends");
        out += FENCE;
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            write!(out, "$ {command}\n{}", server.output(command)).unwrap();
        }
        out += "```";
        out += rest;
    }
    out
}

/// Returns a folder of the PostgreSQL under test.
fn folder(option: &str) -> PathBuf {
    pg_config(option).canonicalize().unwrap()
}

/// A server on a copy of the PostgreSQL under test, with the database of the contract document.
struct Server {
    /// The copy.
    installation: PathBuf,
    data: PathBuf,
    programs: PathBuf,
    library: PathBuf,
}

impl Server {
    /// Starts the server that the comment of a section describes.
    fn start(number: usize, like: &str) -> Self {
        let clusters = PathBuf::from(std::env::var_os("GUARD_CLUSTERS").expect("GUARD_CLUSTERS"));
        let name = format!("t{}_runbook{number}", std::process::id());
        let (installation, data) =
            (clusters.join(format!("{name}_installation")), clusters.join(name));
        let [programs, libraries] = ["--bindir", "--pkglibdir"].map(|option| {
            let copy = copied(&installation, &folder(option));
            run(Command::new("mkdir").arg("-p").arg(copy.parent().unwrap()));
            // Links take no space, and the server finds its files relative to the program.
            run(Command::new("cp").arg("-al").arg(folder(option)).arg(&copy));
            copy
        });
        // Packages for Python have the libraries of programs in a folder beside the server.
        let beside = folder("--bindir").join("../../..").canonicalize().unwrap();
        for entry in std::fs::read_dir(beside).unwrap() {
            let libraries = entry.unwrap().path();
            if libraries.extension().is_some_and(|extension| extension == "libs") {
                let copy = copied(&installation, &libraries);
                run(Command::new("cp").arg("-al").arg(&libraries).arg(&copy));
            }
        }
        let shared = copied(&installation, &folder("--sharedir"));
        run(Command::new("mkdir").arg("-p").arg(shared.parent().unwrap()));
        run(Command::new("cp").arg("-al").arg(folder("--sharedir")).arg(&shared));
        run(as_postgres(Path::new("cp")).arg("-a").arg(clusters.join("template")).arg(&data));
        let library = libraries.join("dragonfly_guard.so");
        let server = Self { installation, data, programs, library };
        server.configure();
        server.succeed("pg_ctl start -s -l setup.log");
        server.succeed("createdb app");
        let document = project().join("tests/fixtures/document.sql");
        server.succeed(&format!("psql -q -d app -f '{}'", document.display()));
        server.succeed("psql -q -d app -c 'CREATE EXTENSION dragonfly_guard'");
        if like.contains("shared_preload_libraries") {
            let set = "ALTER SYSTEM SET shared_preload_libraries = 'dragonfly_guard'";
            server.succeed(&format!("psql -q -d postgres -c \"{set}\""));
            server.succeed("pg_ctl restart -s -l setup.log");
        } else if like.contains("session_preload_libraries") {
            let set = "ALTER DATABASE app SET session_preload_libraries = 'dragonfly_guard'";
            server.succeed(&format!("psql -q -d postgres -c \"{set}\""));
        }
        if like.contains("without library") {
            std::fs::rename(&server.library, server.library.with_extension("away")).unwrap();
        } else {
            assert!(like.contains("with library"), "{like}");
        }
        server
    }

    fn configure(&self) {
        let settings = format!(
            "unix_socket_directories = '{}'\nlisten_addresses = ''\nfsync = off\n",
            self.data.display()
        );
        let file = self.data.join("postgresql.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + &settings).unwrap();
    }

    /// Runs a command in the folder of the data.
    fn run(&self, command: &str) -> Output {
        let owner = as_postgres(&self.programs.join("pg_ctl"));
        let mut pg_ctl = format!("'{}'", owner.get_program().to_string_lossy());
        for argument in owner.get_args() {
            write!(pg_ctl, " '{}'", argument.to_string_lossy()).unwrap();
        }
        let script = format!(
            "exec 2>&1\npg_ctl() {{ {pg_ctl} \"$@\" </dev/null; }}\n\
             make() {{ cp '{away}' '{library}'; }}\n{command}",
            away = self.library.with_extension("away").display(),
            library = self.library.display(),
        );
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("sh")
            .args(["-c", &script])
            .current_dir(&self.data)
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("PGDATA", &self.data)
            .env("PGHOST", &self.data)
            .env("PGUSER", SUPERUSER)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("PGOPTIONS")
            .output()
            .expect("a shell")
    }

    fn succeed(&self, command: &str) {
        let output = self.run(command);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}: {text}");
    }

    /// Runs a command and returns its output as the page shows it.
    fn output(&self, command: &str) -> String {
        let output = self.run(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text.replace(&*self.data.to_string_lossy(), "/var/run/postgresql");
        // PostgreSQL 18 names the library of a function without its folder.
        let missing = |name: &str| format!("ERROR:  could not access file \"{name}\"");
        let text = text.replace(&missing("dragonfly_guard"), &missing("$libdir/dragonfly_guard"));
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.run("pg_ctl stop -s -m immediate");
        for folder in [&self.data, &self.installation] {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Returns the path of a folder of the PostgreSQL under test in a copy.
fn copied(copy: &Path, folder: &Path) -> PathBuf {
    copy.join(folder.strip_prefix("/").expect("an absolute path"))
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}");
}
