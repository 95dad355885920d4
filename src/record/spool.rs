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

/// Entries as JSON: the last of them in memory, those before in a file without a name, in the system's folder for such.
#[derive(Debug)]
pub struct Spool<T> {
    index: Vec<Entry>,
    file: Option<File>,
    /// Bytes in the file; those of `tail` follow.
    written: u64,
    tail: Vec<u8>,
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
        Spool { index: Vec::new(), file: None, written: 0, tail: Vec::new(), of: PhantomData }
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
        self.written + self.tail.len() as u64
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
        let at = self.bytes();
        serde_json::to_writer(&mut self.tail, entry)?;
        let len = (self.bytes() - at) as usize;
        self.index.push(Entry { number, at, len });
        if self.tail.len() > MAX_KEPT {
            self.flush().map_err(|e| {
                let folder = std::env::temp_dir();
                io::Error::new(e.kind(), format!("a temporary file in {}: {e}", folder.display()))
            })?;
        }
        Ok(())
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
        let bytes = match (&self.file, entry.at.checked_sub(self.written)) {
            (Some(file), None) => {
                buffer.resize(entry.len, 0);
                file.read_exact_at(buffer, entry.at)?;
                &buffer[..]
            }
            (_, at) => &self.tail[at.unwrap_or(0) as usize..][..entry.len],
        };
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
            assert!(spool.tail.len() <= MAX_KEPT);
        }
        assert!(spool.file.is_some() && !spool.tail.is_empty(), "some entries are in either place");
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
