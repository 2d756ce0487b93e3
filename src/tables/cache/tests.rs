use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::limits::CACHE_PASSES_MAX;

pub(super) fn key(number: u64) -> Key {
    let parts = Parts {
        gateway: "g",
        epoch: 1,
        of: Of::Custom(&number.to_le_bytes()),
    };
    Keying::begin(&parts).end(b"", false)
}

pub(super) fn answer(body: &[u8], stored: u64, until: u64) -> Answer {
    Answer {
        lines: Bytes::from_static(b"content-type: application/json\r\n"),
        pieces: vec![Bytes::copy_from_slice(body)],
        stored,
        until,
        told: Told {
            provider: "openai".into(),
            revision: 1,
            model: None,
            answered_model: None,
            usage: None,
            cost: None,
        },
    }
}

fn sized(bytes: usize) -> Arc<Answer> {
    Arc::new(answer(&vec![0; bytes], 0, u64::MAX))
}

fn is_here(cache: &Cache, key: &Key) -> bool {
    matches!(cache.get(key, 0), Found::Here(_))
}

/// Numbers from 0 on, the smaller ones more often, as Zipf's law has it.
struct Zipf {
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(numbers: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=numbers)
            .map(|rank| {
                sum += (rank as f64).powf(-skew);
                sum
            })
            .collect();
        Self { sums, state: 9 }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn next(&mut self) -> u64 {
        let most = self.sums[self.sums.len() - 1];
        let drawn = (self.random() >> 11) as f64 / (1u64 << 53) as f64 * most;
        self.sums.partition_point(|sum| *sum < drawn) as u64
    }
}

/// S3-FIFO word by word, on one list of all keys: what the shards together are to come near to.
#[derive(Default)]
struct Reference {
    bound: usize,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghosts: VecDeque<u64>,
    /// Size, uses, whether in main.
    known: HashMap<u64, (usize, u8, bool)>,
    small_bytes: usize,
    main_bytes: usize,
}

impl Reference {
    fn read(&mut self, number: u64, bytes: usize) -> bool {
        if let Some((_, uses, _)) = self.known.get_mut(&number) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        while self.small_bytes + self.main_bytes + bytes > self.bound {
            match self.small_bytes >= self.bound / 10 || self.main.is_empty() {
                true => self.evict_small(),
                false => self.evict_main(),
            }
        }
        let ghost = self.ghosts.iter().position(|ghost| *ghost == number);
        match ghost {
            Some(at) => {
                self.ghosts.remove(at);
                self.main.push_back(number);
                self.main_bytes += bytes;
            }
            None => {
                self.small.push_back(number);
                self.small_bytes += bytes;
            }
        }
        self.known.insert(number, (bytes, 0, ghost.is_some()));
        false
    }

    fn evict_small(&mut self) {
        while let Some(number) = self.small.pop_front() {
            let (bytes, uses, in_main) = self.known.get_mut(&number).expect("known");
            self.small_bytes -= *bytes;
            if *uses > 1 {
                (*uses, *in_main) = (0, true);
                self.main_bytes += *bytes;
                self.main.push_back(number);
                continue;
            }
            self.known.remove(&number);
            self.ghosts.push_back(number);
            while self.ghosts.len() > self.known.len().max(64) {
                self.ghosts.pop_front();
            }
            return;
        }
    }

    fn evict_main(&mut self) {
        while let Some(number) = self.main.pop_front() {
            let (bytes, uses, _) = self.known.get_mut(&number).expect("known");
            if *uses > 0 {
                *uses -= 1;
                self.main.push_back(number);
                continue;
            }
            self.main_bytes -= *bytes;
            self.known.remove(&number);
            return;
        }
    }
}

#[test]
fn the_shards_hit_as_often_as_one_list_would() {
    for (skew, numbers, bound) in [
        (1.0, 20_000, 8 << 20),
        (0.8, 20_000, 4 << 20),
        (1.2, 5_000, 1 << 20),
    ] {
        let mut zipf = Zipf::new(numbers, skew);
        let cache = Cache::new(bound);
        let mut reference = Reference {
            bound,
            ..Reference::default()
        };
        let keys: Vec<Key> = (0..numbers as u64).map(key).collect();
        // Sizes differ, but each key's stays.
        let answers: Vec<Arc<Answer>> =
            (0..numbers).map(|at| sized(200 + at * 37 % 3000)).collect();
        let (mut hits, mut expected, rounds) = (0, 0, 150_000);
        for _ in 0..rounds {
            let number = zipf.next() as usize;
            match is_here(&cache, &keys[number]) {
                true => hits += 1,
                false => cache.store(keys[number], answers[number].clone()),
            }
            expected += u64::from(reference.read(number as u64, answers[number].weight()));
        }
        let (ratio, reference) = (hits as f64 / rounds as f64, expected as f64 / rounds as f64);
        assert!(
            (ratio - reference).abs() < 0.02,
            "skew {skew}: {ratio:.4}, not {reference:.4}"
        );
        assert!(ratio > 0.3, "{ratio}");
    }
}

#[test]
fn memory_stays_within_its_bound_with_small_and_large_answers_mixed() {
    let bound = 64 << 20;
    let cache = Cache::new(bound);
    let (small, large) = (sized(1000), sized(1 << 20));
    let mut zipf = Zipf::new(50_000, 0.9);
    let mut full = false;
    for round in 0..60_000_u64 {
        let number = zipf.next();
        let is_large = number.is_multiple_of(20);
        if !is_here(&cache, &key(number)) {
            let answer = if is_large { &large } else { &small };
            cache.store(key(number), answer.clone());
        }
        let bytes = cache.stats_bytes();
        assert!(bytes <= bound, "{bytes} in round {round}");
        full |= bytes > bound / 100 * 95;
        assert!(
            !full || bytes > bound / 100 * 95,
            "{bytes} in round {round}"
        );
    }
    assert!(full);
    let counted: usize = cache.shards.iter().map(|shard| lock(shard).bytes()).sum();
    assert_eq!(counted, cache.stats_bytes());
}

impl Cache {
    fn stats_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[test]
fn what_is_over_is_not_given_out_and_what_is_swept_is_gone() {
    let cache = Cache::new(1 << 20);
    cache.store(key(1), Arc::new(answer(b"one", 1000, 5000)));
    assert!(matches!(cache.get(&key(1), 4999), Found::Here(found) if found.age(4999) == 3));
    assert!(matches!(cache.get(&key(1), 5000), Found::Nowhere));
    cache.store(key(1), Arc::new(answer(b"two", 5000, 9000)));
    assert!(matches!(cache.get(&key(1), 5000), Found::Here(found) if found.pieces[0] == "two"));
    cache.store(key(2), Arc::new(answer(b"three", 0, 9000)));
    assert_eq!(cache.stats().answers, 2);
    cache.sweep(|answer| answer.stored > 0);
    assert!(is_here(&cache, &key(1)) && !is_here(&cache, &key(2)));
    let weight = answer(b"two", 0, 0).weight() as u64;
    assert_eq!((cache.stats().answers, cache.stats().bytes), (1, weight));
}

#[test]
fn an_answer_that_would_crowd_out_the_others_stays_out() {
    let cache = Cache::new(1 << 20);
    cache.store(key(1), sized(10));
    cache.store(key(2), sized(512 << 10));
    assert!(is_here(&cache, &key(1)) && !is_here(&cache, &key(2)));
    assert_eq!(cache.stats().refusals, 1);
}

#[test]
fn threads_share_it_and_the_count_stays_true() {
    let cache = Cache::new(2 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..5000 {
                    let number = round * (thread + 1) % 997;
                    match cache.get(&key(number), 0) {
                        Found::Here(answer) => assert_eq!(answer.pieces[0][0], number as u8),
                        _ => {
                            let body = [number as u8; 4000];
                            cache.store(key(number), Arc::new(answer(&body, 0, u64::MAX)));
                        }
                    }
                }
            });
        }
    });
    let counted: usize = cache.shards.iter().map(|shard| lock(shard).bytes()).sum();
    assert_eq!(counted, cache.stats_bytes());
    assert!(counted <= 2 << 20);
}

#[derive(Debug, Clone)]
enum Deed {
    Insert(u8, usize),
    Get(u8),
    Evict,
    Sweep(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (any::<u8>(), 1..5000_usize).prop_map(|(number, bytes)| Deed::Insert(number, bytes)),
        4 => any::<u8>().prop_map(Deed::Get),
        3 => Just(Deed::Evict),
        1 => any::<u8>().prop_map(Deed::Sweep),
    ]
}

proptest! {
    /// Against a plain map: a value is the last one set until it is let go, and bytes are those of what is held.
    #[test]
    fn a_shard_holds_what_it_was_given(deeds in prop::collection::vec(deed(), 1..400)) {
        let mut shard = Shard::with_capacity(4);
        let mut model: HashMap<u8, (usize, usize)> = HashMap::new();
        for (at, deed) in deeds.into_iter().enumerate() {
            match deed {
                Deed::Insert(number, bytes) => {
                    let before = shard.insert(key(number.into()), (number, at), bytes);
                    let expected = model.insert(number, (at, bytes));
                    prop_assert_eq!(before.map(|((_, at), bytes)| (at, bytes)), expected);
                }
                Deed::Get(number) => {
                    let got = shard.get(&key(number.into())).map(|(_, at)| *at);
                    prop_assert_eq!(got, model.get(&number).map(|(at, _)| *at));
                }
                Deed::Evict => match shard.evict() {
                    Some(((number, at), bytes)) => {
                        prop_assert_eq!(model.remove(&number), Some((at, bytes)));
                    }
                    None => prop_assert!(model.is_empty()),
                },
                Deed::Sweep(below) => {
                    let gone = shard.sweep(|(number, _)| *number >= below).len();
                    let before = model.len();
                    model.retain(|number, _| *number >= below);
                    prop_assert_eq!(gone, before - model.len());
                }
            }
            prop_assert_eq!(shard.len(), model.len());
            prop_assert_eq!(shard.bytes(), model.values().map(|(_, bytes)| bytes).sum::<usize>());
        }
    }
}

#[test]
fn a_shard_lets_go_however_often_everything_is_read() {
    let mut shard = Shard::with_capacity(4);
    for number in 0..4 * CACHE_PASSES_MAX as u64 {
        shard.insert(key(number), number, 10);
    }
    for _ in 0..4 {
        for number in 0..4 * CACHE_PASSES_MAX as u64 {
            shard.get(&key(number));
        }
    }
    let mut gone = 0;
    while shard.evict().is_some() {
        gone += 1;
    }
    assert_eq!((gone, shard.bytes()), (4 * CACHE_PASSES_MAX as u64, 0));
}
