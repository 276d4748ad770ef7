//! Exemptions from a file: findings that are accepted, with a reason and an optional expiry time.

use crate::failure::{Failure, note};
use crate::output::{read, shown};
use dragonfly_core::audit::InForce;
use dragonfly_core::exemptions::{Accepted, Exemption, Exemptions, is_about_routines, is_gap};
use dragonfly_core::finding::Finding;
use dragonfly_core::rule::Rule;
use dragonfly_core::rules;
use dragonfly_core::rules::RULES;
use dragonfly_core::sql::printable;
use dragonfly_core::sql::similar::did_you_mean;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

/// An element of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    fingerprint: Option<String>,
    rule: Option<String>,
    object: Option<String>,
    role: Option<String>,
    reason: String,
    expires_at: Option<String>,
}

/// The exemptions of a file. They accept a finding by name: unlike those of the extension, they do
/// not end when the object changes.
#[derive(Debug, Default)]
pub struct FromFile {
    list: Vec<Exemption>,
    /// The numbers of those that are about a finding.
    used: RefCell<BTreeSet<i32>>,
}

impl FromFile {
    /// Reads a file; without one, there are no exemptions.
    pub fn read(file: Option<&Path>, now: Timestamp) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self::default()) };
        Self::of_text(&read(file)?, now).map_err(|failure| {
            let message = format!("{}: {}", shown(file), failure.message);
            Failure { message, ..failure }
        })
    }

    fn of_text(text: &str, now: Timestamp) -> Result<Self, Failure> {
        let text = text.trim_start_matches('\u{feff}');
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(|error| {
            Failure::new("not a list of exemptions").detail(error.to_string()).hint(
                "Example: [{\"rule\": \"rls_disabled\", \"object\": \"public.countries\", \
                 \"reason\": \"the same for everyone\", \"expires_at\": \"2030-01-01\"}]",
            )
        })?;
        let list: Result<_, _> =
            entries.into_iter().zip(1..).map(|(e, n)| valid(e, n, now)).collect();
        Ok(Self { list: list?, used: RefCell::default() })
    }

    /// Says which exemptions have expired, and, where every finding was looked at, which are about
    /// no finding.
    pub fn report(&self, is_complete: bool) {
        let named = |exemption: &Exemption| {
            let about = exemption.fingerprint.as_ref().unwrap_or(&exemption.rule);
            format!(
                "exemption {} ({}: {})",
                exemption.id,
                printable(about),
                printable(&exemption.reason)
            )
        };
        for exemption in &self.list {
            if let Some(at) = exemption.expires_at.as_ref().filter(|_| exemption.is_expired) {
                note(&format!("{} has expired at {at} and no longer counts", named(exemption)));
            } else if is_complete && !self.used.borrow().contains(&exemption.id) {
                note(&format!("{} is about no finding; remove it", named(exemption)));
            }
        }
    }

    /// Returns the exemptions about a finding, each for the finding as it is.
    fn about(&self, finding: &Finding) -> Exemptions {
        // One for a role counts together with those for the other roles.
        let is_of_role = |exemption: &Exemption| {
            let role = exemption.role.as_ref();
            exemption.rule == finding.rule.id && role.is_some_and(|r| finding.roles.contains(r))
        };
        let about = self.list.iter().filter(|one| one.is_about(finding) || is_of_role(one));
        let accepting = about.cloned().map(|mut exemption| {
            self.used.borrow_mut().insert(exemption.id);
            let now = Accepted::now(finding, &|_| None);
            exemption.accepted.insert(finding.fingerprint.clone(), now);
            exemption
        });
        Exemptions::new(accepting.collect())
    }
}

impl InForce for FromFile {
    fn apply(&self, findings: Vec<Finding>, with_exempt: bool) -> Vec<Finding> {
        if self.list.is_empty() {
            return findings;
        }
        let applied =
            |finding: Finding| self.about(&finding).apply(vec![finding], &|_| None, with_exempt);
        findings.into_iter().flat_map(applied).collect()
    }

    fn mention(&self, rule: &Rule) -> bool {
        // One by fingerprint could be about any rule.
        let could_be = |e: &Exemption| e.fingerprint.is_some() || e.rule == rule.id;
        self.list.iter().any(could_be)
    }

    fn accept(&self, finding: &Finding) -> bool {
        self.about(finding).accept(finding, &|_| None)
    }
}

fn valid(entry: Entry, number: i32, now: Timestamp) -> Result<Exemption, Failure> {
    let invalid = |why: &str| Failure::new(format!("exemption {number} {why}"));
    let Entry { fingerprint, rule, object, role, reason, expires_at } = entry;
    if is_gap(&reason) {
        return Err(invalid("has no reason").hint("Say why the finding is acceptable."));
    }
    match (&fingerprint, &rule, &object) {
        (Some(_), None, None) if role.is_none() => {}
        (None, Some(id), Some(_)) => {
            let Some(known) = rules::find(id) else {
                let failure =
                    invalid(&format!("is about rule \"{}\", which does not exist", printable(id)));
                let meant = did_you_mean(id, RULES.iter().map(|rule| rule.id));
                return Err(failure.hint("dragonfly-guard rules lists them.").meant(meant));
            };
            if !known.exempt_by_pattern {
                return Err(invalid(&format!("cannot be about all findings of rule {id}"))
                    .hint("Use the fingerprint of the finding."));
            }
            // What a routine that is created later executes was never accepted.
            let is_pattern = object.as_ref().is_some_and(|object| object.contains(['*', '?']));
            if is_pattern && is_about_routines(id) {
                return Err(invalid(&format!("cannot be about routines by pattern, rule {id}"))
                    .hint("Name the routine as the finding does, or use the fingerprint."));
            }
        }
        _ => {
            return Err(invalid("is about neither a fingerprint nor a rule and an object").hint(
                "Use {\"fingerprint\": ..., \"reason\": ...} or {\"rule\": ..., \"object\": ..., \
                 \"reason\": ...}.",
            ));
        }
    }
    let expires = expires_at.as_deref().map(|text| {
        time(text).ok_or_else(|| {
            invalid(&format!("has an invalid expires_at: \"{}\"", printable(text)))
                .hint("Use 2030-01-31 or 2030-01-31T12:00:00Z.")
        })
    });
    let expires = expires.transpose()?;
    Ok(Exemption {
        id: number,
        fingerprint,
        rule: rule.unwrap_or_default(),
        object: object.unwrap_or_default(),
        role,
        reason,
        is_expired: expires.is_some_and(|at| at <= now),
        expires_at,
        ..Exemption::default()
    })
}

/// Reads a time, as PostgreSQL does with time zone UTC: a date is its first moment.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    // `2030-01-31 12:00:00+00`, as psql prints it.
    let with_minutes = format!("{text}:00");
    let zoned = [text, &with_minutes].into_iter().find_map(|text| text.parse::<Timestamp>().ok());
    zoned.or_else(|| TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2027-01-01T00:00:00Z";

    fn read(text: &str) -> Result<FromFile, Failure> {
        FromFile::of_text(text, NOW.parse().unwrap())
    }

    fn error(text: &str) -> String {
        read(text).unwrap_err().message
    }

    #[test]
    fn time_is_a_date_or_a_timestamp() {
        let at = |text: &str| time(text).map(|at| at.to_string());
        assert_eq!(at("2030-01-31").as_deref(), Some("2030-01-31T00:00:00Z"));
        assert_eq!(at("2030-01-31T12:00:00+02:00").as_deref(), Some("2030-01-31T10:00:00Z"));
        assert_eq!(at("2030-01-31 12:00:00+00").as_deref(), Some("2030-01-31T12:00:00Z"));
        assert_eq!(at("2030-01-31 12:00").as_deref(), Some("2030-01-31T12:00:00Z"));
        assert_eq!(at("tomorrow"), None);
    }

    #[test]
    fn exemption_needs_a_reason_and_something_that_it_is_about() {
        assert_eq!(read("[]").unwrap().list.len(), 0);
        assert_eq!(
            error(r#"[{"fingerprint": "a", "reason": "..."}]"#),
            "exemption 1 has no reason"
        );
        assert_eq!(
            error(r#"[{"rule": "rls_disabled", "reason": "x"}]"#),
            "exemption 1 is about neither a fingerprint nor a rule and an object"
        );
        assert_eq!(
            error(r#"[{"rule": "rls_disable", "object": "a", "reason": "x"}]"#),
            "exemption 1 is about rule \"rls_disable\", which does not exist"
        );
        assert_eq!(
            error(r#"[{"fingerprint": "a", "reason": "x", "expires_at": "soon"}]"#),
            "exemption 1 has an invalid expires_at: \"soon\""
        );
        let by_pattern = |rule: &str, object: &str| {
            read(&format!(r#"[{{"rule": "{rule}", "object": "{object}", "reason": "x"}}]"#))
        };
        assert!(by_pattern("rls_disabled", "app.*").is_ok());
        assert!(by_pattern("security_definer_search_path", "api.f(integer[])").is_ok());
        let routines = by_pattern("security_definer_search_path", "api.*").unwrap_err().message;
        assert!(routines.starts_with("exemption 1 cannot be about routines"), "{routines}");
        assert_eq!(error(r#"[{"fingerprint": "a"}]"#), "not a list of exemptions");
        assert_eq!(
            error(r#"[{"fingerprint": "a", "reason": "x", "until": "x"}]"#),
            "not a list of exemptions"
        );
    }

    #[test]
    fn exemption_expires_at_its_time() {
        let expired = |at: &str| {
            let text = format!(r#"[{{"fingerprint": "a", "reason": "x", "expires_at": "{at}"}}]"#);
            read(&text).unwrap().list[0].is_expired
        };
        assert!(expired("2026-12-31") && expired("2027-01-01") && !expired("2027-01-02"));
    }
}
