//! Which privileges a statement needs, and who has them.

use super::chain::how;
use super::{Attempt, Link, Moment, Outcome, checked_as, usage};
use crate::catalog::{FIRST_UNPINNED, Oid, Privileges, Relation, RelationKind, Role};
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};

/// What the server asks for before it runs a statement, on one relation (`RTEPermissionInfo`;
/// before 16 a part of `RangeTblEntry`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// On which relation.
    pub relation: Oid,
    /// As whom, where not as the role itself: the owner of a view.
    pub check_as: Option<Oid>,
    /// All of these.
    pub privileges: Privileges,
    /// ... or one of these.
    pub or: Privileges,
    /// The columns that are read; none: any one will do.
    pub selected: Vec<String>,
    /// The columns that are given values by INSERT.
    pub inserted: Vec<String>,
    /// The columns that are changed by UPDATE.
    pub updated: Vec<String>,
    /// When it is asked.
    pub moment: Moment,
    /// The relation is looked up by its name then, which takes USAGE on its schema.
    pub by_name: bool,
    /// It is what the statement reads, or changes, itself: what its result comes from.
    pub is_target: bool,
    /// A person has asked about these columns and no others, or a view reads no others.
    pub is_partial: bool,
}

impl Need {
    fn columns(&self, privilege: Privileges) -> &[String] {
        match privilege {
            Privileges::SELECT => &self.selected,
            Privileges::INSERT => &self.inserted,
            _ => &self.updated,
        }
    }
}

/// A link for each privilege that is needed, in the order in which the server asks at that moment.
pub(super) fn links(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    moment: Moment,
    outcome: &mut Outcome,
) -> Vec<Link> {
    let mut links = Vec::new();
    for need in attempt.needs.iter().filter(|need| need.moment == moment) {
        cx.check_interrupts();
        let (Some(relation), Some(who)) =
            (cx.snapshot.relation(need.relation), checked_as(cx, role, need.check_as))
        else {
            continue;
        };
        if need.by_name {
            let usage = usage(cx, who, cx.snapshot.schema(relation.schema), outcome);
            links.extend(Some(usage).filter(|link| link.ok == Some(false)));
        }
        for word in need.privileges.words() {
            let privilege = word.parse().unwrap_or_default();
            links.push(link(cx, who, relation, need, privilege, outcome));
        }
    }
    links
}

fn link(
    cx: &Context<'_>,
    who: &Role,
    relation: &Relation,
    need: &Need,
    privilege: Privileges,
    outcome: &mut Outcome,
) -> Link {
    let (kind, sql) = (relation.kind.object_type(), cx.snapshot.relation_sql(relation));
    let name = printable(&who.name);
    let whole = cx.access.relation_privileges(who.oid, relation);
    let lacking = lacking(cx, who, relation, need, privilege);
    let as_owner = match need.check_as {
        Some(_) => format!(", as \"{name}\", the owner of the view"),
        None => String::new(),
    };
    let step = format!("{privilege} on {kind} {sql}{as_owner}");
    let Some(lacking) = lacking else {
        let detail = match whole.intersects(privilege | need.or) || who.superuser {
            true => {
                let by = (relation.owner, relation.acl.as_ref(), relation.kind.acl_kind());
                format!(
                    "Role \"{name}\" has {}{}.",
                    held_words(whole, privilege, need.or),
                    how(cx, who, by, privilege | need.or)
                )
            }
            false => format!(
                "Role \"{name}\" has {privilege} on {}.",
                column_list(need.columns(privilege))
            ),
        };
        return Link { step, ok: Some(true), detail, fix: None };
    };
    outcome.deny(format!(
        "permission denied for {} {}",
        refused_kind(relation),
        printable(&relation.name)
    ));
    let grantee = safe_ident(&who.name);
    let word = if relation.kind == RelationKind::Sequence { "SEQUENCE" } else { "TABLE" };
    let columns: Vec<String> = lacking.iter().map(|c| safe_ident(c).into_owned()).collect();
    let (detail, what) = match columns.as_slice() {
        // Of a sequence there are no privileges on columns.
        _ if relation.kind == RelationKind::Sequence => {
            (format!("Role \"{name}\" lacks {privilege}."), privilege.to_string())
        }
        [] => (format!("Role \"{name}\" lacks {privilege}."), privilege.to_string()),
        columns => (
            format!("Role \"{name}\" lacks {privilege} on {}.", column_list(&lacking)),
            format!("{privilege} ({})", columns.join(", ")),
        ),
    };
    // Nobody but a superuser changes catalogs (aclchk.c, `pg_class_aclmask_ext`).
    let is_catalog = relation.oid < FIRST_UNPINNED
        && relation.kind == RelationKind::Table
        && privilege != Privileges::SELECT;
    let fix = (!is_catalog).then(|| format!("GRANT {what} ON {word} {sql} TO {grantee};"));
    Link { step, ok: Some(false), detail, fix }
}

/// `None` where the role has it. The columns on which it is lacking, where it is there on others or
/// on these alone was asked for; none where it is lacking altogether (execMain.c,
/// `ExecCheckOneRelPerms`).
fn lacking(
    cx: &Context<'_>,
    who: &Role,
    relation: &Relation,
    need: &Need,
    privilege: Privileges,
) -> Option<Vec<String>> {
    if cx.access.relation_privileges(who.oid, relation).intersects(privilege | need.or) {
        return None;
    }
    let by_column = Privileges::SELECT | Privileges::INSERT | Privileges::UPDATE;
    if !by_column.contains(privilege) {
        return Some(vec![]);
    }
    let has =
        |column: &str| cx.access.column_privileges(who.oid, relation, column).contains(privilege);
    let columns = need.columns(privilege);
    if columns.is_empty() {
        return if relation.columns.iter().any(|(name, _)| has(name)) {
            None
        } else {
            Some(vec![])
        };
    }
    let lacking: Vec<String> = columns.iter().filter(|c| !has(c)).cloned().collect();
    if lacking.is_empty() {
        return None;
    }
    Some(if lacking.len() == columns.len() && !need.is_partial { vec![] } else { lacking })
}

/// What of it the role has.
fn held_words(held: Privileges, privilege: Privileges, or: Privileges) -> String {
    let some = held & (privilege | or);
    if some.is_empty() { privilege.to_string() } else { some.to_string() }
}

/// `column a`, `columns a and b`.
fn column_list(columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().take(8).map(|c| safe_ident(c).into_owned()).collect();
    let more = if columns.len() > names.len() {
        format!(" and {} more", columns.len() - names.len())
    } else {
        String::new()
    };
    match names.as_slice() {
        [] => "some column".into(),
        [only] => format!("column {only}"),
        names if more.is_empty() => format!("columns {}", listed(names)),
        names => format!("columns {}{more}", names.join(", ")),
    }
}

/// As the server's error calls it (aclchk.c, `aclcheck_error`).
fn refused_kind(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable => "table",
        other => other.object_type(),
    }
}
