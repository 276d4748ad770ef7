//! The contract that a command is about, read from a file.

use crate::failure::Failure;
use crate::output::{read, shown};
use dragonfly_core::contract::{Contract, Problem, Severity, examine_lines};
use std::path::Path;

/// How many problems a message lists.
const SHOWN: usize = 10;

/// The contract that an option names, with the text that it was read from.
#[derive(Debug)]
pub struct Given {
    /// The contract.
    pub contract: Contract,
    /// Its text.
    pub text: String,
}

/// Reads the contract that an option names.
pub fn given(file: Option<&Path>) -> Result<Given, Failure> {
    let Some(file) = file else {
        return Err(Failure::new("no contract is given").hint(
            "Use --contract FILE. \"dragonfly-guard infer\" drafts one from the database; where \
             the extension is installed, SELECT ops.contract_json() returns the one in force.",
        ));
    };
    let text = read(file)?;
    Ok(Given { contract: in_text(&text, file)?, text })
}

/// Reads a contract. Probable mistakes in it are a warning.
pub fn valid(file: &Path) -> Result<Contract, Failure> {
    in_text(&read(file)?, file)
}

fn in_text(text: &str, file: &Path) -> Result<Contract, Failure> {
    let examined = examine_lines(text, &|| {});
    let name = shown(file);
    let Some(contract) = examined.contract else {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let errors: Vec<&Problem> = examined.problems.iter().filter(is_error).collect();
        return Err(Failure::new(format!("{name} is not a valid security contract"))
            .detail(first(&errors))
            .hint(format!("dragonfly-guard validate {name} lists all problems.")));
    };
    let is_mistake = |p: &&Problem| p.severity == Severity::Warning && p.hint.is_some();
    let mistakes: Vec<&Problem> = examined.problems.iter().filter(is_mistake).collect();
    if !mistakes.is_empty() {
        let count = match mistakes.len() {
            1 => "a probable mistake".to_owned(),
            n => format!("{n} probable mistakes"),
        };
        Failure::new(format!("{name} has {count}"))
            .detail(first(&mistakes))
            .hint(format!("dragonfly-guard validate {name} lists all problems."))
            .warn();
    }
    Ok(contract)
}

fn first(problems: &[&Problem]) -> String {
    let lines: Vec<String> = problems.iter().take(SHOWN).map(ToString::to_string).collect();
    let lines = lines.join("\n");
    match problems.len().saturating_sub(SHOWN) {
        0 => lines,
        more => format!("{lines}\n... and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn of(text: &str) -> Result<Contract, Failure> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        valid(file.path())
    }

    #[test]
    fn invalid_contract_names_the_line() {
        assert!(of(dragonfly_core::contract::DEFAULT).is_ok());
        let failure = of("{\n\"name\": 1}").unwrap_err();
        assert!(failure.message.ends_with("is not a valid security contract"), "{failure:?}");
        assert!(failure.detail.unwrap().contains("line 2"));
        assert!(given(None).unwrap_err().hint.unwrap().contains("infer"));
    }
}
