//! The sessions in which a role asks.

use super::identity::{Identities, Kind};
use super::literals::Session;
use super::term::{Constant, Term, TermId, Terms};
use crate::catalog::Caller;

/// Returns the sessions of a role. Those without a user have no claims at all, or those of the role
/// alone.
pub fn sessions(
    identities: &Identities,
    terms: &mut Terms,
    caller: Option<Caller>,
    role: &str,
) -> Vec<Session> {
    let values: Vec<(TermId, Kind)> = terms
        .all()
        .filter_map(|(id, term)| match term {
            Term::Identity(identity) => Some((id, identity.kind)),
            _ => None,
        })
        .collect();
    let is_empty = |(id, term): (TermId, &Term)| matches!(term, Term::IsEmpty(_)).then_some(id);
    let empty: Vec<TermId> = terms.all().filter_map(is_empty).collect();
    let name = terms.constant(Constant::Text(role.to_owned()));
    let with = |is_null: &dyn Fn(Kind) -> Option<bool>, has_role: bool| {
        let mut session = Session::default();
        if caller != Some(Caller::Without) {
            session.falsehoods.extend(&empty);
        }
        for (term, kind) in &values {
            session.nulls.extend(is_null(*kind).map(|is_null| (*term, is_null)));
            if has_role && *kind == Kind::Role {
                session.constants.push((*term, name));
            }
        }
        session
    };
    let is_sent = |kind| matches!(kind, Kind::Request | Kind::Settable | Kind::Argument);
    match caller {
        Some(Caller::With) => {
            let is_known = |kind| matches!(kind, Kind::User | Kind::Claims | Kind::Role);
            vec![with(&|kind| is_known(kind).then_some(false), true)]
        }
        Some(Caller::Without) => {
            let has_role = |kind| matches!(kind, Kind::Claims | Kind::Role);
            vec![
                with(&|kind| (!is_sent(kind)).then_some(true), false),
                with(&|kind| (!is_sent(kind)).then_some(!has_role(kind)), true),
            ]
        }
        None if identities.roles_are_tenants => vec![with(&|_| None, false)],
        None => vec![with(&|_| None, true)],
    }
}
