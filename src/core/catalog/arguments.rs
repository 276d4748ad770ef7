//! The input arguments of a routine among all that `pg_proc` lists.

/// Returns the names of the input arguments, by `pg_proc.proargnames` and `proargmodes`: empty for
/// those without one, and none where no argument has one. Without modes, every argument is an input
/// argument.
#[must_use]
pub fn input_names(names: &[String], modes: &[u8]) -> Vec<String> {
    let is_input = |at| modes.is_empty() || matches!(modes.get(at), Some(b'i' | b'b' | b'v'));
    let all = names.iter().enumerate();
    all.filter(|(at, _)| is_input(*at)).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], modes: &str) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        input_names(&names, modes.as_bytes())
    }

    #[test]
    fn arguments_without_modes_are_input() {
        assert_eq!(of(&["a", "", "c"], ""), ["a", "", "c"]);
        assert_eq!(of(&[], ""), [""; 0]);
        assert_eq!(of(&[], "ib"), [""; 0]);
    }

    #[test]
    fn output_arguments_and_columns_have_no_place() {
        // FUNCTION f(a int, OUT b int, INOUT c int, VARIADIC d int[]) and RETURNS TABLE (e int).
        assert_eq!(of(&["a", "b", "c", "d"], "iobv"), ["a", "c", "d"]);
        assert_eq!(of(&["", "e"], "it"), [""]);
    }
}
