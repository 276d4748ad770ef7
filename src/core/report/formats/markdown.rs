//! Markdown for a comment on a pull request: how many findings there are, a table of them, and the
//! statements that fix them.

use super::findings::{Report, counts, exemption};
use crate::finding::Finding;
use crate::sql::printable;

/// The greatest length of a comment on GitHub is 65,536 characters; the end needs some of them.
const MOST: usize = 60_000;

/// Writes the findings.
pub fn write(report: &Report<'_>) -> String {
    let open: Vec<&Finding> = report.open().collect();
    let verdict = match counts(open.iter().copied()) {
        counts if counts.is_empty() => "no findings".to_owned(),
        counts => counts,
    };
    let mut text = format!("### {}: {verdict}\n", escaped(&report.title()));
    let exempt: Vec<&Finding> =
        report.findings.iter().filter(|finding| exemption(finding).is_some()).collect();
    if !open.is_empty() {
        text += "\n| | Rule | Object | Finding |\n|---|---|---|---|\n";
        let omitted = add_rows(&mut text, &open, MOST / 2);
        if omitted > 0 {
            text += &format!("\n{omitted} more findings are not listed.\n");
        }
        add_fixes(&mut text, &open);
    }
    if !exempt.is_empty() {
        text += &format!(
            "\n<details><summary>Exempt: {}</summary>\n\n| | Rule | Object | Reason |\n\
             |---|---|---|---|\n",
            counts(exempt.iter().copied())
        );
        for (number, finding) in exempt.iter().enumerate() {
            let row = row(finding, exemption(finding).unwrap_or_default());
            if text.chars().count() + row.chars().count() > MOST {
                text += &format!("\n{} more are not listed.\n", exempt.len() - number);
                break;
            }
            text += &row;
        }
        text += "\n</details>\n";
    }
    text
}

/// Adds rows as long as the text has at most some characters. Returns how many were not added.
fn add_rows(text: &mut String, findings: &[&Finding], most: usize) -> usize {
    let mut length = text.chars().count();
    for (number, finding) in findings.iter().enumerate() {
        let row = row(finding, &finding.detail);
        length += row.chars().count();
        if length > most {
            return findings.len() - number;
        }
        *text += &row;
    }
    0
}

fn row(finding: &Finding, sentence: &str) -> String {
    format!(
        "| {} | {} | {} | {} |\n",
        finding.severity.as_str(),
        finding.rule.id,
        escaped(&finding.object.identity),
        escaped(sentence)
    )
}

/// Adds the statements of the fixes, each once, as long as there is space.
fn add_fixes(text: &mut String, findings: &[&Finding]) {
    let mut fixes: Vec<String> = Vec::new();
    let mut length = text.chars().count();
    let mut is_complete = true;
    for fix in findings.iter().filter_map(|finding| finding.fix.sql()) {
        if fixes.contains(&fix) {
            continue;
        }
        length += fix.chars().count() + 1;
        if length > MOST - 5_000 {
            is_complete = false;
            break;
        }
        fixes.push(fix);
    }
    if fixes.is_empty() {
        return;
    }
    let sql = fixes.join("\n");
    // A fence is longer than each run of backticks in what it encloses.
    let fence = "`".repeat(longest_run(&sql).max(2) + 1);
    let more = if is_complete { "" } else { "\n\nMore: `SELECT * FROM ops.golden_sql()`" };
    *text += &format!(
        "\n<details><summary>Statements that fix them</summary>\n\n\
         {fence}sql\n{sql}\n{fence}{more}\n\n</details>\n"
    );
}

/// Returns the length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

/// Returns a text as a cell contains it: what Markdown, HTML or GitHub give a meaning is escaped.
fn escaped(text: &str) -> String {
    let mut written = String::new();
    for c in printable(text).chars() {
        match c {
            '&' => written.push_str("&amp;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            // A name of an account or of another issue would be a link, and send messages.
            '@' => written.push_str("&#64;"),
            '#' => written.push_str("&#35;"),
            '\n' | '\r' => written.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' => {
                written.push('\\');
                written.push(c);
            }
            _ => written.push(c),
        }
    }
    written
}
