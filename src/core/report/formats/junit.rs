//! JUnit XML: a test suite an area, a test case a rule, and a failure where it has findings.

use super::findings::{Report, exemption, with_fix};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rule::{Area, Rule};
use crate::rules::RULES;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use std::io;

/// Writes the findings.
pub fn write(report: &Report<'_>) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    suites(report, &mut writer).expect("writing into memory does not fail");
    String::from_utf8(writer.into_inner()).expect("XML of texts is a text")
}

/// What the findings of a rule are in JUnit.
struct Case<'f> {
    rule: &'static Rule,
    /// Differences from the contract: at least warnings, and not exempt.
    failures: Vec<&'f Finding>,
    /// Notes, and what is exempt.
    notes: Vec<&'f Finding>,
}

impl<'f> Case<'f> {
    fn of(rule: &'static Rule, report: &Report<'f>) -> Self {
        let of_rule = report.findings.iter().filter(|finding| finding.rule.id == rule.id);
        let (failures, notes) = of_rule
            .partition(|finding| finding.severity > Severity::Info && exemption(finding).is_none());
        Self { rule, failures, notes }
    }
}

fn suites(report: &Report<'_>, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
    let cases: Vec<Case<'_>> = RULES.iter().map(|rule| Case::of(rule, report)).collect();
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let (tests, failures) = (cases.len().to_string(), failed(cases.iter()));
    let suites = writer.create_element("testsuites").with_attributes([
        ("name", &*xml(&report.title())),
        ("tests", &tests),
        ("failures", &failures),
    ]);
    suites.write_inner_content(|writer| {
        for area in Area::ALL {
            let cases: Vec<&Case<'_>> = cases.iter().filter(|of| of.rule.area == area).collect();
            let (tests, failures) = (cases.len().to_string(), failed(cases.iter().copied()));
            let suite = writer.create_element("testsuite").with_attributes([
                ("name", area.as_str()),
                ("tests", &tests),
                ("failures", &failures),
                ("errors", "0"),
                ("skipped", "0"),
                ("time", "0"),
            ]);
            suite.write_inner_content(|writer| {
                cases.iter().try_for_each(|case| write_case(case, writer))
            })?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Returns how many cases failed.
fn failed<'c, 'f: 'c>(cases: impl Iterator<Item = &'c Case<'f>>) -> String {
    cases.filter(|case| !case.failures.is_empty()).count().to_string()
}

fn write_case(case: &Case<'_>, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
    let class = format!("dragonfly_guard.{}", case.rule.area.as_str());
    let element = writer.create_element("testcase").with_attributes([
        ("classname", &*class),
        ("name", case.rule.id),
        ("time", "0"),
    ]);
    if case.failures.is_empty() && case.notes.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|writer| {
        if let Some(worst) = case.failures.iter().map(|finding| finding.severity).max() {
            let message = match case.failures.as_slice() {
                [only] => only.detail.clone(),
                all => format!("{}: {} findings", case.rule.title, all.len()),
            };
            let failure = writer
                .create_element("failure")
                .with_attributes([("message", &*xml(&message)), ("type", worst.as_str())]);
            failure.write_text_content(BytesText::new(&xml(&listed(&case.failures))))?;
        }
        if !case.notes.is_empty() {
            let notes = writer.create_element("system-out");
            notes.write_text_content(BytesText::new(&xml(&listed(&case.notes))))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Returns findings as text, each with its fix or with the reason for which it is exempt.
fn listed(findings: &[&Finding]) -> String {
    let each = findings.iter().map(|finding| {
        let severity = finding.severity.as_str();
        match exemption(finding) {
            Some(reason) => format!("{severity}: {}\nExempt: {reason}", finding.detail),
            None => format!("{severity}: {}", with_fix(finding)),
        }
    });
    each.collect::<Vec<_>>().join("\n\n")
}

/// Returns a text without the characters that XML cannot contain.
fn xml(text: &str) -> String {
    let is_allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
            || c >= '\u{10000}'
    };
    text.chars().map(|c| if is_allowed(c) { c } else { '\u{fffd}' }).collect()
}
