//! Finds what was probably meant by a name that is not known.

/// The most known names that are compared: an answer must not take noticeable time, however many
/// names a document has.
const COMPARED: usize = 1000;

/// The longest name that is compared, in bytes.
const LONGEST: usize = 100;

/// Returns the known name that was probably meant by `given`: the one with the fewest changed,
/// missing, additional or exchanged characters, if these are at most a third. Upper and lower case,
/// hyphens and spaces are no difference. `None` where no name is near enough.
pub fn nearest<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let known: Vec<&str> = known.into_iter().take(COMPARED + 1).collect();
    if given.len() > LONGEST || known.len() > COMPARED {
        return None;
    }
    let given = simplified(given);
    let length = given.chars().count();
    let distance = |name: &str| {
        let name = simplified(name);
        let (longer, shorter) =
            (length.max(name.chars().count()), length.min(name.chars().count()));
        let allowed = shorter / 3;
        // The distance is at least the difference of the lengths.
        let may_be_near = longer - shorter <= allowed;
        may_be_near.then(|| strsim::osa_distance(&given, &name)).filter(|found| *found <= allowed)
    };
    let known = known.into_iter().filter(|name| name.len() <= LONGEST);
    known.filter_map(|name| Some((distance(name)?, name))).min().map(|(_, name)| name)
}

/// Returns `did you mean "NAME"?` for the known name that was probably meant.
pub fn did_you_mean<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest(given, known).map(|name| format!("did you mean \"{}\"?", super::printable(name)))
}

fn simplified(name: &str) -> String {
    name.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if matches!(c, '-' | ' ') { '_' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        for (given, known, meant) in [
            ("authenticted", &["anon", "authenticated", "service_role"][..], Some("authenticated")),
            ("select", &["INSERT", "SELECT"], Some("SELECT")),
            ("row-security", &["force_row_security", "row_security"], Some("row_security")),
            ("clinet", &["client", "worker"], Some("client")),
            ("anno", &["anna", "anon"], Some("anna")),
            ("grant", &["grants", "name"], Some("grants")),
            ("Anon", &["anon", "ANON"], Some("ANON")),
            ("admin", &["client", "worker", "owner", "login"], None),
            ("api", &["app", "b"], Some("app")),
            ("ab", &["aa"], None),
            ("", &["", "a"], Some("")),
        ] {
            assert_eq!(nearest(given, known.iter().copied()), meant, "{given}");
        }
        assert_eq!(did_you_mean("anno", ["a\u{202e}non"]), None);
        assert_eq!(did_you_mean("public", ["publik"]).as_deref(), Some("did you mean \"publik\"?"));
        let long = "x".repeat(1_000_000);
        assert_eq!(nearest(&long, [long.as_str()]), None);
    }
}
