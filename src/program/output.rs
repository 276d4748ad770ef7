//! Where results are written.

use crate::failure::Failure;
use dragonfly_core::sql::printable;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// A file, or standard output.
pub struct Output {
    name: Option<PathBuf>,
    to: BufWriter<Target>,
    /// Whether the program that reads standard output has ended.
    is_closed: bool,
}

/// What is written to.
enum Target {
    /// A file that takes the place of an earlier one when it is complete.
    New { file: NamedTempFile, place: PathBuf },
    /// Standard output, a device, a pipe, or a file in a folder where no other can be created.
    Direct(Box<dyn Write>),
}

impl Target {
    fn open(file: &Path) -> io::Result<Self> {
        // A link stays one.
        let place = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let earlier = std::fs::metadata(&place).map(|earlier| earlier.permissions());
        let is_replaced = place.is_file() || std::fs::symlink_metadata(&place).is_err();
        let folder = place.parent().filter(|folder| *folder != Path::new(""));
        let permissions = earlier.unwrap_or_else(|_| Permissions::from_mode(0o666));
        let create = || {
            Builder::new()
                .permissions(permissions)
                .tempfile_in(folder.unwrap_or(Path::new(".")))
                .ok()
        };
        Ok(match is_replaced.then(create).flatten() {
            Some(file) => Self::New { file, place },
            None => Self::Direct(Box::new(File::create(file)?)),
        })
    }
}

impl Write for Target {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self {
            Self::New { file, .. } => file.write(text),
            Self::Direct(to) => to.write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::New { file, .. } => file.flush(),
            Self::Direct(to) => to.flush(),
        }
    }
}

impl Output {
    /// Opens a file for writing; without one, or with `-`, standard output. Until it is closed, an
    /// earlier file of the name stays as it is.
    pub fn open(file: Option<&Path>) -> Result<Self, Failure> {
        let name = file.filter(|file| *file != Path::new("-")).map(Path::to_owned);
        let to = match &name {
            Some(file) => Target::open(file).map_err(|e| not_written(file, &e))?,
            None => Target::Direct(Box::new(io::stdout())),
        };
        Ok(Self { name, to: BufWriter::new(to), is_closed: false })
    }

    /// Writes a text.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let done = if self.is_closed { Ok(()) } else { self.to.write_all(text.as_bytes()) };
        self.result(done)
    }

    /// Writes what is left, and puts the file in its place.
    pub fn close(mut self) -> Result<(), Failure> {
        let done = if self.is_closed { Ok(()) } else { self.to.flush() };
        self.result(done)?;
        match self.to.into_parts().0 {
            Target::New { file, place } => {
                file.persist(&place).map_err(|error| not_written(&place, &error.error))?;
            }
            Target::Direct(_) => {}
        }
        Ok(())
    }

    fn result(&mut self, done: io::Result<()>) -> Result<(), Failure> {
        match (done, &self.name) {
            (Ok(()), _) => Ok(()),
            // As `head` does after its last line. The exit code still says what was found.
            (Err(error), None) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            (Err(error), None) => Err(not_written(Path::new("standard output"), &error)),
            (Err(error), Some(file)) => Err(not_written(file, &error)),
        }
    }
}

/// Writes a text into a file; without one, to standard output.
pub fn write(file: Option<&Path>, text: &str) -> Result<(), Failure> {
    let mut output = Output::open(file)?;
    output.write(text)?;
    output.close()
}

fn not_written(file: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("could not write {}", shown(file))).detail(error.to_string())
}

/// Returns a path for a message.
pub fn shown(file: &Path) -> String {
    let text = file.to_string_lossy();
    if file == Path::new("-") { "standard input".into() } else { printable(&text).into_owned() }
}

/// Returns the text of a file; of standard input where it is `-`.
pub fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| not_read(file, &error))
}

/// Returns the error about a file or a folder that cannot be read.
pub fn not_read(file: &Path, error: &impl ToString) -> Failure {
    Failure::new(format!("could not read {}", shown(file))).detail(error.to_string())
}

/// Whether results are read by a person on a terminal.
pub fn is_terminal(file: Option<&Path>) -> bool {
    file.is_none_or(|file| file == Path::new("-")) && io::stdout().is_terminal()
}
