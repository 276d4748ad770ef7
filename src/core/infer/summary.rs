//! What `ops.adopt()` shows in about ten lines: what the inferred contract declares, what is
//! exempted, and what to look at first.

use super::exempt::Remaining;
use super::{LeftOut, ToConfirm};
use crate::catalog::{AclItem, DefaultAcl, Role};
use crate::contract::{Contract, RoleKind, SchemaDecl, Severity};
use crate::declare::{Declaration, amended, reported};
use crate::finding::Finding;
use crate::rules::{Context, default_privileges};
use crate::sql::{printable, quote_ident, quote_literal};
use std::collections::{BTreeSet, HashSet};

/// A line of the summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What the line is about, one or two words.
    pub topic: &'static str,
    /// At most [`WIDTH`] characters, unless one name is longer.
    pub detail: String,
}

impl Line {
    /// Returns a line.
    pub fn new(topic: &'static str, detail: impl Into<String>) -> Self {
        Self { topic, detail: detail.into() }
    }
}

/// The number of characters with which psql shows topic and detail in 120 columns.
pub const WIDTH: usize = 100;

/// The number of characters of a statement that fits beside the longest topic, `contract`.
const STATEMENT_WIDTH: usize = 120 - " contract |  ".len();

/// The number of lines about the findings to look at first.
const SHOWN: usize = 3;

/// What follows from the kind of a worker.
const WORKER: &str =
    "is not limited by row security rules: policies that open all rows to it are no findings";

/// A worker whose kind was inferred and could be that of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CouldBeClient {
    /// The name of the role.
    pub role: String,
    /// The findings that appear where only its kind changes, without those of severity info.
    pub findings: usize,
}

impl CouldBeClient {
    /// Returns the workers among the roles to confirm that do not bypass row security, with the
    /// findings that the kind of a client would add. `cx` has the inferred contract.
    #[must_use]
    pub fn among(cx: &Context<'_>, to_confirm: &[ToConfirm]) -> Vec<Self> {
        let is_worker = |of: &&ToConfirm| {
            of.kind == RoleKind::Worker
                && cx.snapshot.role_named(&of.role).is_some_and(|role| !role.bypass_rls)
        };
        let mut before = None;
        let could_be = |of: &ToConfirm| {
            let kind = Declaration::Kind(of.role.clone(), RoleKind::Client);
            let contract = amended(cx, &[kind])?;
            let known = before.get_or_insert_with(|| fingerprints(cx));
            let changed = Context::new(&contract, cx.snapshot, cx.access, cx.interrupts);
            let findings = fingerprints(&changed).difference(known).count();
            Some(Self { role: of.role.clone(), findings })
        };
        // Each of them is tried with all rules.
        to_confirm.iter().filter(is_worker).take(SHOWN).filter_map(could_be).collect()
    }

    /// Returns the call that makes the role a client, and what it makes a finding.
    fn statement(&self) -> String {
        let role = Declaration::Kind(self.role.clone(), RoleKind::Client).to_string();
        let call = format!("SELECT * FROM ops.declare({},", quote_literal(&role));
        let note = "note => 'why');";
        let is_short = call.chars().count() + 1 + note.len() <= STATEMENT_WIDTH;
        let call = format!("{call}{}{note}", if is_short { " " } else { "\n  " });
        match self.findings {
            0 => call,
            n => format!("{call}\n-- adds {}", counted(n, "finding")),
        }
    }
}

fn fingerprints(cx: &Context<'_>) -> HashSet<String> {
    reported(cx).into_iter().map(|finding| finding.fingerprint).collect()
}

/// An inferred contract with what remains under it.
pub struct Adoption<'a> {
    /// The contract.
    pub contract: &'a Contract,
    /// The access that it does not declare, because it does not work.
    pub left_out: &'a [LeftOut],
    /// The roles whose kind nothing declares.
    pub to_confirm: &'a [ToConfirm],
    /// Those of them that row security could limit if they were clients.
    pub could_be_clients: &'a [CouldBeClient],
    /// The errors and warnings under it, the worst first.
    pub remaining: &'a [Remaining],
    /// The roles to which default privileges open each new table.
    pub opened: &'a [String],
    /// The number of findings of severity info under it, which need no exemption.
    pub infos: usize,
    /// The time after which the exemptions expire, in words; `None` for never.
    pub expires_in: Option<&'a str>,
}

/// Returns the roles to which default privileges open new tables in declared schemas, except those
/// that have all privileges there: each new table is rejected until it is declared for them. `cx`
/// has the inferred contract.
#[must_use]
pub fn opened_by_default(cx: &Context<'_>) -> Vec<String> {
    let is_opened = |role: &Role| {
        let gives = |default: &DefaultAcl, item: &AclItem| {
            let is_on_tables = default.object_type == b'r' && item.grantee == role.oid;
            let is_not_declared = |schema: &SchemaDecl| {
                let is_there = cx.snapshot.schema_named(&schema.name);
                let is_there =
                    is_there.is_some_and(|of| default.schema == 0 || default.schema == of.oid);
                is_there && !schema.all_on_objects.contains(&role.name)
            };
            is_on_tables && cx.contract.schemas.iter().any(is_not_declared)
        };
        let defaults = cx.snapshot.default_acls.iter();
        defaults.filter(|of| of.role != role.oid).any(|of| of.acl.iter().any(|i| gives(of, i)))
    };
    let mut names: Vec<String> =
        cx.subjects.iter().filter(|role| is_opened(role)).map(|role| role.name.clone()).collect();
    names.sort();
    names
}

/// Returns the line about who may read the audits: superusers, and the readers and deployers that
/// exist. The server rejects any other role before the extension could say why.
#[must_use]
pub fn may_audit(readers: &[&str]) -> Line {
    let who: Vec<String> = readers.iter().map(|name| named(name)).collect();
    let who: Vec<String> = std::iter::once("superusers".to_owned()).chain(who).collect();
    let others = "; others: \"permission denied for schema ops\"";
    Line::new("audit", format!("{}{others}", fitted(&who, WIDTH - others.len())))
}

/// Returns the lines about who may approve what is rejected: superusers, the deployers that are
/// `able` to, and the others after a statement of `grants`, of which the first ones are shown.
#[must_use]
pub fn approval(able: &[&str], grants: &[String]) -> Vec<Line> {
    let mut who = vec!["superusers".to_owned()];
    who.extend(able.iter().map(|name| named(name)));
    let after = match grants.len() {
        0 => "",
        1 => "; to allow another role, as a superuser:",
        _ => "; to allow other roles, as a superuser:",
    };
    let names = fitted(&who, WIDTH - after.len());
    let mut lines = vec![Line::new("approve", format!("{names}{after}"))];
    let fitting = |grant: &String| {
        if grant.chars().count() <= STATEMENT_WIDTH {
            return grant.clone();
        }
        grant.replacen(" TO ", "\n  TO ", 1)
    };
    lines.extend(grants.iter().take(SHOWN).map(|grant| Line::new("grant", fitting(grant))));
    lines
}

impl Adoption<'_> {
    /// Returns the lines about what is declared, what is not, and what is exempted.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let schemas: Vec<String> = self.contract.schemas.iter().map(|s| named(&s.name)).collect();
        let mut lines = vec![
            Line::new("roles", self.roles()),
            Line::new("schemas", fitted(&schemas, WIDTH)),
            Line::new("objects", self.objects()),
        ];
        let optional = [
            ("confirm", self.kinds()),
            ("left out", self.not_declared()),
            ("new", self.rejected_later()),
        ];
        lines.extend(
            optional.into_iter().filter_map(|(topic, detail)| Some(Line::new(topic, detail?))),
        );
        lines.extend(self.other_kinds());
        lines.push(Line::new("exempt", self.exempted()));
        lines.extend(self.to_be_fixed().map(|detail| Line::new("fix", detail)));
        let worst = self.worst();
        let read = (!worst.is_empty()).then(|| Line::new("read", "docs/rules/<rule>.md"));
        lines.extend(worst.into_iter().map(|detail| Line::new("look at", detail)));
        lines.extend(read);
        lines
    }

    fn roles(&self) -> String {
        let of_kind = |kind: RoleKind| -> Vec<String> {
            let roles = self.contract.roles.iter().filter(|role| role.kind == kind);
            roles.map(|role| named(&role.name)).collect()
        };
        let kinds = [RoleKind::Client, RoleKind::Worker, RoleKind::Login, RoleKind::Owner];
        let kinds: Vec<(RoleKind, Vec<String>)> = kinds
            .into_iter()
            .map(|kind| (kind, of_kind(kind)))
            .filter(|(_, names)| !names.is_empty())
            .collect();
        if kinds.is_empty() {
            return "none: no role has privileges in these schemas".to_owned();
        }
        let of = |(kind, names): &(RoleKind, Vec<String>), width: usize| {
            let plural = if names.len() == 1 { "" } else { "s" };
            format!("{}{plural} {}", kind.as_str(), fitted(names, width))
        };
        let line = |width| kinds.iter().map(|kind| of(kind, width)).collect::<Vec<_>>().join("; ");
        let complete = line(usize::MAX);
        if complete.chars().count() <= WIDTH {
            return complete;
        }
        line(WIDTH / kinds.len() - "workers ; ".len())
    }

    fn objects(&self) -> String {
        let Contract { tables, views, sequences, functions, .. } = self.contract;
        let secured = tables.iter().filter(|table| table.row_security).count();
        let tables = match tables.len() {
            0 => "no tables".to_owned(),
            n => format!("{} ({secured} with row security)", counted(n, "table")),
        };
        let others = [(views.len(), "view"), (sequences.len(), "sequence")];
        let others = others.into_iter().chain([(functions.len(), "function")]);
        let others = others.filter(|(n, _)| *n > 0).map(|(n, what)| counted(n, what));
        [tables].into_iter().chain(others).collect::<Vec<_>>().join(", ")
    }

    /// Returns the kinds that a person should confirm.
    fn kinds(&self) -> Option<String> {
        let kind = |of: &ToConfirm| format!("{} is a {}", named(&of.role), of.kind.as_str());
        // Less is checked for a worker.
        let (workers, others): (Vec<&ToConfirm>, Vec<&ToConfirm>) =
            self.to_confirm.iter().partition(|of| of.kind == RoleKind::Worker);
        let kinds: Vec<String> = workers.into_iter().chain(others).map(kind).collect();
        let what = "these kinds of roles were inferred: ";
        (!kinds.is_empty()).then(|| format!("{what}{}", fitted(&kinds, WIDTH - what.len())))
    }

    /// Returns what follows from the kind of a worker, and the statements that change it.
    fn other_kinds(&self) -> Vec<Line> {
        if self.could_be_clients.is_empty() {
            return vec![];
        }
        let mut lines = vec![Line::new("worker", WORKER)];
        let shown = self.could_be_clients.iter().take(SHOWN);
        lines.extend(shown.map(|of| Line::new("client", of.statement())));
        lines
    }

    fn not_declared(&self) -> Option<String> {
        let of_defaults = self.remaining.iter().map(|remaining| &remaining.finding);
        let of_defaults = of_defaults.filter(|f| *f.rule == default_privileges::RULE);
        let roles: BTreeSet<&str> =
            of_defaults.flat_map(|f| &f.roles).map(String::as_str).collect();
        let mut parts = Vec::new();
        // The line about new tables says it of those that it names.
        let is_said = roles.iter().all(|role| self.opened.iter().any(|opened| opened == role));
        if !is_said {
            let roles: Vec<String> = roles.into_iter().map(named).collect();
            parts.push(format!("default privileges on new objects ({})", fitted(&roles, 40)));
        }
        if !self.left_out.is_empty() {
            let count = counted(self.left_out.len(), "privilege");
            parts.push(format!("{count} whose use fails, as ops.infer_contract() lists"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Returns that new tables have to be declared.
    fn rejected_later(&self) -> Option<String> {
        let what = "tables need ops.declare() first: default privileges open them to ";
        let roles: Vec<String> = self.opened.iter().map(|name| named(name)).collect();
        (!roles.is_empty()).then(|| format!("{what}{}", fitted(&roles, WIDTH - what.len())))
    }

    fn exempted(&self) -> String {
        let exempt = self.remaining.iter().filter(|remaining| remaining.can_be_exempt);
        let count = |severity: Severity| {
            exempt.clone().filter(|of| of.finding.severity == severity).count()
        };
        let counts = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning")];
        let counts = counts.into_iter().filter(|(n, _)| *n > 0);
        let counts: Vec<String> = counts.map(|(n, what)| counted(n, what)).collect();
        let infos = match self.infos {
            0 => String::new(),
            1 => "; 1 of severity info needs no exemption".to_owned(),
            n => format!("; {n} of severity info need no exemption"),
        };
        if counts.is_empty() {
            return format!("nothing: no error or warning remains{infos}");
        }
        let end = match self.expires_in {
            Some(time) => format!("for {time}"),
            None => "without an end".to_owned(),
        };
        format!("{} {end}{infos}", counts.join(" and "))
    }

    /// Returns the findings that no exemption should hide.
    fn to_be_fixed(&self) -> Option<String> {
        let findings = self.remaining.iter().filter(|remaining| !remaining.can_be_exempt);
        let names: Vec<String> = findings.map(|remaining| subject(&remaining.finding)).collect();
        (!names.is_empty()).then(|| format!("not exempted: {}", fitted(&names, WIDTH - 14)))
    }

    /// Returns a line for each of the worst rules with exempted findings.
    fn worst(&self) -> Vec<String> {
        let mut kinds: Vec<(&Finding, usize)> = Vec::new();
        for Remaining { finding, .. } in self.remaining.iter().filter(|of| of.can_be_exempt) {
            let is_same = |(first, _): &&mut (&Finding, usize)| {
                (first.rule.id, first.severity) == (finding.rule.id, finding.severity)
            };
            match kinds.iter_mut().find(is_same) {
                Some((_, count)) => *count += 1,
                None => kinds.push((finding, 1)),
            }
        }
        let line = |(finding, count): &(&Finding, usize)| {
            let more = match count {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let severity = finding.severity.as_str();
            let room = WIDTH.saturating_sub(severity.len() + 1 + more.len());
            format!("{severity} {}{more}", shortened(&subject(finding), room))
        };
        kinds.iter().take(SHOWN).map(line).collect()
    }
}

/// Returns rule, object and roles of a finding.
fn subject(finding: &Finding) -> String {
    let roles = match finding.roles.as_slice() {
        [] => String::new(),
        roles => {
            format!(" ({})", roles.iter().map(|r| printable(r)).collect::<Vec<_>>().join(", "))
        }
    };
    format!("{} {}{roles}", finding.rule.id, finding.object.name_in_message())
}

/// Returns a name as SQL would have it, without unprintable characters.
fn named(name: &str) -> String {
    printable(&quote_ident(name)).into_owned()
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Returns the names in a line of at most `width` characters, and how many do not fit; the first
/// one in any case.
fn fitted(names: &[String], width: usize) -> String {
    const MORE: usize = " and 1000 more".len();
    let mut line = String::new();
    for (i, name) in names.iter().enumerate() {
        let is_last = i + 1 == names.len();
        let room = if is_last { width } else { width.saturating_sub(MORE) };
        if i > 0 && line.chars().count() + ", ".len() + name.chars().count() > room {
            return format!("{line} and {} more", names.len() - i);
        }
        if i > 0 {
            line += ", ";
        }
        line += name;
    }
    line
}

/// Returns the first `width` characters of a text, with dots where it is longer.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(3)).collect();
    short += "...";
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::Privileges;
    use crate::contract::DEFAULT;
    use crate::infer::exempt::remaining;
    use crate::infer::tests::{inferred, strict_world};
    use crate::rules::testing::World;

    fn lines_of(contract: &Contract, remaining: &[Remaining], infos: usize) -> Vec<String> {
        let adoption = Adoption {
            contract,
            left_out: &[],
            to_confirm: &[],
            could_be_clients: &[],
            remaining,
            opened: &[],
            infos,
            expires_in: Some("90 days"),
        };
        adoption
            .lines()
            .into_iter()
            .map(|line| format!("{}: {}", line.topic, line.detail))
            .collect()
    }

    fn remaining_in(world: &World) -> (Contract, Vec<Remaining>) {
        let (contract, found) = inferred(world);
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let remaining = remaining(&Context::new(&contract, &snapshot, &access, &|| {}), found);
        (contract, remaining)
    }

    #[test]
    fn contract_without_findings_needs_no_exemption() {
        let (contract, left) = remaining_in(&strict_world());
        assert_eq!(left, []);
        let lines = lines_of(&contract, &left, 2);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(lines[0].starts_with("roles: clients anon, authenticated; worker "), "{lines:#?}");
        assert!(lines[2].contains(" with row security), "), "{lines:#?}");
        assert_eq!(
            lines[3],
            "exempt: nothing: no error or warning remains; 2 of severity info need no exemption"
        );
    }

    #[test]
    fn worst_findings_are_shown_once_for_each_rule_with_their_pages() {
        let mut world = strict_world();
        for table in ["public.plaintiffs", "public.judgments"] {
            world.relation(table).row_security = false;
        }
        let (contract, left) = remaining_in(&world);
        let lines = lines_of(&contract, &left, 0);
        let errors = left.iter().filter(|of| of.finding.severity == Severity::Error).count();
        assert!(errors > 1, "{left:#?}");
        let exempt = format!("exempt: {errors} errors");
        let exempted = lines.iter().find(|line| line.starts_with(&exempt));
        assert!(exempted.is_some_and(|line| line.ends_with(" for 90 days")), "{lines:#?}");
        let look: Vec<&String> = lines.iter().filter(|l| l.starts_with("look at: ")).collect();
        assert!((1..=SHOWN).contains(&look.len()), "{lines:#?}");
        let first = left[0].finding.rule.id;
        assert!(look[0].starts_with(&format!("look at: error {first} ")), "{lines:#?}");
        assert_eq!(lines.last().unwrap(), "read: docs/rules/<rule>.md");
    }

    #[test]
    fn roles_that_default_privileges_give_new_tables_are_named() {
        let mut world = strict_world();
        let (role, schema) = (world.role("postgres").oid, world.schema("public").oid);
        let client = world.role("authenticated").oid;
        let acl = vec![AclItem {
            grantee: client,
            grantor: role,
            privileges: crate::catalog::Privileges::SELECT,
            grantable: crate::catalog::Privileges::NONE,
        }];
        let opened = |world: &World| {
            let (contract, _) = inferred(world);
            let snapshot = world.snapshot.clone().complete();
            let access = Access::new(&snapshot);
            opened_by_default(&Context::new(&contract, &snapshot, &access, &|| {}))
        };
        assert_eq!(opened(&world), [""; 0]);
        let default = DefaultAcl { role, schema, object_type: b'S', acl: acl.into() };
        world.snapshot.default_acls.push(default.clone());
        assert_eq!(opened(&world), [""; 0], "sequences");
        world.snapshot.default_acls.push(DefaultAcl { object_type: b'r', ..default });
        assert_eq!(opened(&world), ["authenticated"]);
    }

    #[test]
    fn what_no_exemption_should_hide_is_named() {
        let (contract, mut left) = {
            let mut world = strict_world();
            world.relation("public.judgments").row_security = false;
            remaining_in(&world)
        };
        left.truncate(1);
        left[0].can_be_exempt = false;
        let lines = lines_of(&contract, &left, 0);
        assert!(lines.iter().any(|line| line.starts_with("fix: not exempted: ")), "{lines:#?}");
        assert!(lines.contains(&"exempt: nothing: no error or warning remains".to_owned()));
    }

    #[test]
    fn line_is_never_wider_than_the_screen() {
        let mut contract = Contract::from_json(DEFAULT).unwrap();
        for i in 0..500 {
            let mut schema = contract.schemas[0].clone();
            schema.name = format!("a_long_schema_name_{i}");
            contract.schemas.push(schema);
            let mut role = contract.roles[0].clone();
            role.name = format!("tenant_role_{i}");
            contract.roles.push(role);
        }
        let lines = lines_of(&contract, &[], 0);
        let widest = lines.iter().map(|line| line.chars().count()).max();
        assert!(widest < Some(WIDTH + 15), "{lines:#?}");
        assert!(lines[1].ends_with(" more"), "{lines:#?}");
    }

    #[test]
    fn roles_that_approve_are_named_with_the_grants_that_others_lack() {
        let shown = |able: &[&str], grants: &[String]| -> Vec<String> {
            let lines = approval(able, grants).into_iter();
            lines.map(|line| format!("{}: {}", line.topic, line.detail)).collect()
        };
        assert_eq!(shown(&[], &[]), ["approve: superusers"]);
        assert_eq!(shown(&["Ann"], &[]), ["approve: superusers, \"Ann\""]);
        assert_eq!(
            shown(&[], &["GRANT ...;".to_owned()]),
            ["approve: superusers; to allow another role, as a superuser:", "grant: GRANT ...;"]
        );
        let long = format!("GRANT {} TO a;", "x".repeat(STATEMENT_WIDTH));
        assert!(shown(&[], &[long])[1].ends_with("x\n  TO a;"));
        let many: Vec<String> = (0..9).map(|i| format!("GRANT {i};")).collect();
        assert_eq!(shown(&[], &many).len(), 1 + SHOWN);
    }

    #[test]
    fn worker_is_shown_with_what_makes_it_a_client_and_the_findings_that_this_adds() {
        let mut world = strict_world();
        world.add_login("reports");
        let role = world.role("reports").oid;
        let plaintiffs = world.relation("public.plaintiffs");
        plaintiffs.row_security = false;
        plaintiffs.acl.as_mut().unwrap().clear();
        world.grant("public.plaintiffs", role, Privileges::SELECT);
        let (contract, _) = inferred(&world);
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&contract, &snapshot, &access, &|| {});
        let of = |role: &str, kind| ToConfirm { role: role.into(), kind, why: String::new() };
        let to_confirm = [
            of("anon", RoleKind::Client),
            of("reports", RoleKind::Worker),
            of("service_role", RoleKind::Worker),
        ];
        let could_be_clients = CouldBeClient::among(&cx, &to_confirm);
        let [reports] = could_be_clients.as_slice() else { panic!("{could_be_clients:?}") };
        assert_eq!(reports.role, "reports");
        assert!(reports.findings > 0, "it can read a table without row security");
        let of_world = Adoption {
            contract: &contract,
            left_out: &[],
            to_confirm: &to_confirm,
            could_be_clients: &could_be_clients,
            remaining: &[],
            opened: &[],
            infos: 0,
            expires_in: None,
        };
        let lines = of_world.other_kinds();
        assert_eq!(lines.iter().map(|line| line.topic).collect::<Vec<_>>(), ["worker", "client"]);
        let findings = counted(reports.findings, "finding");
        assert_eq!(
            lines[1].detail,
            format!(
                "SELECT * FROM ops.declare('ALTER ROLE reports SET contract.kind = client', note \
                 => 'why');\n-- adds {findings}"
            )
        );
        let none = Adoption { could_be_clients: &[], ..of_world };
        assert_eq!(none.other_kinds(), []);
    }

    #[test]
    fn names_that_do_not_fit_are_counted() {
        let names = ["anon", "authenticated", "service_role"].map(str::to_owned);
        assert_eq!(fitted(&names, 40), "anon, authenticated, service_role");
        assert_eq!(fitted(&names, 30), "anon and 2 more");
        assert_eq!(fitted(&names[..1], 2), "anon");
        assert_eq!(shortened("public.a", 8), "public.a");
        assert_eq!(shortened("public.abcdef", 10), "public....");
    }
}
