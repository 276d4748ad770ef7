//! `dragonfly-guard audit`: the differences between a database and its contract.

use crate::baseline::Baseline;
use crate::contract_file;
use crate::exemption_file::FromFile;
use crate::failure::{Failure, note};
use crate::filter::{FailOn, FilterArgs, Level, Verdict, check_schemas, counts, is_exempt};
use crate::migrations::Migrations;
use crate::output::{is_terminal, write};
use crate::places::Places;
use crate::progress::Progress;
use crate::source::SourceArgs;
use crate::table::{framed, plain};
use clap::{Args, ValueEnum};
use dragonfly_core::audit::{Audit, Fixes};
use dragonfly_core::drift::Release;
use dragonfly_core::finding::Finding;
use dragonfly_core::report::NarrowFinding;
use dragonfly_core::report::formats::{Report, write as write_report};
use dragonfly_core::report::page::{Head, Limits, Page};
use dragonfly_core::rules::Tool;
use dragonfly_core::sql::printable;
use dragonfly_reader::audit::{Unread, unread, with_audit};
use dragonfly_reader::data::Data;
use jiff::Timestamp;
use std::path::PathBuf;

/// The arguments of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Contract to audit against (required)
    #[arg(short, long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Format of the findings
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Least severity that makes the exit code 1
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Error)]
    fail_on: FailOn,
    /// Findings of an earlier audit (--format jsonl), which are left out
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Accepted findings: JSON with fingerprint, or rule and object; reason; expires_at
    #[arg(long, value_name = "FILE")]
    exemptions: Option<PathBuf>,
    /// Path of the contract that reports show, relative to the root of the repository
    #[arg(long, value_name = "PATH")]
    report_path: Option<String>,
    /// Folder of migrations: reports show a finding where its object is created
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only findings of at least this severity
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = Level::Info)]
    #[arg(help_heading = "Filters")]
    min_severity: Level,
}

/// A format of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal; one line a finding, with tabs, in a pipe
    Table,
    /// One JSON object a line
    Jsonl,
    /// SARIF 2.1.0, for GitHub code scanning
    Sarif,
    /// JUnit XML
    Junit,
    /// GitLab Code Quality
    Gitlab,
    /// Annotations of GitHub Actions
    Github,
    /// Markdown, for a comment on a pull request
    Markdown,
    /// One HTML page
    Html,
}

impl Format {
    /// Returns what the fixes of findings have to say: a table does not show them, and those of the
    /// plan take longer than the audit.
    fn fixes(self) -> Fixes {
        if self == Self::Table { Fixes::OfRules } else { Fixes::OfPlan }
    }

    /// Returns the format of the core; `None` where it is none of those.
    fn of_core(self) -> Option<dragonfly_core::report::formats::Format> {
        use dragonfly_core::report::formats::Format as Core;
        match self {
            Self::Table | Self::Html => None,
            Self::Jsonl => Some(Core::JsonLines),
            Self::Sarif => Some(Core::Sarif),
            Self::Junit => Some(Core::Junit),
            Self::Gitlab => Some(Core::GitLab),
            Self::Github => Some(Core::GitHub),
            Self::Markdown => Some(Core::Markdown),
        }
    }
}

impl AuditArgs {
    /// Audits, and writes the findings.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let given = contract_file::given(self.contract.as_deref())?;
        let contract = &given.contract;
        let exemptions = FromFile::read(self.exemptions.as_deref(), Timestamp::now())?;
        let baseline = Baseline::read(self.baseline.as_deref())?;
        let migrations = self.sources.as_deref().map(Migrations::read).transpose()?;
        let migrations = migrations.unwrap_or_default();
        let filter = self.filter.filter(self.min_severity.severity())?;
        let data = self.source.read()?;
        Progress::step("applying the rules");
        let (text, verdict) = with_audit(&data, contract, Tool::Program, |audit| {
            check_schemas(&filter, contract, audit.cx.snapshot)?;
            let audit = Audit { exemptions: &exemptions, ..audit };
            let mut findings = audit.findings(&filter, self.format.fixes());
            let found = findings.len();
            findings.retain(|one| is_exempt(one) || !baseline.has(one));
            let known = found - findings.len();
            let open: Vec<&Finding> = findings.iter().filter(|one| !is_exempt(one)).collect();
            let is_complete = self.filter.is_total() && self.min_severity == Level::Info;
            exemptions.report(is_complete);
            self.summarize(&audit, &open, findings.len() - open.len(), known);
            let verdict = self.fail_on.verdict(open.iter().copied());
            let places = self.places(&given.text, migrations);
            Ok((self.written(&audit, &data, &places, &findings), verdict))
        })?;
        if let Some(Unread { message, detail }) = unread(&data) {
            Failure::new(message).detail(detail).warn();
        }
        write(self.output.as_deref(), &text)?;
        Ok(verdict)
    }

    fn summarize(&self, audit: &Audit<'_>, open: &[&Finding], exempt: usize, known: usize) {
        let mut text = format!(
            "{} on database \"{}\" under contract {} {}",
            counts(open.iter().copied()),
            printable(&audit.cx.snapshot.database.name),
            printable(&audit.cx.contract.name),
            audit.cx.contract.version,
        );
        if exempt > 0 {
            text.push_str(&format!("; {exempt} exempt"));
        }
        if self.baseline.is_some() {
            text.push_str(&format!("; {known} of the baseline left out"));
        }
        note(&text);
    }

    /// Returns where reports show findings. `contract` is the text of the contract.
    fn places(&self, contract: &str, migrations: Migrations) -> Places {
        let given = self.contract.as_ref().map(|path| path.to_string_lossy().into_owned());
        let path = self.report_path.clone().or(given).unwrap_or_default();
        Places::of(path, contract, migrations)
    }

    fn written(
        &self,
        audit: &Audit<'_>,
        data: &Data,
        places: &Places,
        findings: &[Finding],
    ) -> String {
        if let Some(format) = self.format.of_core() {
            let report = Report {
                contract: audit.cx.contract,
                database: &audit.cx.snapshot.database.name,
                version: env!("CARGO_PKG_VERSION"),
                findings,
                place: &|finding| places.of_finding(finding),
            };
            return write_report(&report, format);
        }
        if self.format == Format::Html {
            let head = Head {
                database: printable(&audit.cx.snapshot.database.name).into_owned(),
                at: time(data),
                version: env!("CARGO_PKG_VERSION").into(),
                server: Release::of_number(data.server.version_num).to_string(),
            };
            return Page::of(audit.cx, findings, vec![], head, Limits::default()).html();
        }
        let open = findings.iter().filter(|finding| !is_exempt(finding));
        if is_terminal(self.output.as_deref()) {
            let rows: Vec<Vec<String>> = open.map(narrow).collect();
            if rows.is_empty() { String::new() } else { framed(&HEADER, &rows) }
        } else {
            plain(&open.map(line).collect::<Vec<_>>())
        }
    }
}

const HEADER: [&str; 3] = ["severity", "object", "finding"];

fn narrow(finding: &Finding) -> Vec<String> {
    let NarrowFinding { object, finding: text } = NarrowFinding::of(finding);
    vec![finding.severity.as_str().to_owned(), object, text]
}

fn line(finding: &Finding) -> Vec<String> {
    let severity = finding.severity.as_str().to_owned();
    let object = &finding.object;
    let identity = format!("{} {}", object.type_in_message(), printable(&object.identity));
    vec![severity, finding.rule.id.to_owned(), identity, finding.detail.clone()]
}

/// The microseconds between the beginnings of 1970 and 2000.
const OF_2000: i64 = 946_684_800_000_000;

/// Returns when the catalogs were read.
pub fn time(data: &Data) -> String {
    let at = data.server.time.checked_add(OF_2000);
    let at = at.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S+00").to_string()).unwrap_or_default()
}
