//! Input bytes from a file or from memory, decompressed if they are gzip.

use super::FileError;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Reader of the decompressed bytes.
pub(super) struct Source<'a> {
    bytes: Bytes<'a>,
    /// Number of bytes of a plain file or slice; `None` if it is unknown.
    length: Option<u64>,
    /// Number of bytes read so far, after decompression.
    position: u64,
    /// The most bytes that may be read.
    limit: u64,
}

enum Bytes<'a> {
    Plain(Box<dyn BufRead + 'a>),
    Gzip(Box<MultiGzDecoder<Box<dyn BufRead + 'a>>>),
}

/// Whether the file name ends in `.gz`.
pub(super) fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

impl Source<'static> {
    pub(super) fn open(path: &Path, limit: u64) -> Result<Self, FileError> {
        let file = File::open(path).map_err(FileError::reading)?;
        // Pipes and devices report a length of 0, which is not the number of bytes they deliver.
        let length = file
            .metadata()
            .ok()
            .filter(|metadata| metadata.is_file())
            .map(|metadata| metadata.len());
        Self::new(Box::new(BufReader::with_capacity(1 << 16, file)), length, limit)
    }
}

impl<'a> Source<'a> {
    pub(super) fn memory(bytes: &'a [u8], limit: u64) -> Result<Self, FileError> {
        Self::new(Box::new(bytes), Some(bytes.len() as u64), limit)
    }

    fn new(
        mut reader: Box<dyn BufRead + 'a>,
        length: Option<u64>,
        limit: u64,
    ) -> Result<Self, FileError> {
        // The magic bytes of gzip (RFC 1952). Such content is decompressed under any name, and a
        // file whose name ends in `.gz` may hold plain content.
        if reader.fill_buf().map_err(FileError::reading)?.starts_with(&[0x1f, 0x8b]) {
            // A gzip file may consist of several members, whose contents are concatenated.
            let bytes = Bytes::Gzip(Box::new(MultiGzDecoder::new(reader)));
            return Ok(Self { bytes, length: None, position: 0, limit });
        }
        Ok(Self::plain(reader, length, limit))
    }

    /// Bytes that are not compressed.
    pub(super) fn plain(reader: Box<dyn BufRead + 'a>, length: Option<u64>, limit: u64) -> Self {
        Self { bytes: Bytes::Plain(reader), length, position: 0, limit }
    }

    /// Returns the total number of bytes, if it is known in advance: not for gzip, nor for a pipe.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads until `buffer` is full or the input ends; returns the number of bytes read.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::reading(error)),
            }
        }
        Ok(filled)
    }

    /// Checks that `bytes` bytes can follow, and nothing after them, as far as that is known.
    ///
    /// # Errors
    /// [`FileError::Length`], [`FileError::TooLarge`].
    pub(super) fn announce(&self, bytes: u64) -> Result<u64, FileError> {
        let expected = self.position.saturating_add(bytes);
        if let Some(actual) = self.length.filter(|&actual| actual != expected) {
            return Err(FileError::Length { expected, actual });
        }
        match expected > self.limit {
            true => Err(FileError::TooLarge { limit: self.limit }),
            false => Ok(expected),
        }
    }

    /// Passes exactly `bytes` bytes to `take`, in pieces of whole items of `item` bytes, after
    /// which the input must end. Memory follows the bytes that arrive, never what a header claims.
    ///
    /// # Errors
    /// [`FileError::Trailing`], and those of [`Self::announce`], before the first piece.
    pub(super) fn pieces(
        &mut self,
        bytes: u64,
        item: usize,
        mut take: impl FnMut(&[u8]) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let expected = self.announce(bytes)?;
        // Pieces of 64 KiB, rounded down to whole items.
        let mut buffer = vec![0; item * ((1 << 16) / item).max(1)];
        let mut left = bytes;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let found = self.fill(&mut buffer[..wanted])?;
            if found < wanted {
                return Err(FileError::Length { expected, actual: self.position });
            }
            take(&buffer[..found])?;
            left -= found as u64;
        }
        // One byte more than expected is enough to detect trailing bytes.
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(FileError::Trailing { expected }),
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // An `io::Error` carries a `FileError` through the CSV parser; `FileError::reading` unwraps
        // it. The limit is checked after each read: at most one buffer is read beyond it.
        let bytes = self.position;
        let read = match &mut self.bytes {
            Bytes::Plain(reader) => reader.read(buffer)?,
            Bytes::Gzip(decoder) => decoder.read(buffer).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    io::Error::other(FileError::TruncatedGzip { bytes })
                }
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                    io::Error::other(FileError::CorruptGzip { bytes })
                }
                _ => error,
            })?,
        };
        if bytes + read as u64 > self.limit {
            return Err(io::Error::other(FileError::TooLarge { limit: self.limit }));
        }
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], limit: u64) -> Result<Vec<u8>, FileError> {
        let mut out = Vec::new();
        Source::memory(bytes, limit)?.read_to_end(&mut out).map_err(FileError::reading)?;
        Ok(out)
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes_and_members_are_joined() {
        let both = [gzip(b"one,"), gzip(b"two")].concat();
        assert_eq!(all(&both, 100).unwrap(), b"one,two");
        assert_eq!(all(b"plain", 5).unwrap(), b"plain");
        assert_eq!(all(b"plain", 4), Err(FileError::TooLarge { limit: 4 }));
    }

    #[test]
    fn a_cut_or_broken_stream_is_named() {
        let whole = gzip(&[7; 5000]);
        for cut in [3, 12, whole.len() - 9, whole.len() - 1] {
            assert!(
                matches!(all(&whole[..cut], 1 << 20), Err(FileError::TruncatedGzip { .. })),
                "{cut}"
            );
        }
        let mut broken = whole.clone();
        let last = broken.len() - 6;
        broken[last] ^= 0xff;
        assert!(matches!(all(&broken, 1 << 20), Err(FileError::CorruptGzip { .. })));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 1 << 24]);
        assert!(bomb.len() < 1 << 15);
        assert_eq!(all(&bomb, 1 << 16), Err(FileError::TooLarge { limit: 1 << 16 }));
    }
}
