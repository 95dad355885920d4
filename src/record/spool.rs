//! A list that may be longer than memory should hold.

use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;

use serde::de::DeserializeOwned;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};

/// Bytes kept in memory, at most, beside an index of 24 bytes an entry.
pub const MAX_KEPT: usize = 2 << 20;

/// Bytes: the last of them in memory, those before in a file without a name, in the system's folder for such.
#[derive(Debug, Default)]
pub struct Bytes {
    file: Option<File>,
    /// Bytes in the file; those of `tail` follow.
    written: u64,
    tail: Vec<u8>,
}

impl Bytes {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.written + self.tail.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes, which stand at the returned place.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.len();
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > MAX_KEPT {
            self.flush().map_err(|e| {
                let folder = std::env::temp_dir();
                io::Error::new(e.kind(), format!("a temporary file in {}: {e}", folder.display()))
            })?;
        }
        Ok(at)
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.write_all(&self.tail)?;
        self.written += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// The `len` bytes that one push put at this place; `buffer` is room for them.
    ///
    /// # Errors
    /// When they cannot be read back.
    pub fn read<'a>(&'a self, at: u64, len: usize, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match (&self.file, at.checked_sub(self.written)) {
            (Some(file), None) => {
                buffer.resize(len, 0);
                file.read_exact_at(buffer, at)?;
                Ok(buffer)
            }
            (_, at) => Ok(&self.tail[at.unwrap_or(0) as usize..][..len]),
        }
    }
}

/// Entries as JSON, kept as [`Bytes`] are.
#[derive(Debug)]
pub struct Spool<T> {
    index: Vec<Entry>,
    bytes: Bytes,
    of: PhantomData<T>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    at: u64,
    len: usize,
}

impl<T> Default for Spool<T> {
    fn default() -> Spool<T> {
        Spool { index: Vec::new(), bytes: Bytes::default(), of: PhantomData }
    }
}

impl<T> Spool<T> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all entries, in memory and not.
    pub fn bytes(&self) -> u64 {
        self.bytes.len()
    }

    /// Leaves out the entries whose numbers are not wanted.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.index.retain(|entry| wanted(entry.number));
    }

    /// Puts the entries in the order of their numbers.
    pub fn sort(&mut self) {
        self.index.sort_by_key(|entry| entry.number);
    }
}

impl<T: Serialize> Spool<T> {
    /// Appends an entry; `number` is its place when they are sorted.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn push(&mut self, number: u64, entry: &T) -> io::Result<()> {
        let json = serde_json::to_vec(entry)?;
        let at = self.bytes.push(&json)?;
        self.index.push(Entry { number, at, len: json.len() });
        Ok(())
    }
}

impl<T: DeserializeOwned> Spool<T> {
    /// The entries, one at a time.
    ///
    /// # Errors
    /// Each that cannot be read back.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<T>> {
        let mut buffer = Vec::new();
        self.index.iter().map(move |entry| self.read(entry, &mut buffer))
    }

    /// The entry of this number, of a spool that is sorted.
    ///
    /// # Errors
    /// When it cannot be read back.
    pub fn get(&self, number: u64) -> io::Result<Option<T>> {
        let found = self.index.binary_search_by_key(&number, |entry| entry.number);
        found.ok().map(|i| self.read(&self.index[i], &mut Vec::new())).transpose()
    }

    fn read(&self, entry: &Entry, buffer: &mut Vec<u8>) -> io::Result<T> {
        let bytes = self.bytes.read(entry.at, entry.len, buffer)?;
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// As an array.
impl<T: Serialize + DeserializeOwned> Serialize for Spool<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(self.len()))?;
        for entry in self.iter() {
            array.serialize_element(&entry.map_err(S::Error::custom)?)?;
        }
        array.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_sorted_from_file_and_memory() {
        let entry = |n: u64| format!("{n} {}", "x".repeat(1000 + n as usize % 7));
        let mut spool = Spool::default();
        let many = 3 * MAX_KEPT as u64 / 1000 + 5;
        for n in (0..many).rev() {
            spool.push(n, &entry(n)).unwrap();
            assert!(spool.bytes.tail.len() <= MAX_KEPT);
        }
        assert!(
            spool.bytes.file.is_some() && !spool.bytes.tail.is_empty(),
            "some entries are in either place"
        );
        spool.sort();
        let mut n = 0;
        for read in spool.iter() {
            assert_eq!(read.unwrap(), entry(n));
            n += 1;
        }
        assert_eq!(n, many);
        assert_eq!(spool.get(many - 1).unwrap(), Some(entry(many - 1)));
        assert_eq!((spool.get(3).unwrap(), spool.get(many).unwrap()), (Some(entry(3)), None));
        spool.retain(|n| n % 1000 == 7);
        assert_eq!(serde_json::to_value(&spool).unwrap()[1], entry(1007));
        assert_eq!(spool.len() as u64, (many + 992) / 1000);
    }
}
