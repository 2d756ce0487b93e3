//! The second tier: files of frames in a folder, written and read by a thread of its own. A data thread looks into the index, which
//! is in memory, and sends what is to be done; it never waits here and never touches a file. Files are written from their
//! beginning to their end and go whole, the oldest first.

use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;

use super::answer::Answer;
use super::frame::{self, HEAD, Head};
use super::key::Key;
use super::lock;
use crate::limits::{
    CACHE_DISK_ANSWERS_MAX, CACHE_DISK_BUFFER, CACHE_DISK_FLUSH, CACHE_DISK_QUEUE_BYTES_MAX,
    CACHE_DISK_QUEUE_MAX, CACHE_DISK_REST, CACHE_DISK_SHARDS, CACHE_FILE_BYTES_MAX, CACHE_FILES,
    CACHE_LOAD_WAIT, CACHE_STOP_WAIT,
};
use crate::net::mailbox::ReplyAddress;

/// What an answer's file is called behind its number.
const SUFFIX: &str = ".answers";

/// Figures of the second tier.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskStats {
    /// Answers that can be read.
    pub answers: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Answers written.
    pub written: u64,
    /// Answers not written: too much waited, or the disk failed.
    pub dropped: u64,
    /// Answers that were not as they had been written.
    pub corrupt: u64,
    /// Reads and writes that failed.
    pub failures: u64,
}

pub(super) struct Disk {
    shared: Arc<Shared>,
    asks: SyncSender<Ask>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Ask {
    Write(Key, Arc<Answer>),
    Read(Key, ReplyAddress),
    Stop,
}

#[derive(Default)]
struct Shared {
    index: Index,
    /// Bytes of bodies that wait to be written.
    waiting: AtomicUsize,
    bytes: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    corrupt: AtomicU64,
    failures: AtomicU64,
}

impl Disk {
    /// Starts the thread and waits for it to learn what the files hold, within a bound: the rest of many files it learns later.
    pub fn start(folder: PathBuf, bound: u64, now: u64) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let shared = Arc::new(Shared::default());
        let (asks, asked) = sync_channel(CACHE_DISK_QUEUE_MAX);
        let (loaded, loading) = sync_channel(1);
        let keeper = Keeper {
            folder,
            bound,
            shared: shared.clone(),
            files: VecDeque::new(),
            writing: None,
            next: 0,
            rests: None,
        };
        let thread = std::thread::Builder::new()
            .name("cache".to_owned())
            .spawn(move || keeper.run(&asked, &loaded, now))?;
        match loading.recv_timeout(CACHE_LOAD_WAIT) {
            Ok(result) => result?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread died at its start"));
            }
        }
        Ok(Self {
            shared,
            asks,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Whether there is an answer that is not over.
    pub fn knows(&self, key: &Key, now: u64) -> bool {
        self.shared
            .index
            .get(key)
            .is_some_and(|place| place.until > now)
    }

    /// False: nobody will answer.
    pub fn read(&self, key: Key, to: ReplyAddress) -> bool {
        self.asks.try_send(Ask::Read(key, to)).is_ok()
    }

    /// What finds no room to wait is not written.
    pub fn write(&self, key: Key, answer: Arc<Answer>) {
        let (bytes, waiting) = (answer.length(), &self.shared.waiting);
        let fits =
            waiting.fetch_add(bytes, Ordering::Relaxed) + bytes <= CACHE_DISK_QUEUE_BYTES_MAX;
        if !fits || self.asks.try_send(Ask::Write(key, answer)).is_err() {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn stats(&self) -> DiskStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        DiskStats {
            answers: shared.index.len() as u64,
            bytes: of(&shared.bytes),
            written: of(&shared.written),
            dropped: of(&shared.dropped),
            corrupt: of(&shared.corrupt),
            failures: of(&shared.failures),
        }
    }

    /// Ends the thread once it has written what waits. One that hangs on its disk is left behind.
    pub fn stop(&self) {
        let Some(thread) = lock(&self.thread).take() else {
            return;
        };
        let begin = Instant::now();
        while self.asks.try_send(Ask::Stop).is_err() {
            if begin.elapsed() > CACHE_STOP_WAIT || thread.is_finished() {
                return;
            }
            std::thread::sleep(CACHE_DISK_FLUSH);
        }
        while !thread.is_finished() {
            if begin.elapsed() > CACHE_STOP_WAIT {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = thread.join();
    }
}

/// Where an answer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: u64,
    offset: u64,
    until: u64,
}

/// All that can be read, by key.
struct Index(Box<[Mutex<HashMap<Key, Place, ahash::RandomState>>]>);

impl Default for Index {
    fn default() -> Self {
        Self((0..CACHE_DISK_SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Index {
    fn shard(
        &self,
        key: &Key,
    ) -> std::sync::MutexGuard<'_, HashMap<Key, Place, ahash::RandomState>> {
        self.0[key.shard(self.0.len())]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key) -> Option<Place> {
        self.shard(key).get(key).copied()
    }

    fn set(&self, key: Key, place: Place) {
        self.shard(&key).insert(key, place);
    }

    /// Forgets a key where it lies in this file and not in a later one.
    fn forget(&self, key: &Key, file: u64) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|place| place.file == file) {
            shard.remove(key);
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).len()).sum()
    }
}

/// The thread's own.
struct Keeper {
    folder: PathBuf,
    bound: u64,
    shared: Arc<Shared>,
    /// The oldest first; the last one is written to.
    files: VecDeque<Kept>,
    writing: Option<BufWriter<File>>,
    /// The number of the next file.
    next: u64,
    /// After a failed write: until when no other is tried.
    rests: Option<Instant>,
}

struct Kept {
    number: u64,
    file: File,
    bytes: u64,
    keys: Vec<Key>,
}

impl Keeper {
    fn run(mut self, asked: &Receiver<Ask>, loaded: &SyncSender<io::Result<()>>, now: u64) {
        // SAFETY: nice(2) takes a number and touches no memory; on Linux it is the calling thread's alone. Where it is refused,
        // the priority stays.
        unsafe { libc::nice(10) };
        let result = self.load(now);
        let failed = result.is_err();
        // Who started the thread may have gone on meanwhile.
        let _ = loaded.try_send(result);
        if failed {
            return;
        }
        loop {
            match asked.recv_timeout(CACHE_DISK_FLUSH) {
                Ok(Ask::Write(key, answer)) => {
                    self.shared
                        .waiting
                        .fetch_sub(answer.length(), Ordering::Relaxed);
                    self.write(key, &answer);
                }
                Ok(Ask::Read(key, to)) => to.reply(self.read(&key).map(Arc::new)),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    /// Learns what the files hold, the oldest first, so that what was stored last counts.
    fn load(&mut self, now: u64) -> io::Result<()> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        for number in numbers {
            self.next = number + 1;
            match self.load_file(number, now) {
                Ok(kept) if !kept.keys.is_empty() => {
                    self.shared.bytes.fetch_add(kept.bytes, Ordering::Relaxed);
                    self.files.push_back(kept);
                }
                Ok(_) => drop(std::fs::remove_file(self.path(number))),
                Err(_) => self.fail(),
            }
            self.make_room(0);
        }
        Ok(())
    }

    /// Up to the first head that is none: behind it nothing can be found.
    fn load_file(&self, number: u64, now: u64) -> io::Result<Kept> {
        let file = File::open(self.path(number))?;
        let bytes = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(8 * HEAD, file.try_clone()?);
        let (mut keys, mut offset) = (Vec::new(), 0);
        let mut head = [0; HEAD];
        while offset + HEAD as u64 <= bytes {
            reader.read_exact(&mut head)?;
            let Some(read) = Head::read(&head) else { break };
            let end = offset + (HEAD + read.rest()) as u64;
            if end > bytes {
                break;
            }
            if read.until > now {
                let (file, until) = (number, read.until);
                self.shared.index.set(
                    read.key,
                    Place {
                        file,
                        offset,
                        until,
                    },
                );
                keys.push(read.key);
            }
            reader.seek_relative(read.rest() as i64)?;
            offset = end;
        }
        Ok(Kept {
            number,
            file,
            bytes,
            keys,
        })
    }

    fn write(&mut self, key: Key, answer: &Answer) {
        let rests = self.rests.is_some_and(|until| Instant::now() < until);
        let framed = frame::begin(key, answer).filter(|_| !rests);
        let written = framed.map(|(head, bytes)| self.append(&head, &bytes, &answer.pieces));
        match written {
            Some(Ok(())) => {
                self.rests = None;
                self.shared.written.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(_)) => {
                self.fail();
                // What was begun is of no use; the next file begins anew.
                self.writing = None;
                self.rests = Some(Instant::now() + CACHE_DISK_REST);
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
            None => drop(self.shared.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn append(&mut self, head: &Head, bytes: &[u8], pieces: &[Bytes]) -> io::Result<()> {
        let length = (HEAD + head.rest()) as u64;
        let each = (self.bound / CACHE_FILES).min(CACHE_FILE_BYTES_MAX);
        let full = self
            .files
            .back()
            .is_some_and(|kept| kept.bytes + length > each);
        if full || self.writing.is_none() {
            self.flush();
            self.begin_file()?;
        }
        self.make_room(length);
        let (Some(kept), Some(writing)) = (self.files.back_mut(), &mut self.writing) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        writing.write_all(bytes)?;
        for piece in pieces {
            writing.write_all(piece)?;
        }
        let place = Place {
            file: kept.number,
            offset: kept.bytes,
            until: head.until,
        };
        kept.bytes += length;
        kept.keys.push(head.key);
        self.shared.bytes.fetch_add(length, Ordering::Relaxed);
        self.shared.index.set(head.key, place);
        Ok(())
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(number))?;
        self.writing = Some(BufWriter::with_capacity(
            CACHE_DISK_BUFFER,
            file.try_clone()?,
        ));
        self.files.push_back(Kept {
            number,
            file,
            bytes: 0,
            keys: Vec::new(),
        });
        Ok(())
    }

    /// Drops the oldest files until so many bytes more are within the bounds.
    fn make_room(&mut self, more: u64) {
        let bytes = |shared: &Shared| shared.bytes.load(Ordering::Relaxed);
        let answers =
            |files: &VecDeque<Kept>| files.iter().map(|kept| kept.keys.len()).sum::<usize>();
        while self.files.len() > 1
            && (bytes(&self.shared) + more > self.bound
                || answers(&self.files) >= CACHE_DISK_ANSWERS_MAX)
        {
            let Some(oldest) = self.files.pop_front() else {
                return;
            };
            for key in &oldest.keys {
                self.shared.index.forget(key, oldest.number);
            }
            self.shared.bytes.fetch_sub(oldest.bytes, Ordering::Relaxed);
            if std::fs::remove_file(self.path(oldest.number)).is_err() {
                self.fail();
            }
        }
    }

    fn read(&mut self, key: &Key) -> Option<Answer> {
        let place = self.shared.index.get(key)?;
        if self
            .files
            .back()
            .is_some_and(|kept| kept.number == place.file)
        {
            self.flush();
        }
        let at = self
            .files
            .binary_search_by_key(&place.file, |kept| kept.number)
            .ok()?;
        let answer = match read_at(&self.files[at].file, place.offset) {
            Ok(answer) => answer.filter(|(head, _)| head.key == *key),
            Err(_) => {
                self.fail();
                None
            }
        };
        if answer.is_none() {
            self.shared.corrupt.fetch_add(1, Ordering::Relaxed);
            self.shared.index.forget(key, place.file);
        }
        answer.map(|(_, answer)| answer)
    }

    fn flush(&mut self) {
        if self
            .writing
            .as_mut()
            .is_some_and(|writing| writing.flush().is_err())
        {
            self.fail();
            self.writing = None;
        }
    }

    fn fail(&self) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&self.folder, number)
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}{SUFFIX}"))
}

/// The frame at a place; `Ok(None)`: it is not what was written there.
fn read_at(file: &File, offset: u64) -> io::Result<Option<(Head, Answer)>> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, offset)?;
    let Some(head) = Head::read(&head) else {
        return Ok(None);
    };
    let mut rest = vec![0; head.rest()];
    file.read_exact_at(&mut rest, offset + HEAD as u64)?;
    Ok(head.answer(Bytes::from(rest)).map(|answer| (head, answer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::cache::tests::{answer, key};

    const BOUND: u64 = 1 << 20;

    fn keeper(folder: &Path) -> Keeper {
        keeper_at(folder, 0)
    }

    fn keeper_at(folder: &Path, now: u64) -> Keeper {
        let mut keeper = Keeper {
            folder: folder.to_owned(),
            bound: BOUND,
            shared: Arc::default(),
            files: VecDeque::new(),
            writing: None,
            next: 0,
            rests: None,
        };
        keeper.load(now).expect("loaded");
        keeper
    }

    fn on_disk(folder: &Path) -> u64 {
        let files = std::fs::read_dir(folder).expect("a folder");
        files
            .map(|file| file.expect("a file").metadata().expect("known").len())
            .sum()
    }

    #[test]
    fn answers_outlive_the_thread_and_a_flipped_bit_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = keeper(folder.path());
        for number in 0..20 {
            first.write(key(number), &answer(&[number as u8; 1000], 0, 100 + number));
        }
        first.write(key(3), &answer(b"newer", 50, 500));
        assert_eq!(first.read(&key(3)).expect("read").pieces.concat(), b"newer");
        first.flush();
        drop(first);
        let mut second = keeper(folder.path());
        for number in (0..20).filter(|number| *number != 3) {
            let read = second.read(&key(number)).expect("read");
            assert_eq!(read.pieces.concat(), [number as u8; 1000]);
            assert_eq!(read.until, 100 + number);
        }
        assert_eq!(
            second.read(&key(3)).expect("read").pieces.concat(),
            b"newer"
        );
        assert!(second.read(&key(99)).is_none());
        // In the body of one, and nowhere else.
        let place = second.shared.index.get(&key(7)).expect("known");
        let path = path(folder.path(), place.file);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[place.offset as usize + HEAD + 700] ^= 4;
        std::fs::write(&path, bytes).expect("written");
        assert!(second.read(&key(7)).is_none() && second.read(&key(8)).is_some());
        assert_eq!(second.shared.corrupt.load(Ordering::Relaxed), 1);
        // Once found out it is not asked for again.
        assert!(second.shared.index.get(&key(7)).is_none());
        // What is over is not learnt.
        let mut third = keeper_at(folder.path(), 110);
        assert!(third.read(&key(5)).is_none() && third.read(&key(15)).is_some());
    }

    #[test]
    fn the_oldest_files_go_and_the_bound_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keeper = keeper(folder.path());
        for number in 0..3000 {
            keeper.write(key(number), &answer(&[0; 2000], 0, 9));
            assert!(keeper.shared.bytes.load(Ordering::Relaxed) <= BOUND);
        }
        keeper.flush();
        let bytes = on_disk(folder.path());
        assert!(bytes <= BOUND && bytes > BOUND / 10 * 8, "{bytes}");
        assert!(keeper.read(&key(0)).is_none() && keeper.read(&key(2999)).is_some());
        let known = keeper.shared.index.len();
        let readable = (0..3000)
            .filter(|number| keeper.read(&key(*number)).is_some())
            .count();
        assert_eq!(known, readable);
    }

    #[test]
    fn a_torn_file_gives_what_was_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = keeper(folder.path());
        for number in 0..3 {
            first.write(key(number), &answer(&[1; 500], 0, 9));
        }
        first.flush();
        let torn = path(folder.path(), 0);
        let length = std::fs::metadata(&torn).expect("known").len();
        let file = OpenOptions::new().write(true).open(&torn).expect("opened");
        file.set_len(length - 100).expect("cut");
        let mut second = keeper(folder.path());
        let read: Vec<bool> = (0..3)
            .map(|number| second.read(&key(number)).is_some())
            .collect();
        assert_eq!(read, [true, true, false]);
        second.write(key(2), &answer(b"again", 0, 9));
        assert!(second.read(&key(2)).is_some());
    }

    #[test]
    fn a_disk_that_fails_is_told_and_left_in_peace() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = folder.path().join("gone");
        std::fs::create_dir(&gone).expect("made");
        let mut keeper = keeper(&gone);
        std::fs::remove_dir(&gone).expect("removed");
        for number in 0..5 {
            keeper.write(key(number), &answer(b"x", 0, 9));
        }
        let shared = &keeper.shared;
        assert_eq!(shared.failures.load(Ordering::Relaxed), 1);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 5);
    }
}
