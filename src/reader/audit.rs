//! The audit of a snapshot as data.

use crate::data::Data;
use crate::extension::Own;
use crate::name::identity;
use crate::snapshot::{Needed, for_audit};
use crate::source::State;
use crate::texts;
use dragonfly_core::access::Access;
use dragonfly_core::audit::{Audit, Filter, Fixes, NoExemptions};
use dragonfly_core::catalog::{ObjectId, Oid, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::finding::Finding;
use dragonfly_core::rules::{Context, Reads};

/// Returns the findings in a snapshot under a contract, those of the guard's own state excepted.
#[must_use]
pub fn findings(data: &Data, contract: &Contract, filter: &Filter) -> Vec<Finding> {
    with_audit(data, contract, |audit| audit.findings(filter, Fixes::OfPlan))
}

/// Returns the names of the functions of which an audit has not read the text, sorted: what policies
/// that call them do is known in part only.
#[must_use]
pub fn unread(data: &Data) -> Vec<String> {
    let identity = |function: &Oid| identity(data, ObjectId::Routine(*function));
    let mut names: Vec<String> = data.unread().iter().filter_map(identity).collect();
    names.sort();
    names
}

/// Calls `work` with the audit of a snapshot under a contract.
pub fn with_audit<T>(data: &Data, contract: &Contract, work: impl FnOnce(Audit<'_>) -> T) -> T {
    let needed = |_: &Snapshot| Needed { reads: Reads::ALL, schemas: None };
    let snapshot = for_audit(data, contract, Own::complete(data).as_ref(), needed);
    let access = Access::new(&snapshot);
    let interrupts = || data.interrupts();
    let cx = Context::new(contract, &snapshot, &access, &interrupts);
    let code = || texts::code(data);
    let exemptions = &NoExemptions;
    work(Audit { cx: &cx, exemptions, code: &code, interrupts: &interrupts })
}
