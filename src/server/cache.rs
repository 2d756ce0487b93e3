//! The store of answers as it is configured.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config;
use crate::limits::{CACHE_MEMORY_DEFAULT_MAX, CACHE_MEMORY_DEFAULT_MIN, CACHE_MEMORY_SHARE};
use crate::tables::cache::Cache;

/// Where stored answers lie in the data directory.
const FOLDER: &str = "cache";

/// Opens it. What it left on disk goes where it is given no room there any more.
pub(super) fn open(config: &config::Cache, data_dir: &Path) -> io::Result<Cache> {
    let memory = config.memory_bytes.unwrap_or_else(|| {
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
        default_memory(&machine, &group)
    });
    let cache = Cache::new(usize::try_from(memory).unwrap_or(usize::MAX));
    let folder = data_dir.join(FOLDER);
    if config.disk_bytes > 0 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_millis() as u64);
        return cache.with_disk(folder, config.disk_bytes, now);
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(cache),
    }
}

/// A part of what the machine has, or of what the control group may take where that is less.
fn default_memory(machine: &str, group: &str) -> u64 {
    let total = machine.lines().find_map(|line| {
        let kibibytes = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
        kibibytes.trim().parse::<u64>().ok()
    });
    let total = total.unwrap_or(0).saturating_mul(1024);
    let most = group.trim().parse().unwrap_or(u64::MAX);
    let share = total.min(most) / CACHE_MEMORY_SHARE;
    share.clamp(CACHE_MEMORY_DEFAULT_MIN, CACHE_MEMORY_DEFAULT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_a_part_of_the_memory_that_may_be_taken() {
        let machine = "MemTotal:        8388608 kB\nMemFree:  1 kB\n";
        assert_eq!(default_memory(machine, "max\n"), 512 << 20);
        assert_eq!(default_memory(machine, "2147483648\n"), 128 << 20);
        assert_eq!(default_memory("", ""), CACHE_MEMORY_DEFAULT_MIN);
        let large = "MemTotal: 838860800 kB";
        assert_eq!(default_memory(large, ""), CACHE_MEMORY_DEFAULT_MAX);
    }

    #[test]
    fn files_go_where_they_are_given_no_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let some = config::Cache {
            memory_bytes: Some(1 << 20),
            disk_bytes: 64 << 20,
        };
        open(&some, folder.path()).expect("opened").stop();
        assert!(folder.path().join(FOLDER).is_dir());
        let none = config::Cache {
            disk_bytes: 0,
            ..some
        };
        open(&none, folder.path()).expect("opened");
        open(&none, folder.path()).expect("opened again");
        assert!(!folder.path().join(FOLDER).exists());
    }
}
