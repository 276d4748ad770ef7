//! Columns of text: framed as psql does on a terminal, separated by tabs in a pipe.

/// Returns rows with a header, as psql shows them. A value can have several lines.
pub fn framed(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().flat_map(|row| row[column].lines());
        cells.chain([header[column]]).map(columns).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let padded = |cell: &str, width: usize| {
        format!(" {cell}{} ", " ".repeat(width.saturating_sub(columns(cell))))
    };
    let line = |cells: &[&str]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        format!("{}\n", cells.join("|").trim_end())
    };
    let mut text = line(header);
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    text.push_str(&format!("{}\n", rules.join("+")));
    for row in rows {
        let cells: Vec<Vec<&str>> = row.iter().map(|cell| cell.lines().collect()).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..height {
            let part = |cell: &Vec<&str>| cell.get(number).copied().unwrap_or_default().to_owned();
            let parts: Vec<String> = cells.iter().map(part).collect();
            text.push_str(&line(&parts.iter().map(String::as_str).collect::<Vec<_>>()));
        }
    }
    text
}

/// Returns a line for each row, with tabs between its values.
pub fn plain(rows: &[Vec<String>]) -> String {
    let value = |cell: &String| cell.replace(['\t', '\n'], " ");
    rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("\t") + "\n").collect()
}

fn columns(text: &str) -> usize {
    textwrap::core::display_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_with_several_lines_stays_in_its_column() {
        let rows = [vec!["error".to_owned(), "one\nand two".to_owned()]];
        assert_eq!(
            framed(&["level", "what"], &rows),
            " level | what\n-------+---------\n error | one\n       | and two\n"
        );
        assert_eq!(plain(&rows), "error\tone and two\n");
    }
}
