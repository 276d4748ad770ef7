//! Privileges that differ from the declared ones, and the GRANT and REVOKE that fix the difference,
//! for all rules about privileges.

use super::target::Target;
use crate::access::Access;
use crate::catalog::{
    Acl, AclItem, ObjectId, ObjectKind, Oid, PUBLIC, Privileges, RelationKind, Role,
};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{AclStatement, Change, Fix, Grantee, Securable, Statement, Verb};
use crate::rules::context::Context;
use crate::sql::printable;
use serde_json::json;

/// A difference between the privileges of a role and those declared for it.
pub(crate) struct Difference {
    /// [`PUBLIC`] or a role.
    pub role: Oid,
    pub privileges: Privileges,
}

impl Target<'_> {
    /// Adds a finding for each of `roles`, and for PUBLIC, that has privileges in `mask` which are
    /// not `declared`. A privilege of PUBLIC is one finding, about PUBLIC, unless it is declared
    /// for all of the roles.
    pub(crate) fn report_undeclared(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let for_all = cx.declared_for_all(roles, declared, mask);
        self.report_public(cx, declared, mask & !for_all, severity, out);
        self.report_roles(cx, roles, declared, mask, severity, out);
    }

    /// Adds a finding for the privileges in `mask` that PUBLIC has.
    pub(crate) fn report_public(
        &self,
        cx: &Context<'_>,
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let privileges = Access::public(&self.acl_or_default()) & mask;
        if !privileges.is_empty() {
            let mut draft =
                self.undeclared_draft(cx, &Difference { role: PUBLIC, privileges }, severity);
            if let Fix::Statements(revoke) = draft.fix {
                draft.fix = Fix::Statements(
                    [self.keeping_declared(cx, declared, privileges), revoke].concat(),
                );
            }
            out.push(draft);
        }
    }

    /// Does the same as [`Self::report_undeclared`], without PUBLIC.
    pub(crate) fn report_roles(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let acl = self.acl_or_default();
        for role in roles {
            let privileges = cx.granted(role, &acl) & mask & !declared(role);
            if !privileges.is_empty() {
                out.push(self.undeclared_draft(
                    cx,
                    &Difference { role: role.oid, privileges },
                    severity,
                ));
            }
            let grantable =
                acl.iter().filter(|item| item.grantee == role.oid && role.oid != self.owner);
            let grantable = grantable.fold(Privileges::NONE, |all, item| all | item.grantable)
                & mask
                & declared(role);
            if !grantable.is_empty() {
                out.push(
                    self.grant_option_draft(
                        cx,
                        &Difference { role: role.oid, privileges: grantable },
                    ),
                );
            }
        }
    }

    /// Returns the finding about the grant option for a declared privilege.
    fn grant_option_draft(&self, cx: &Context<'_>, difference: &Difference) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let detail = format!(
            "{} has the grant option for {privileges} on {}, which the contract does not declare.",
            role_subject(role, &name),
            self.name
        );
        let revoke = self.revoke_options(cx, role, privileges);
        Draft::new(self.object.clone(), Severity::Error, detail)
            .grantee(role, name)
            .key(format!("grant option {privileges}"))
            .evidence(json!({"problem": "grant option", "privileges": privileges.words()}))
            .fix(Fix::or_proposal(revoke, || self.no_chain(cx, difference)))
            .measure(Measure::excess(self.problem("grant option"), privileges.words()))
    }

    /// As [`Self::report_roles`] for workers on a relation, where MAINTAIN is part of ALL since 17.
    pub(crate) fn report_undeclared_of_workers(
        &self,
        cx: &Context<'_>,
        workers: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        out: &mut Vec<Draft>,
    ) {
        let allowed = |role: &Role| match declared(role) {
            all if all.contains(Privileges::ALL_ON_TABLE) => all | Privileges::MAINTAIN,
            some => some,
        };
        self.report_roles(cx, workers, &allowed, Privileges(u32::MAX), Severity::Error, out);
    }

    /// Returns the grants that keep declared privileges of roles when PUBLIC loses them.
    pub(crate) fn keeping_declared(
        &self,
        cx: &Context<'_>,
        declared: &dyn Fn(&Role) -> Privileges,
        from_public: Privileges,
    ) -> Vec<Statement> {
        let acl = self.acl_or_default();
        cx.subjects
            .iter()
            .copied()
            .filter_map(|role| {
                let lost = declared(role)
                    & from_public
                    & !cx.access.granted(role.oid, &acl)
                    & !self.on_table(cx, role);
                (!lost.is_empty()).then(|| self.statement(cx, Verb::Keep, lost, role.oid, false))
            })
            .collect()
    }

    /// Adds a finding for each of `roles` that does not have a declared privilege, neither by
    /// itself nor through PUBLIC or a membership.
    pub(crate) fn report_missing(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        for role in roles {
            let privileges =
                declared(role) & !cx.access.privileges(role.oid, self.owner, self.acl, self.kind);
            if !privileges.is_empty() {
                out.push(self.missing_draft(
                    cx,
                    &Difference { role: role.oid, privileges },
                    severity,
                ));
            }
        }
    }

    /// Returns the finding about privileges that are not declared.
    pub(crate) fn undeclared_draft(
        &self,
        cx: &Context<'_>,
        difference: &Difference,
        severity: Severity,
    ) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let (how, through) = self.how_held(cx, difference);
        let detail = format!(
            "{} has {privileges} on {}{how}, which the contract does not declare.",
            role_subject(role, &name),
            self.name
        );
        // There may be a role whose name is "PUBLIC".
        let to_all = if role == PUBLIC { " to all" } else { "" };
        let column = self.column.map(|c| format!(" ({c})")).unwrap_or_default();
        let fix = Fix::or_proposal(self.revoke(cx, difference), || {
            if role == self.owner {
                format!("Change the owner of {}.", self.name)
            } else {
                self.no_chain(cx, difference)
            }
        });
        // CREATE FUNCTION cannot omit the privilege that the server grants to PUBLIC by default.
        let at_most = if role == PUBLIC && self.acl.is_none() {
            GuardAction::Warn
        } else {
            GuardAction::Block
        };
        Draft::new(self.object.clone(), severity, detail)
            .grantee(role, name)
            .key(format!("undeclared {privileges}{to_all}{column}"))
            .evidence(json!({
                "problem": "undeclared",
                "privileges": privileges.words(),
                "through": through,
                "column": self.column,
            }))
            .fix(fix)
            .measure(
                Measure::excess(self.problem("undeclared"), privileges.words()).limited_to(at_most),
            )
    }

    /// Returns the privileges of a role on the table, where this is a column.
    fn on_table(&self, cx: &Context<'_>, role: &Role) -> Privileges {
        match (self.column, self.object.id) {
            (Some(_), ObjectId::Relation(oid)) => {
                let acl = cx.snapshot.relation(oid).and_then(|table| table.acl.as_ref());
                acl.map_or(Privileges::NONE, |acl| cx.access.granted(role.oid, acl))
            }
            _ => Privileges::NONE,
        }
    }

    /// Returns the finding about declared privileges that are missing.
    fn missing_draft(
        &self,
        cx: &Context<'_>,
        difference: &Difference,
        severity: Severity,
    ) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let detail = format!(
            "{} does not have {privileges} on {}, which the contract declares.",
            role_subject(role, &name),
            self.name
        );
        // A missing privilege can be an outage, but exposes nothing. For a routine, REVOKE from
        // PUBLIC and GRANT to the declared roles are two statements.
        let at_most =
            if self.kind == ObjectKind::Routine { GuardAction::Audit } else { GuardAction::Warn };
        Draft::new(self.object.clone(), severity, detail)
            .grantee(role, name)
            .key(format!("missing {privileges}"))
            .evidence(json!({"problem": "missing", "privileges": privileges.words()}))
            .fix(Fix::by(self.statement(cx, Verb::Grant, privileges, role, false)))
            .measure(Measure::missing("missing", privileges.words()).limited_to(at_most))
    }

    /// Returns the kind of problem, with the column where there is one.
    fn problem(&self, what: &str) -> String {
        self.column.map_or_else(|| what.to_owned(), |column| format!("{what} ({column})"))
    }

    /// Returns a GRANT or REVOKE by the owner.
    fn statement(
        &self,
        cx: &Context<'_>,
        verb: Verb,
        privileges: Privileges,
        role: Oid,
        cascade: bool,
    ) -> Statement {
        let grantee = Grantee { oid: role, sql: cx.snapshot.grantee(role) };
        Statement::Acl(AclStatement {
            verb,
            privileges,
            on: self.securable(),
            grantees: vec![grantee],
            cascade,
        })
    }

    fn securable(&self) -> Securable {
        let all = match self.kind {
            ObjectKind::Relation if self.version >= 17 => {
                Privileges::ALL_ON_TABLE | Privileges::MAINTAIN
            }
            ObjectKind::Relation => Privileges::ALL_ON_TABLE,
            ObjectKind::Sequence => Privileges::ALL_ON_SEQUENCE,
            _ => Privileges::NONE,
        };
        Securable {
            id: self.object.id,
            kind: self.kind,
            sql: format!("{} {}", self.keyword, self.sql),
            column: self.column.map(str::to_owned),
            all,
        }
    }

    /// Returns how the role has the privileges, as a clause, and the roles through which it has
    /// them.
    fn how_held(&self, cx: &Context<'_>, difference: &Difference) -> (String, Vec<String>) {
        if difference.role == PUBLIC {
            let how = if self.acl.is_none() { " by default" } else { "" };
            return (how.to_owned(), vec![]);
        }
        if difference.role == self.owner {
            return (" as its owner".to_owned(), vec![]);
        }
        let mut through: Vec<String> = self
            .items(cx, difference)
            .iter()
            .filter(|i| i.grantee != difference.role)
            .map(|i| cx.snapshot.role_name(i.grantee))
            .collect();
        through.sort();
        through.dedup();
        let how = if through.is_empty() {
            String::new()
        } else {
            let mut names: Vec<String> =
                through.iter().take(5).map(|n| format!("\"{}\"", printable(n))).collect();
            if through.len() > names.len() {
                names.push(format!("{} others", through.len() - names.len()));
            }
            format!(" through membership in {}", crate::sql::listed(&names))
        };
        (how, through)
    }

    /// Returns the ACL entries that give the role these privileges.
    fn items(&self, cx: &Context<'_>, difference: &Difference) -> Acl {
        let closure = cx.own_grantees(difference.role);
        let mut items = self.acl_or_default();
        items.retain(|item| {
            // Privileges of PUBLIC are another difference: only PUBLIC's own closure contains it.
            closure.contains(&item.grantee) && item.privileges.intersects(difference.privileges)
        });
        items
    }

    /// Returns the statements that revoke the privileges, or the membership through which the role
    /// has them. `None` where the role owns the object: the next owner is a person's decision.
    fn revoke(&self, cx: &Context<'_>, difference: &Difference) -> Option<Vec<Statement>> {
        if difference.role == self.owner {
            return None;
        }
        let mut statements: Vec<Statement> = Vec::new();
        for item in self.items(cx, difference) {
            let more = if item.grantee == difference.role {
                vec![self.revoke_item(cx, &item, difference.privileges)?]
            } else {
                end_membership(
                    cx,
                    difference.role,
                    cx.access.first_step(difference.role, item.grantee)?,
                )?
            };
            for statement in more {
                if !statements.contains(&statement) {
                    statements.push(statement);
                }
            }
        }
        Some(statements)
    }

    /// Returns the REVOKE of one ACL entry. REVOKE acts for the owner of the object; an entry of
    /// another grantor is revoked together with the grant option of that grantor, which comes from
    /// the owner in one or more steps. `None` where no chain of grants leads to the owner.
    fn revoke_item(
        &self,
        cx: &Context<'_>,
        item: &AclItem,
        privileges: Privileges,
    ) -> Option<Statement> {
        let held = item.privileges & privileges;
        if item.grantor == self.owner {
            return Some(self.statement(
                cx,
                Verb::Revoke,
                held,
                item.grantee,
                item.grantable.intersects(privileges),
            ));
        }
        let root = self.root_of(cx, item.grantor, held)?;
        Some(self.statement(cx, Verb::RevokeGrantOption, held, root, true))
    }

    /// Returns the statements that revoke the grant options of `role` itself.
    fn revoke_options(
        &self,
        cx: &Context<'_>,
        role: Oid,
        privileges: Privileges,
    ) -> Option<Vec<Statement>> {
        let mut statements: Vec<Statement> = Vec::new();
        for item in self
            .acl_or_default()
            .iter()
            .filter(|item| item.grantee == role && item.grantable.intersects(privileges))
        {
            let options = item.grantable & privileges;
            let from = if item.grantor == self.owner {
                role
            } else {
                self.root_of(cx, item.grantor, options)?
            };
            let statement = self.statement(cx, Verb::RevokeGrantOption, options, from, true);
            if !statements.contains(&statement) {
                statements.push(statement);
            }
        }
        Some(statements)
    }

    /// Returns the role that received the grant option from the owner, at the beginning of the
    /// chain of grants to `grantor`: if it loses the option, all dependent grants are revoked.
    /// `None` where no chain leads to the owner, or where a role in it has the privileges of the
    /// owner anyway (acl.c, `recursive_revoke`).
    fn root_of(&self, cx: &Context<'_>, mut grantor: Oid, privileges: Privileges) -> Option<Oid> {
        let acl = self.acl_or_default();
        for _ in 0..acl.len() {
            if cx.access.has_privileges_of(grantor, self.owner) {
                return None;
            }
            let option =
                acl.iter().find(|i| i.grantee == grantor && i.grantable.intersects(privileges))?;
            if option.grantor == self.owner {
                return Some(grantor);
            }
            grantor = option.grantor;
        }
        None
    }

    /// Returns the proposal for a grant that only its grantor can revoke.
    fn no_chain(&self, cx: &Context<'_>, difference: &Difference) -> String {
        let holds = |i: &&AclItem| {
            i.privileges.intersects(difference.privileges) && i.grantor != self.owner
        };
        let of_role = |i: &AclItem| i.grantee == difference.role;
        let items = self.items(cx, difference);
        let item = items.iter().filter(holds).find(|i| of_role(i)).or(items.iter().find(holds));
        match item {
            Some(item) => format!(
                "Only the grantor, {grantor}, can revoke it: SET ROLE {grantor}; {} RESET ROLE;",
                self.statement(
                    cx,
                    Verb::Revoke,
                    item.privileges & difference.privileges,
                    item.grantee,
                    true
                ),
                grantor = cx.snapshot.grantee(item.grantor)
            ),
            None => format!(
                "Find out through which grant or membership the role has the privilege on {}.",
                self.name
            ),
        }
    }
}

/// Adds findings for the clients that can read undeclared views of one kind. A view that runs with
/// the privileges of its caller (security_invoker) shows nothing that the caller cannot read
/// directly, and is only information.
pub(crate) fn report_undeclared_readers(
    cx: &Context<'_>,
    kind: RelationKind,
    out: &mut Vec<Draft>,
) {
    for (view, schema) in cx.relations().filter(|(r, _)| r.kind == kind) {
        if cx.contract.view(&schema.name, &view.name).is_some() {
            continue;
        }
        let declared = |role: &Role| cx.declared_on_relation(view, schema, role);
        let severity = if view.security_invoker { Severity::Info } else { Severity::Error };
        Target::of_relation(cx, view).report_undeclared(
            cx,
            &cx.clients,
            &declared,
            Privileges::SELECT,
            severity,
            out,
        );
    }
}

/// Returns the `REVOKE role FROM member` statements, one for each grantor since 16, where the
/// server distinguishes grantors. `None` where there is no such grant: a database owner is an
/// implicit member of `pg_database_owner`.
pub(crate) fn end_membership(cx: &Context<'_>, member: Oid, role: Oid) -> Option<Vec<Statement>> {
    let statements: Vec<Statement> = cx
        .snapshot
        .memberships
        .iter()
        .filter(|m| m.member == member && m.role == role)
        .map(|m| {
            let by = match cx.snapshot.version {
                ..16 => String::new(),
                _ => format!(" GRANTED BY {}", cx.snapshot.grantee(m.grantor)),
            };
            let cascade = if m.admin { " CASCADE" } else { "" };
            let (role, member) = (cx.snapshot.grantee(role), cx.snapshot.grantee(member));
            Statement::new(
                Change::RevokeMembership(m.clone()),
                format!("REVOKE {role} FROM {member}{by}{cascade};"),
            )
        })
        .collect();
    (!statements.is_empty()).then_some(statements)
}

/// Returns the role as the subject of a sentence.
pub(crate) fn role_subject(role: Oid, name: &str) -> String {
    if role == PUBLIC {
        "PUBLIC (every role)".to_owned()
    } else {
        format!("Role \"{}\"", printable(name))
    }
}

/// Returns the role within a sentence.
pub(crate) fn role_object(role: Oid, name: &str) -> String {
    if role == PUBLIC {
        "PUBLIC (every role)".to_owned()
    } else {
        format!("role \"{}\"", printable(name))
    }
}
