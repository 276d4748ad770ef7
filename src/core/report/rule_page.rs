//! The documentation page of a rule, as Markdown, generated from its metadata.

use crate::contract::{GuardAction, shipped_rules};
use crate::rule::{Area, Example, Rule};
use crate::rules::RULES;
use std::fmt::Write;

/// The maximum line length of a page, except for tables and SQL.
const WIDTH: usize = 100;

/// Returns the page of one rule, `docs/rules/<id>.md`.
#[must_use]
pub fn rule_page(rule: &Rule) -> String {
    let Example { violating, correct } = rule.example;
    let section = shipped_rules().get(rule.id).and_then(|declared| declared.section.as_deref());
    let mut page = format!(
        "# {id}\n\n{title}.\n\n\
         | area | severity | guard action | SQLSTATE | contract section |\n|---|---|---|---|---|\n\
         | {area} | {severity} | {guard} | {code} `{condition}` | {section} |\n\n\
         Severity, guard action and section are those of the shipped contract; a contract can \
         set others. \
         [Concepts](../concepts.md) explains the terms.{keys}\n\n\
         ## What it checks\n\n{checks}\n\n\
         ## Why it matters\n\n{why}\n\n\
         ## Example\n\nThis is a violation:\n\n```sql\n{violating}\n```\n\n\
         This is not:\n\n```sql\n{correct}\n```\n\n\
         ## Fix\n\n{fix}\n\n\
         ## When to exempt\n\n{exempt}\n",
        id = rule.id,
        title = rule.title,
        keys = keys(rule),
        area = rule.area.as_str(),
        severity = rule.severity.as_str(),
        guard = rule.guard.as_str(),
        code = rule.sqlstate.code(),
        condition = rule.sqlstate.condition(),
        section = section.unwrap_or_default(),
        checks = rule.checks,
        why = rule.why,
        fix = rule.fix,
        exempt = rule.exempt,
    );
    page = page
        .lines()
        .map(|line| {
            let is_table = line.starts_with('|');
            let line = if is_table { line.to_owned() } else { textwrap::fill(line, WIDTH) };
            line + "\n"
        })
        .collect();
    if !rule.references.is_empty() {
        page += "\n## References\n\n";
        for reference in rule.references {
            let _ = writeln!(page, "- {reference}");
        }
    }
    page
}

/// Returns the sentences about the rules for which the keys of a table matter.
fn keys(rule: &Rule) -> &'static str {
    let is_about_keys = rule.area == Area::Policies && rule.guard > GuardAction::Audit;
    if is_about_keys { KEYS } else { "" }
}

/// When the guard acts on what a policy lets clients reach.
const KEYS: &str = " They are for tables of which the contract says by which columns a row is its \
                    caller's (`keys`). For others, the guard does nothing, and a finding about a \
                    declared policy is a warning at most.";

/// Returns the list of all rules, `docs/rules/index.md`.
#[must_use]
pub fn rule_index() -> String {
    let mut page = String::from(
        "# Rules\n\nEvery rule with the severity and guard action of the shipped contract.\n\
         `SELECT * FROM ops.security_rules()` lists those of the contract in force.\n\n\
         | rule | what is wrong | area | severity | guard action |\n|---|---|---|---|---|\n",
    );
    for rule in RULES {
        let (area, severity, guard) =
            (rule.area.as_str(), rule.severity.as_str(), rule.guard.as_str());
        let _ = writeln!(
            page,
            "| [{id}]({id}.md) | {} | {area} | {severity} | {guard} |",
            rule.title,
            id = rule.id
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// `UPDATE_DOCS=1 cargo test -p dragonfly_core` writes the pages.
    #[test]
    fn rule_pages_are_generated_from_the_rules() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules");
        let mut pages: BTreeMap<String, String> =
            RULES.iter().map(|rule| (format!("{}.md", rule.id), rule_page(rule))).collect();
        pages.insert("index.md".to_owned(), rule_index());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            pages.iter().for_each(|(name, page)| std::fs::write(folder.join(name), page).unwrap());
        }
        let files = std::fs::read_dir(&folder).unwrap().map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        });
        let files: BTreeMap<String, String> = files.collect();
        assert!(
            files == pages,
            "docs/rules differs from the rules: run the test with UPDATE_DOCS=1"
        );
    }
}
