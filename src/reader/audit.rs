//! The audit of a snapshot as data.

use crate::data::Data;
use crate::extension::Own;
use crate::name::identity;
use crate::snapshot::{Needed, for_audit};
use crate::source::State;
use crate::texts;
use dragonfly_core::access::Access;
use dragonfly_core::audit::{Audit, NoExemptions};
use dragonfly_core::catalog::{ObjectId, Oid, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::rules::{Context, Reads, Tool};
use dragonfly_core::sql::listed;

/// What an audit says of functions of which it has not read the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// How many there are, without a period.
    pub message: String,
    /// A sentence with their names.
    pub detail: String,
}

/// How many functions a message names.
const MOST_NAMED: usize = 10;

/// Returns what an audit says of the functions of which it has not read the text; `None` where it
/// has read all that it has asked for.
#[must_use]
pub fn unread(data: &Data) -> Option<Unread> {
    let identity = |function: &Oid| identity(data, ObjectId::Routine(*function));
    let mut functions: Vec<String> = data.unread().iter().filter_map(identity).collect();
    functions.sort();
    let (what, policies) = match functions.len() {
        0 => return None,
        1 => ("the text of 1 function".to_owned(), "a policy that calls it"),
        count => (format!("the texts of {count} functions"), "policies that call them"),
    };
    let named = functions.iter().take(MOST_NAMED);
    let mut names: Vec<String> = named.map(|name| Snapshot::message_of(name)).collect();
    if let Some(more) = functions.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    Some(Unread {
        message: format!("{what} cannot be read in a snapshot"),
        detail: format!(
            "It is known in part only what is decided by {policies}: {}.",
            listed(&names)
        ),
    })
}

/// Calls `work` with the audit of a snapshot under a contract, for a person who uses `tool`.
pub fn with_audit<T>(
    data: &Data,
    contract: &Contract,
    tool: Tool,
    work: impl FnOnce(Audit<'_>) -> T,
) -> T {
    let needed = |_: &Snapshot| Needed { reads: Reads::ALL, schemas: None };
    let snapshot = for_audit(data, contract, Own::complete(data).as_ref(), needed);
    let access = Access::new(&snapshot);
    let interrupts = || data.interrupts();
    let mut cx = Context::new(contract, &snapshot, &access, &interrupts);
    cx.tool = tool;
    let code = || texts::code(data);
    let exemptions = &NoExemptions;
    work(Audit { cx: &cx, exemptions, code: &code, interrupts: &interrupts })
}
