//! The names of the sequences that the server creates for serial and identity columns.

/// The longest name, in bytes.
const LONGEST: usize = 63;

/// The end of the name.
const LABEL: &str = "_seq";

/// Returns the name that the server gives the sequence of a column, where no other relation has it
/// (`makeObjectName`): the longer one of both names is cut first.
#[must_use]
pub fn sequence_of_column(table: &str, column: &str) -> String {
    let longest = LONGEST - LABEL.len() - 1;
    let (mut of_table, mut of_column) = (table.len(), column.len());
    while of_table + of_column > longest {
        if of_table > of_column {
            of_table -= 1;
        } else {
            of_column -= 1;
        }
    }
    format!("{}_{}{LABEL}", cut(table, of_table), cut(column, of_column))
}

/// Returns the characters of a name that fit into a number of bytes.
fn cut(name: &str, mut length: usize) -> &str {
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    &name[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_has_table_and_column_and_is_cut_where_it_is_too_long() {
        assert_eq!(sequence_of_column("jobs", "id"), "jobs_id_seq");
        let (table, column) = ("t".repeat(63), "c".repeat(63));
        assert_eq!(
            sequence_of_column(&table, "id"),
            format!("{}_id_seq", "t".repeat(56)),
            "the longer one is cut"
        );
        assert_eq!(
            sequence_of_column(&table, &column),
            format!("{}_{}_seq", "t".repeat(29), "c".repeat(29))
        );
        let name = sequence_of_column(&"ä".repeat(31), "id");
        assert_eq!(name, format!("{}_id_seq", "ä".repeat(28)));
    }
}
