//! Decides where entries go and when they leave: the writer's work without its thread.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::ErrorCode;

use super::Stats;
use super::catalog::{Catalog, Place, Segment, number_of, place};
use super::clock::{Clock, date, day_of};
use super::row::Row;
use super::segment::{self, Edit, Open};
use crate::limits::{
    LOG_DISK_DEFAULT, LOG_DISK_MIN, LOG_DISK_PERCENT, RETENTION_ROWS, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENTS_OF_DISK,
};
use crate::record::Id;
use crate::telemetry::notice;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of disk.
    pub disk: u64,
    /// Days of entries; `None`: no bound.
    pub days: Option<u32>,
    /// Days of bodies; `None`: as long as their entries.
    pub body_days: Option<u32>,
}

impl Bounds {
    /// On the volume of `folder`; without a size of their own logs take a part of it (resolutions 33).
    pub fn on(folder: &Path, disk: Option<u64>, days: Option<u32>, body_days: Option<u32>) -> Self {
        let default = || {
            let part = volume(folder).map(|bytes| bytes / 100 * LOG_DISK_PERCENT);
            part.map_or(LOG_DISK_DEFAULT, |part| {
                part.clamp(LOG_DISK_MIN, LOG_DISK_DEFAULT)
            })
        };
        Self {
            disk: disk.unwrap_or_else(default),
            days,
            body_days,
        }
    }

    /// Size at which a new segment begins.
    fn segment(&self) -> u64 {
        (self.disk / SEGMENTS_OF_DISK).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }
}

/// The size of the volume that holds a folder, or will.
fn volume(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.filter(|there| !there.as_os_str().is_empty());
    let path = CString::new(there.unwrap_or(Path::new(".")).as_os_str().as_bytes()).ok()?;
    let mut facts = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with NUL and lives through the call, which fills the structure where it succeeds.
    let facts = unsafe {
        if libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) != 0 {
            return None;
        }
        facts.assume_init()
    };
    Some(facts.f_blocks * facts.f_frsize)
}

/// How many entries of a gateway are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub most: u64,
    /// Whether new ones are dropped at that number, rather than the oldest.
    pub stops: bool,
}

/// Segments open for writing at once: the newest, and one for what settles late.
const OPEN_MAX: usize = 3;

/// Keeps the segments.
pub struct Keeper {
    folder: PathBuf,
    pub bounds: Bounds,
    catalog: Arc<Catalog>,
    stats: Arc<Stats>,
    open: Vec<Open>,
    clock: Clock,
    today: u32,
    is_ready: bool,
}

impl Keeper {
    /// On a folder, which is looked at when it is first needed.
    pub fn new(folder: &Path, bounds: Bounds, catalog: Arc<Catalog>, stats: Arc<Stats>) -> Self {
        Self {
            folder: folder.to_owned(),
            bounds,
            catalog,
            stats,
            open: Vec::new(),
            clock: Clock::after(None),
            today: 0,
            is_ready: false,
        }
    }

    /// Finds what an earlier run left. A file that cannot be read is left alone and told of.
    pub fn make_ready(&mut self) -> rusqlite::Result<()> {
        if self.is_ready {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            let path = self.folder.display();
            rusqlite::Error::SqliteFailure(code, Some(format!("{path}: {error}")))
        };
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        made.map_err(failed)?;
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(number) = name.and_then(number_of) else {
                continue;
            };
            match segment::find(path.clone(), number) {
                Ok(Some(segment)) => self.catalog.add(Some(segment)),
                Ok(None) => {}
                Err(error) => {
                    let path = path.display();
                    notice::say(format_args!(
                        "logs: {path} cannot be read and is left as it is: {error}"
                    ));
                }
            }
        }
        let newest = self.catalog.newest();
        let last = newest.map(|newest| {
            let facts = newest.facts();
            let end = (u64::from(facts.day) + 1) * 86_400_000 - 1;
            facts
                .range
                .map_or(end, |(_, last)| last.milliseconds().min(end))
        });
        self.clock = Clock::after(last);
        self.is_ready = true;
        Ok(())
    }

    /// Hears what time it is, in milliseconds since the Unix epoch.
    pub fn tick(&mut self, now: u64, at: Instant) {
        let (now, jumped) = self.clock.hear(now, at);
        self.today = day_of(now);
        if jumped {
            let today = date(self.today);
            notice::say(format_args!(
                "logs: the clock is far from the last entry and stays there; it counts as {today} from here on"
            ));
            self.redate();
        }
    }

    /// What is dated later than today, by a clock that was wrong, counts as of today: it would never go otherwise. So does the
    /// newest where it took in entries of today while the clock was doubted: they would go too soon.
    fn redate(&mut self) {
        let today = self.today;
        let newest = self.catalog.newest();
        for segment in self.catalog.all() {
            let (day, range) = {
                let facts = segment.facts();
                (facts.day, facts.range)
            };
            let is_newest = newest
                .as_ref()
                .is_some_and(|newest| Arc::ptr_eq(newest, &segment));
            let last = range.map_or(0, |(_, last)| day_of(last.milliseconds()));
            if day <= today && !(is_newest && day < today && last == today) {
                continue;
            }
            let dated = self.opened(&segment).and_then(|open| open.set_day(today));
            if let Err(error) = dated {
                self.note(&error);
            }
        }
        self.catalog.add(None);
    }

    /// Stores entries; what could be is taken out of `rows`. `quotas` are of the gateways among them; a gateway without one is
    /// gone, and its entries with it.
    pub fn store(
        &mut self,
        rows: &mut Vec<Row>,
        quotas: &HashMap<Arc<str>, Quota>,
    ) -> rusqlite::Result<()> {
        self.make_ready()?;
        self.drop_unwanted(rows, quotas);
        while let Some(first) = rows.first() {
            let segment = self.segment_for(day_of(first.id.milliseconds()))?;
            let mut here: Vec<Row> = Vec::with_capacity(rows.len());
            let mut elsewhere = Vec::new();
            for row in rows.drain(..) {
                let same = match self.placed(day_of(row.id.milliseconds())) {
                    Some(other) => Arc::ptr_eq(&other, &segment),
                    None => false,
                };
                match same {
                    true => here.push(row),
                    false => elsewhere.push(row),
                }
            }
            let references: Vec<&Row> = here.iter().collect();
            let stored = self
                .opened(&segment)
                .and_then(|open| open.store(&references));
            if let Err(error) = &stored
                && error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
            {
                // It would fail for ever, and all that comes after it with it.
                self.note(error);
                self.stats
                    .dropped
                    .fetch_add(here.len() as u64, Ordering::Relaxed);
                *rows = elsewhere;
                continue;
            }
            if let Err(error) = stored {
                here.append(&mut elsewhere);
                *rows = here;
                return Err(self.failed(&segment, error));
            }
            self.stats
                .stored
                .fetch_add(here.len() as u64, Ordering::Relaxed);
            *rows = elsewhere;
        }
        for (gateway, quota) in quotas {
            let excess = self.catalog.rows(gateway).saturating_sub(quota.most);
            if excess > 0 && !quota.stops {
                self.trim(gateway, excess)?;
            }
        }
        Ok(())
    }

    fn drop_unwanted(&self, rows: &mut Vec<Row>, quotas: &HashMap<Arc<str>, Quota>) {
        let mut room: HashMap<Arc<str>, u64> = HashMap::new();
        for (gateway, quota) in quotas.iter().filter(|(_, quota)| quota.stops) {
            let left = quota.most.saturating_sub(self.catalog.rows(gateway));
            room.insert(gateway.clone(), left);
        }
        let stats = &self.stats;
        rows.retain(|row| {
            if !quotas.contains_key(&row.gateway) {
                stats.ownerless.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            match room.get_mut(&row.gateway) {
                Some(0) => {
                    stats.over_quota.fetch_add(1, Ordering::Relaxed);
                    false
                }
                Some(left) => {
                    *left -= 1;
                    true
                }
                None => true,
            }
        });
    }

    /// Deletes the oldest entries of a gateway, so many at most.
    fn trim(&mut self, gateway: &str, excess: u64) -> rusqlite::Result<()> {
        let mut left = excess.min(RETENTION_ROWS);
        for segment in self.catalog.all() {
            if left == 0 {
                break;
            }
            if segment.rows(gateway) == 0 {
                continue;
            }
            let open = self.opened(&segment)?;
            let ids = open.oldest(gateway, left)?;
            let deleted = open.delete(gateway, &ids)?;
            left -= deleted.min(left);
            self.stats.expired.fetch_add(deleted, Ordering::Relaxed);
            self.drop_empty(&segment);
        }
        Ok(())
    }

    /// Where an entry of a day goes, if that is a segment that is there.
    fn placed(&self, day: u32) -> Option<Arc<Segment>> {
        let segments = self.catalog.all();
        let days: Vec<u32> = segments.iter().map(|segment| segment.facts().day).collect();
        match place(&days, day, self.today) {
            Place::In(index) => Some(segments[index].clone()),
            Place::New(_) => None,
        }
    }

    fn segment_for(&mut self, day: u32) -> rusqlite::Result<Arc<Segment>> {
        if let Some(segment) = self.placed(day) {
            return Ok(segment);
        }
        let segments = self.catalog.all();
        let days: Vec<u32> = segments.iter().map(|segment| segment.facts().day).collect();
        let day = match place(&days, day, self.today) {
            Place::New(day) => day,
            Place::In(_) => day,
        };
        self.begin(day)
    }

    /// Begins a segment; what was the newest is brought to rest.
    fn begin(&mut self, day: u32) -> rusqlite::Result<Arc<Segment>> {
        // No file of a day that another one was dated to is written over.
        let mut number = 1;
        while self
            .folder
            .join(super::catalog::file_name(day, number))
            .exists()
        {
            number += 1;
        }
        let segment = segment::create(&self.folder, day, number)?;
        for open in &self.open {
            open.settle();
        }
        self.catalog.add(Some(segment.clone()));
        Ok(segment)
    }

    fn opened(&mut self, segment: &Arc<Segment>) -> rusqlite::Result<&mut Open> {
        let known = |open: &Open| Arc::ptr_eq(&open.segment, segment);
        if let Some(index) = self.open.iter().position(known) {
            let open = self.open.remove(index);
            self.open.push(open);
        } else {
            let open = Open::new(segment.clone())?;
            if self.open.len() >= OPEN_MAX {
                self.open.remove(0).settle();
            }
            self.open.push(open);
        }
        let last = self.open.len() - 1;
        Ok(&mut self.open[last])
    }

    fn close(&mut self, segment: &Arc<Segment>) {
        self.open
            .retain(|open| !Arc::ptr_eq(&open.segment, segment));
    }

    /// A segment that is damaged is set aside, so that a new one begins.
    fn failed(&mut self, segment: &Arc<Segment>, error: rusqlite::Error) -> rusqlite::Error {
        let code = error.sqlite_error_code();
        if matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ) {
            let path = segment.path.display();
            notice::say(format_args!(
                "logs: {path} is damaged and set aside: {error}"
            ));
            self.catalog.take(segment);
        }
        // Opened anew: after an error of the disk a connection may go on failing.
        self.close(segment);
        error
    }

    fn note(&self, error: &rusqlite::Error) {
        self.stats.failed(error);
    }

    /// Looks after age, size and order.
    pub fn look_after(&mut self) {
        if let Err(error) = self.make_ready() {
            return self.note(&error);
        }
        self.expire();
        self.rotate();
        self.fit();
        let segments = self.catalog.all();
        self.stats
            .segments
            .store(segments.len() as u64, Ordering::Relaxed);
        self.stats
            .bytes
            .store(self.catalog.bytes(), Ordering::Relaxed);
    }

    fn expire(&mut self) {
        let before = |days: Option<u32>| days.and_then(|days| self.today.checked_sub(days));
        let (entries, bodies) = (before(self.bounds.days), before(self.bounds.body_days));
        for segment in self.catalog.all() {
            let (day, has_bodies) = {
                let facts = segment.facts();
                (facts.day, facts.bodies)
            };
            if entries.is_some_and(|before| day < before) {
                self.remove(&segment);
            } else if has_bodies && bodies.is_some_and(|before| day < before) {
                for open in self.open.iter_mut() {
                    if Arc::ptr_eq(&open.segment, &segment) {
                        open.close_bodies();
                    }
                }
                segment.remove_bodies();
            }
        }
    }

    /// Begins a new segment where the newest is full.
    fn rotate(&mut self) {
        let segments = self.catalog.all();
        let Some(newest) = segments.last() else {
            return;
        };
        for segment in &segments {
            let open = self
                .open
                .iter()
                .any(|open| Arc::ptr_eq(&open.segment, segment));
            if open {
                segment.measure();
            }
        }
        let (bytes, day) = {
            let facts = newest.facts();
            (facts.bytes, facts.day)
        };
        if bytes >= self.bounds.segment()
            && let Err(error) = self.begin(day)
        {
            self.note(&error);
        }
    }

    /// Drops the oldest segments until the rest fits; the newest stays.
    fn fit(&mut self) {
        let segments = self.catalog.all();
        let Some((_, old)) = segments.split_last() else {
            return;
        };
        for segment in old {
            if self.catalog.bytes() <= self.bounds.disk {
                return;
            }
            self.remove(segment);
        }
    }

    fn remove(&mut self, segment: &Arc<Segment>) {
        self.close(segment);
        self.catalog.take(segment);
        segment.remove();
        let rows: u64 = segment.facts().rows.values().sum();
        self.stats.expired.fetch_add(rows, Ordering::Relaxed);
    }

    fn drop_empty(&mut self, segment: &Arc<Segment>) {
        let is_empty = segment.facts().rows.values().all(|rows| *rows == 0);
        let newest = self.catalog.newest();
        if is_empty && newest.is_some_and(|newest| !Arc::ptr_eq(&newest, segment)) {
            self.remove(segment);
        }
    }

    /// Changes an entry; `false`: there is none.
    pub fn edit(&mut self, gateway: &str, id: Id, edit: &Edit) -> rusqlite::Result<bool> {
        self.make_ready()?;
        for segment in self.catalog.of(id) {
            if self.opened(&segment)?.edit(gateway, id, edit)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes entries that a reader found.
    pub fn delete(
        &mut self,
        gateway: &str,
        found: &[(Arc<Segment>, Vec<Id>)],
    ) -> rusqlite::Result<u64> {
        let mut deleted = 0;
        for (segment, ids) in found {
            if segment.is_gone() {
                continue;
            }
            deleted += self.opened(segment)?.delete(gateway, ids)?;
            self.drop_empty(segment);
        }
        Ok(deleted)
    }

    /// Deletes a part of what a gateway has; `false`: there is more.
    pub fn forget(&mut self, gateway: &str) -> rusqlite::Result<bool> {
        self.make_ready()?;
        for segment in self.catalog.all() {
            if segment.rows(gateway) == 0 {
                continue;
            }
            let others = segment
                .facts()
                .rows
                .iter()
                .any(|(other, rows)| &**other != gateway && *rows > 0);
            let newest = self.catalog.newest();
            if !others && newest.is_some_and(|newest| !Arc::ptr_eq(&newest, &segment)) {
                self.remove(&segment);
                continue;
            }
            let open = self.opened(&segment)?;
            let ids = open.oldest(gateway, RETENTION_ROWS)?;
            open.delete(gateway, &ids)?;
            return Ok(segment.rows(gateway) == 0 && self.catalog.rows(gateway) == 0);
        }
        Ok(true)
    }

    /// Brings everything into the files, at the end.
    pub fn settle(&mut self) {
        for open in self.open.drain(..) {
            open.settle();
        }
    }
}
