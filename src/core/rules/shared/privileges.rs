//! What roles hold on an object beside what is declared for them, and the GRANT and REVOKE that
//! make the two equal. Every rule about privileges asks here.

use crate::access::Access;
use crate::catalog::{Acl, AclItem, Object, ObjectId, ObjectKind, Oid, PUBLIC, Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{AclStatement, Change, Fix, Grantee, Securable, Statement, Verb};
use crate::rules::context::Context;
use crate::sql::printable;
use serde_json::json;

/// An object with an ACL.
pub(crate) struct Target<'a> {
    pub owner: Oid,
    pub acl: Option<&'a Acl>,
    pub kind: ObjectKind,
    /// After the word ON: `TABLE public.t`, `SCHEMA intake`.
    pub sql: String,
    /// As a sentence names it: `table public.t`.
    pub name: String,
    pub object: Object,
    /// The column list of a column ACL.
    pub column: Option<&'a str>,
    /// The server's: ALL means more from 17 on.
    pub version: u32,
}

/// One difference between what a role holds and what is declared for it.
pub(crate) struct Difference {
    /// [`PUBLIC`] or a role.
    pub role: Oid,
    pub privileges: Privileges,
}

impl Target<'_> {
    fn acl(&self) -> Acl {
        self.acl.cloned().unwrap_or_else(|| {
            let mut acl = self.kind.default_acl(self.owner);
            // Before 17 there was no such privilege to have.
            acl.iter_mut()
                .filter(|_| self.version < 17)
                .for_each(|i| i.privileges = i.privileges & !Privileges::MAINTAIN);
            acl
        })
    }

    /// Writes down what each of `roles`, and PUBLIC, holds beyond what `declared` gives it, as far
    /// as it is in `mask`. A share that PUBLIC hands to everybody counts once, as PUBLIC's, and
    /// only where it is not declared for all of the roles.
    pub(crate) fn report_undeclared(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let for_all = roles.iter().fold(mask, |all, role| all & declared(role));
        self.report_public(cx, declared, mask & !for_all, severity, out);
        self.report_roles(cx, roles, declared, mask, severity, out);
    }

    /// PUBLIC's share alone, as far as it is in `mask`.
    pub(crate) fn report_public(
        &self,
        cx: &Context<'_>,
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let privileges = Access::public(&self.acl()) & mask;
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

    /// The shares of `roles` alone.
    pub(crate) fn report_roles(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let acl = self.acl();
        for role in roles {
            let privileges = cx.access.granted(role.oid, &acl) & mask & !declared(role);
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

    /// The finding about a declared privilege that the role may hand on.
    fn grant_option_draft(&self, cx: &Context<'_>, difference: &Difference) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        Draft {
            object: self.object.clone(),
            role: Some(name.clone()),
            severity: Severity::Error,
            key: format!("grant option {privileges}"),
            measure: Measure::surplus(self.kind("grant option"), privileges.words()),
            detail: format!(
                "{} may grant {privileges} on {} to others, which the contract does not declare.",
                who(role, &name),
                self.name
            ),
            evidence: json!({"problem": "grant option", "privileges": privileges.words()}),
            fix: Fix::or_proposal(self.revoke_options(cx, role, privileges), || {
                self.no_chain(cx, difference)
            }),
        }
    }

    /// The shares of workers on a relation, where MAINTAIN is part of ALL from 17 on.
    pub(crate) fn report_worker_excess(
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

    /// The grants without which a REVOKE from PUBLIC would take from declared roles what the
    /// contract gives them.
    pub(crate) fn keeping_declared(
        &self,
        cx: &Context<'_>,
        declared: &dyn Fn(&Role) -> Privileges,
        from_public: Privileges,
    ) -> Vec<Statement> {
        let acl = self.acl();
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

    /// Writes down what is declared for each of `roles` and it does not have, neither itself nor by
    /// PUBLIC or membership.
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

    /// The finding about a privilege too many.
    pub(crate) fn undeclared_draft(
        &self,
        cx: &Context<'_>,
        difference: &Difference,
        severity: Severity,
    ) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let (how, chain) = self.how_held(cx, difference);
        // What the server itself gives to everybody with a new routine cannot be left away in the
        // statement that makes it.
        let at_most = if role == PUBLIC && self.acl.is_none() {
            GuardAction::Warn
        } else {
            GuardAction::Block
        };
        Draft {
            object: self.object.clone(),
            role: Some(name.clone()),
            severity,
            // There may be a role whose name is "PUBLIC".
            key: format!(
                "undeclared {privileges}{}{}",
                if role == PUBLIC { " to all" } else { "" },
                self.column.map(|c| format!(" ({c})")).unwrap_or_default()
            ),
            measure: Measure {
                at_most,
                ..Measure::surplus(self.kind("undeclared"), privileges.words())
            },
            detail: format!(
                "{} has {privileges} on {}{how}, which the contract does not declare.",
                who(role, &name),
                self.name
            ),
            evidence: json!({"problem": "undeclared", "privileges": privileges.words(), "through": chain, "column": self.column}),
            fix: Fix::or_proposal(self.revoke(cx, difference), || match role == self.owner {
                true => format!("Its owner has it: give {} to somebody else.", self.name),
                false => self.no_chain(cx, difference),
            }),
        }
    }

    /// What a role has on the table, where this is a column.
    fn on_table(&self, cx: &Context<'_>, role: &Role) -> Privileges {
        match (self.column, self.object.id) {
            (Some(_), ObjectId::Relation(oid)) => {
                let acl = cx.snapshot.relation(oid).and_then(|table| table.acl.as_ref());
                acl.map_or(Privileges::NONE, |acl| cx.access.granted(role.oid, acl))
            }
            _ => Privileges::NONE,
        }
    }

    /// The finding about a privilege that is lacking.
    fn missing_draft(
        &self,
        cx: &Context<'_>,
        difference: &Difference,
        severity: Severity,
    ) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        Draft {
            object: self.object.clone(),
            role: Some(name.clone()),
            severity,
            key: format!("missing {privileges}"),
            // An outage, perhaps, and no danger. A routine loses what PUBLIC had and gets what is
            // declared in two statements.
            measure: Measure {
                at_most: if self.kind == ObjectKind::Routine {
                    GuardAction::Audit
                } else {
                    GuardAction::Warn
                },
                ..Measure::lack("missing", privileges.words())
            },
            detail: format!(
                "{} lacks {privileges} on {}, which the contract declares.",
                who(role, &name),
                self.name
            ),
            evidence: json!({"problem": "missing", "privileges": privileges.words()}),
            fix: Fix::by(self.statement(cx, Verb::Grant, privileges, role, false)),
        }
    }

    /// What is wrong, and on which column.
    fn kind(&self, what: &str) -> String {
        self.column.map_or_else(|| what.to_owned(), |column| format!("{what} ({column})"))
    }

    /// GRANT or REVOKE, by the owner.
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
            sql: self.sql.clone(),
            column: self.column.map(str::to_owned),
            all,
        }
    }

    /// In words and as role names, how the role came by it where that is not by its own name.
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

    /// The ACL entries that give the role what it has too many.
    fn items(&self, cx: &Context<'_>, difference: &Difference) -> Acl {
        let closure = cx.access.closure(difference.role, crate::access::Follow::Privileges);
        let mut items = self.acl();
        items.retain(|item| {
            // PUBLIC's share is a difference of its own; no closure but its own holds PUBLIC.
            closure.contains(&item.grantee) && item.privileges.intersects(difference.privileges)
        });
        items
    }

    /// The statements that take it away: REVOKE where it was granted to the role, the end of the
    /// membership where it comes by one. Nothing where the role owns the object: who should own it
    /// is for a person to say.
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

    /// REVOKE acts for the owner of the object. What somebody else granted goes with the right to
    /// grant it, which that somebody got, in one step or more, from the owner. `None` where no
    /// chain leads there: the catalog is not as GRANT would have made it.
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

    /// The same of the right to grant alone, in which nothing but what `role` itself was given
    /// counts.
    fn revoke_options(
        &self,
        cx: &Context<'_>,
        role: Oid,
        privileges: Privileges,
    ) -> Option<Vec<Statement>> {
        let mut statements: Vec<Statement> = Vec::new();
        for item in self
            .acl()
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

    /// The role at the beginning of the chain by which a grantor came to its right to grant: it has
    /// it from the owner, and with it all that hangs on it goes. `None` where no such chain leads
    /// to the owner, and where one who is in it has the right in any case, as a member of the
    /// owner's (acl.c, `recursive_revoke`).
    fn root_of(&self, cx: &Context<'_>, mut grantor: Oid, privileges: Privileges) -> Option<Oid> {
        let acl = self.acl();
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

    /// What to do about a grant that only its grantor can take back.
    fn no_chain(&self, cx: &Context<'_>, difference: &Difference) -> String {
        let holds = |i: &&AclItem| {
            i.privileges.intersects(difference.privileges) && i.grantor != self.owner
        };
        let of_role = |i: &AclItem| i.grantee == difference.role;
        let items = self.items(cx, difference);
        let item = items.iter().filter(holds).find(|i| of_role(i)).or(items.iter().find(holds));
        match item {
            Some(item) => format!(
                "The grant is {grantor}'s, who can take it back: SET ROLE {grantor}; {} RESET ROLE;",
                self.statement(
                    cx,
                    Verb::Revoke,
                    item.privileges & difference.privileges,
                    item.grantee,
                    true
                ),
                grantor = cx.snapshot.grantee(item.grantor)
            ),
            None => format!("See where the privilege on {} comes from.", self.name),
        }
    }
}

/// `REVOKE role FROM member`, by the role that granted it where the server keeps track of that (16
/// and later). `None` where there is no such grant: the implicit membership of a database owner.
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

/// The subject of a sentence.
pub(crate) fn who(role: Oid, name: &str) -> String {
    if role == PUBLIC {
        "PUBLIC (every role)".to_owned()
    } else {
        format!("Role \"{}\"", printable(name))
    }
}
