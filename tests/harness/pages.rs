//! The documentation pages: the Markdown files in the folder of the project and under `docs/`.

use crate::project;
use std::path::{Path, PathBuf};

/// One Markdown file.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its path, relative to the folder of the project.
    pub path: PathBuf,
    /// Its contents.
    pub text: String,
}

impl Page {
    /// Reads the page at `path`, relative to the folder of the project.
    ///
    /// # Panics
    /// If the file cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(project().join(path));
        let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path: path.to_owned(), text }
    }

    /// Compares a page with `expected`; with `UPDATE_DOCS=1`, writes it first.
    ///
    /// # Errors
    /// The file and the line of the first difference.
    pub fn compare(path: &Path, expected: &str) -> Result<(), String> {
        let file = project().join(path);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, expected).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        let text =
            std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        for (i, (found, wanted)) in text.lines().zip(expected.lines()).enumerate() {
            if found != wanted {
                let place = format!("{}:{}", path.display(), i + 1);
                return Err(format!("{place}\n  page:     {found}\n  expected: {wanted}"));
            }
        }
        if text == expected {
            Ok(())
        } else {
            Err(format!("{}: the length differs", path.display()))
        }
    }
}

/// Returns all pages, ordered by path.
///
/// # Panics
/// If a folder or a page cannot be read.
#[must_use]
pub fn pages() -> Vec<Page> {
    let mut paths = markdown_files(Path::new(""));
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        paths.extend(markdown_files(&folder));
        let entries = std::fs::read_dir(project().join(&folder)).expect("a folder");
        let entries = entries.map(|entry| entry.expect("an entry of a folder"));
        folders.extend(
            entries
                .filter(|entry| entry.path().is_dir())
                .map(|entry| folder.join(entry.file_name())),
        );
    }
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

/// Returns the Markdown files directly in `folder`, which is relative to the folder of the project.
fn markdown_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(project().join(folder)).expect("a folder");
    let paths = entries.map(|entry| folder.join(entry.expect("an entry of a folder").file_name()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}
