//! Settings (GUCs).

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

/// `dragonfly_guard.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum Mode {
    /// Refuse.
    block,
    /// A WARNING where the guard would refuse.
    warn,
    /// Let everything pass, and say so in the server log.
    off,
}

static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::block);

/// Defines the settings. Only a superuser, or whom one has granted SET on the parameter, can change them: a value that anybody
/// else set before the library was loaded is thrown away by the server here.
pub fn define() {
    GucRegistry::define_enum_guc(
        c"dragonfly_guard.mode",
        c"What the guard does about a statement that breaks the security contract.",
        c"block: refuse it; warn: a WARNING in place of the refusal; off: let it pass, with a line in the server log.",
        &MODE,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: a static C string; called once, when the library is loaded.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"dragonfly_guard".as_ptr()) };
}

/// The mode in force.
pub fn mode() -> Mode {
    MODE.get()
}
