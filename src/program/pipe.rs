//! A text that one thread writes and another one reads.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The length of a piece.
const PIECE: usize = 1 << 16;

/// How many pieces may wait, so that a fast writer does not fill the memory.
const WAITING: usize = 64;

/// Returns both ends.
pub fn pipe() -> (Writer, Reader) {
    let (send, receive) = sync_channel(WAITING);
    let reader = Reader { receive, piece: Vec::new(), read: 0 };
    (Writer { send, piece: Vec::with_capacity(PIECE) }, reader)
}

/// The end that is written to.
pub struct Writer {
    send: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Writer {
    /// Writes a text. Where nothing reads any more, it is lost.
    pub fn write(&mut self, text: &str) {
        self.piece.extend_from_slice(text.as_bytes());
        if self.piece.len() >= PIECE {
            let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
            let _ = self.send.send(piece);
        }
    }

    /// Writes what is left.
    pub fn close(self) {
        let _ = self.send.send(self.piece);
    }
}

/// The end that is read from.
pub struct Reader {
    receive: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    /// How much of the piece has been read.
    read: usize,
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        while self.read == self.piece.len() {
            let Ok(piece) = self.receive.recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let mut rest = &self.piece[self.read..];
        let count = rest.read(to)?;
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn text_arrives_as_it_was_written_in_pieces_of_any_length() {
        let (mut to, mut from) = pipe();
        let text = "abcdefghij".repeat(100_000);
        let mut read = String::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut rest, mut length) = (text.as_str(), 1);
                while !rest.is_empty() {
                    let (first, others) = rest.split_at(length.min(rest.len()));
                    to.write(first);
                    (rest, length) = (others, length * 7 % 9_973);
                }
                to.close();
            });
            from.read_to_string(&mut read).unwrap();
        });
        assert_eq!(read, text);
    }

    #[test]
    fn writer_without_a_reader_does_not_wait() {
        let (mut to, from) = pipe();
        drop(from);
        to.write(&"x".repeat(PIECE * (WAITING + 10)));
        to.close();
    }
}
