//! The segments there are: what the writer knows of them and readers need to know.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::date;
use crate::record::Id;

/// One file of entries, and beside it one of their bodies.
#[derive(Debug)]
pub struct Segment {
    /// The file of entries.
    pub path: PathBuf,
    /// Counts the segments of a day.
    pub number: u32,
    /// Set once its files are gone: whoever has them open closes them, so that the disk gets its space back.
    gone: AtomicBool,
    facts: Mutex<Facts>,
}

/// What changes as a segment is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The day it counts as, from the Unix epoch.
    pub day: u32,
    /// The lowest and the highest id in it.
    pub range: Option<(Id, Id)>,
    /// Entries of each gateway.
    pub rows: HashMap<Arc<str>, u64>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Whether bodies are kept beside it.
    pub bodies: bool,
    /// Rises with every change, so that what was counted before is not taken for true.
    pub generation: u64,
}

impl Segment {
    /// At a path, with what its file says.
    pub fn new(path: PathBuf, number: u32, facts: Facts) -> Self {
        Self {
            path,
            number,
            gone: AtomicBool::new(false),
            facts: Mutex::new(facts),
        }
    }

    /// What is known of it.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries of a gateway.
    pub fn rows(&self, gateway: &str) -> u64 {
        self.facts().rows.get(gateway).copied().unwrap_or(0)
    }

    /// Where the bodies are.
    pub fn bodies(&self) -> PathBuf {
        self.path.with_extension("bodies")
    }

    /// Whether its files were deleted.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Deletes its files. Whoever still reads them keeps the space until it closes them.
    pub fn remove(&self) {
        self.gone.store(true, Ordering::Release);
        self.remove_bodies();
        remove_database(&self.path);
    }

    /// Deletes the bodies alone.
    pub fn remove_bodies(&self) {
        remove_database(&self.bodies());
        let mut facts = self.facts();
        facts.bodies = false;
        facts.generation += 1;
    }

    /// Looks how large its files are.
    pub fn measure(&self) {
        let files = [self.path.clone(), self.bodies()];
        let bytes = files.iter().flat_map(|path| with_companions(path));
        let bytes = bytes.map(|path| fs::metadata(path).map_or(0, |data| data.len()));
        let bytes = bytes.sum();
        self.facts().bytes = bytes;
    }
}

/// A database and the two files that SQLite keeps beside it.
fn with_companions(path: &Path) -> [PathBuf; 3] {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    [path.to_owned(), beside("-wal"), beside("-shm")]
}

fn remove_database(path: &Path) {
    for file in with_companions(path) {
        // What is not there need not go; what cannot go is seen in the bytes that stay.
        let _ = fs::remove_file(file);
    }
}

/// All segments, the oldest first.
#[derive(Debug, Default)]
pub struct Catalog {
    segments: Mutex<Vec<Arc<Segment>>>,
}

impl Catalog {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As of now.
    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.lock().clone()
    }

    /// The one that is written.
    pub fn newest(&self) -> Option<Arc<Segment>> {
        self.lock().last().cloned()
    }

    /// Adds one, or brings them into order again once the day of one has changed.
    pub fn add(&self, segment: Option<Arc<Segment>>) {
        let mut segments = self.lock();
        segments.extend(segment);
        segments.sort_by_key(|segment| (segment.facts().day, segment.number));
    }

    /// Takes one out.
    pub fn take(&self, segment: &Arc<Segment>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, segment));
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.lock()
            .iter()
            .map(|segment| segment.facts().bytes)
            .sum()
    }

    /// Entries of a gateway.
    pub fn rows(&self, gateway: &str) -> u64 {
        self.lock()
            .iter()
            .map(|segment| segment.rows(gateway))
            .sum()
    }

    /// Those that may hold an id, the newest first.
    pub fn of(&self, id: Id) -> Vec<Arc<Segment>> {
        let segments = self.lock();
        let holds = |segment: &&Arc<Segment>| {
            let range = segment.facts().range;
            range.is_some_and(|(first, last)| (first..=last).contains(&id))
        };
        segments.iter().rev().filter(holds).cloned().collect()
    }
}

/// The file of a day's segment.
pub fn file_name(day: u32, number: u32) -> String {
    format!("{}-{number:04}.db", date(day))
}

/// The number in a file's name; `None`: it is no segment.
pub fn number_of(name: &str) -> Option<u32> {
    let stem = name.strip_suffix(".db")?;
    let (day, number) = stem.rsplit_once('-')?;
    (number.len() >= 4 && day.len() >= 5).then_some(())?;
    number.parse().ok()
}

/// Where an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To the segment of this index.
    In(usize),
    /// To a new one, of this day.
    New(u32),
}

/// Where an entry of `day` goes, among segments of these days in their order. `today` is believed. An entry of a day that has no
/// segment any more goes to the newest, as does one from the future.
pub fn place(days: &[u32], day: u32, today: u32) -> Place {
    let Some(newest) = days.last() else {
        return Place::New(day.min(today));
    };
    if let Some(index) = days.iter().rposition(|other| *other == day) {
        return Place::In(index);
    }
    match day > *newest && day <= today {
        true => Place::New(day),
        false => Place::In(days.len() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_to_its_day_or_to_the_newest() {
        assert_eq!(place(&[], 100, 100), Place::New(100));
        assert_eq!(
            place(&[], 4000, 100),
            Place::New(100),
            "nothing begins in the future"
        );
        let days = [98, 99, 99];
        assert_eq!(place(&days, 100, 100), Place::New(100));
        assert_eq!(
            place(&days, 99, 100),
            Place::In(2),
            "settled after midnight"
        );
        assert_eq!(place(&days, 98, 99), Place::In(0));
        assert_eq!(place(&days, 90, 99), Place::In(2), "its own is gone");
        assert_eq!(place(&days, 4000, 99), Place::In(2), "a clock that jumped");
        assert_eq!(
            place(&days, 4000, 4000),
            Place::New(4000),
            "and was believed"
        );
    }

    #[test]
    fn files_are_told_by_their_names() {
        let name = file_name(20_468, 3);
        assert_eq!(name, "2026-01-15-0003.db");
        assert_eq!(number_of(&name), Some(3));
        assert_eq!(number_of("2026-01-15-0003.bodies"), None);
        assert_eq!(number_of("2026-01-15-0003.db-wal"), None);
        assert_eq!(number_of("ringgate.db"), None);
    }
}
