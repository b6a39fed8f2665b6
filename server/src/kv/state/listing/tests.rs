use super::*;
use crate::kv::clock::NEVER;
use crate::kv::database::Database;
use crate::kv::keys::Entry;
use crate::kv::memory_keys::MemoryKeys;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Entries = Database<MemoryKeys>;

const ALL_KEYS: KeySpan<'_> = KeySpan { start: b"", after_start: false, end: None };

fn store(partition: Partition, keys: impl IntoIterator<Item = Vec<u8>>) -> Entries {
    let entries = keys.into_iter().map(|key| (partition.stored(&key), Bytes::from(key)));
    let mut store = Entries::new(MemoryKeys::default(), 0);
    for (key, value) in entries {
        store.put(key, Entry { value, deadline_ms: NEVER }).unwrap();
    }
    store
}

fn keys(prefix: &str, count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |i| format!("{prefix}{i}").into_bytes())
}

/// Scans to the end; returns the keys and the number of steps.
fn scan_all(store: &Entries, partition: Partition, count: u64) -> (Vec<Bytes>, usize) {
    let (mut all, mut from, mut steps) = (Vec::new(), 0, 0);
    loop {
        steps += 1;
        match View::settled(store).scan(partition, &(from..u64::MAX), count, None).unwrap() {
            Answer::Page { keys, next, examined } => {
                assert_eq!(examined, keys.len() as u64);
                all.extend(keys);
                let Some(next) = next else {
                    return (all, steps);
                };
                assert!(next > from, "a scan goes forward");
                from = next;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_scan_reports_every_key_once() {
    for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
        for prefix in ["key:", "{tag}"] {
            let store = store(partition, keys(prefix, 1000));
            for count in [1, 7, 10, 999, 5000] {
                let (found, steps) = scan_all(&store, partition, count);
                let distinct: BTreeSet<_> = found.iter().collect();
                assert_eq!((found.len(), distinct.len()), (1000, 1000));
                assert!(count < 1000 || steps == 1);
            }
        }
    }
}

#[test]
fn a_large_slot_takes_a_bounded_number_of_steps() {
    let store = store(Partition::Hash, keys("{tag}", 5000));
    let (_, steps) = scan_all(&store, Partition::Hash, 1);
    // Each step takes a 64th of what is left until a step is one key.
    assert!(steps < 600, "{steps}");
}

#[test]
fn a_scan_keeps_to_its_count_and_pattern() {
    let store = store(Partition::Hash, keys("key:", 1000));
    match View::settled(&store).scan(Partition::Hash, &(0..u64::MAX), 10, Some(b"key:1*")).unwrap()
    {
        Answer::Page { keys, examined, next } => {
            assert_eq!(examined, 10);
            assert!(keys.len() <= 10 && keys.iter().all(|key| key.starts_with(b"key:1")));
            assert!(next.is_some());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_listed_in_steps() {
    let store = store(Partition::Hash, keys("key:", 100));
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        match View::settled(&store).keys(Partition::Hash, after.as_ref(), b"key:1*", 7).unwrap() {
            Answer::Listing { keys, last } => {
                found.extend(keys);
                if last.is_none() {
                    break;
                }
                after = last;
            }
            other => panic!("{other:?}"),
        }
    }
    found.sort();
    assert_eq!(found.len(), 11);
    assert_eq!(found[0], "key:1");
}

/// Keys that have expired and were not swept, before and behind one that is there.
fn with_expired(partition: Partition, count: usize) -> Entries {
    let mut store = Entries::new(MemoryKeys::default(), 0);
    let put = |store: &mut Entries, key: Vec<u8>, deadline_ms| {
        let entry = Entry { value: Bytes::from("v"), deadline_ms };
        store.put(partition.stored(&key), entry).unwrap();
    };
    keys("a", count).chain(keys("c", count)).for_each(|key| put(&mut store, key, 1_000));
    put(&mut store, b"b".to_vec(), NEVER);
    store.set_clock(1_000);
    store
}

#[test]
fn queries_end_among_expired_keys_and_go_on_behind_them() {
    let count = MAX_EXPIRED + 10;
    for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
        let store = with_expired(partition, count);
        let view = View::settled(&store);
        let (mut found, mut after, mut steps) = (Vec::new(), None, 0);
        loop {
            let Answer::Listing { keys, last } =
                view.keys(partition, after.as_ref(), b"*", 1_000).unwrap()
            else {
                panic!("keys are listed");
            };
            (found, steps) = ([found, keys].concat(), steps + 1);
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        assert_eq!((found, steps), (vec![Bytes::from("b")], (2 * count + 1).div_ceil(1_000)));
        let (mut found, mut start, mut steps) = (Vec::new(), Bytes::new(), 0);
        loop {
            let span = KeySpan { start: &start, after_start: steps > 0, end: None };
            let Answer::Pairs { pairs, more } = view.ordered(partition, span, 1, u64::MAX).unwrap()
            else {
                panic!("a step gives pairs");
            };
            steps += 1;
            let there = pairs.iter().filter(|(_, value)| value.is_some());
            found.extend(there.map(|(key, _)| key.clone()));
            match pairs.last() {
                Some((last, _)) if more => start = last.clone(),
                _ => break,
            }
        }
        assert_eq!((found, steps >= 3), (vec![Bytes::from("b")], true));
        let (mut found, mut from, mut examined_in_all) = (Vec::new(), Some(0), 0);
        while let Some(place) = from {
            let Answer::Page { keys, examined, next } =
                view.scan(partition, &(place..u64::MAX), 10, None).unwrap()
            else {
                panic!("a scan gives pages");
            };
            let is_bounded = examined < MAX_EXPIRED as u64 + 100;
            assert!(partition == Partition::Range || is_bounded, "{examined}");
            (found, from) = ([found, keys].concat(), next);
            examined_in_all += examined;
        }
        assert_eq!((found, examined_in_all), (vec![Bytes::from("b")], 2 * count as u64 + 1));
        // All that are near the place have expired, or one is there.
        for seed in 0..100 {
            let chosen = view.random(partition, seed).unwrap();
            assert!(chosen.is_none_or(|key| key == "b"));
        }
    }
    let store = with_expired(Partition::Range, 100);
    assert_eq!(View::settled(&store).random(Partition::Range, 7).unwrap(), Some(Bytes::from("b")));
}

#[test]
fn every_key_of_a_few_is_chosen_at_times() {
    for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
        assert_eq!(
            View::settled(&Entries::new(MemoryKeys::default(), 0)).random(partition, 7).unwrap(),
            None
        );
        let store = store(partition, keys("k", 10));
        let seeds = (0..2_000_u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let chosen: BTreeSet<_> =
            seeds.map(|seed| View::settled(&store).random(partition, seed).unwrap()).collect();
        assert_eq!(chosen.len(), 10);
    }
}

#[test]
fn a_pattern_that_is_slow_to_match_takes_more_queries() {
    let long = |i: usize| [format!("{{t}}{i}").into_bytes(), b"a".repeat(64 << 10)].concat();
    let pattern = [&b"*"[..], &b"b".repeat(60), b"*"].concat();
    for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
        let store = store(partition, (0..20).map(long));
        let (mut seen, mut from, mut steps) = (0, Some(0), 0);
        while let Some(place) = from {
            match View::settled(&store)
                .scan(partition, &(place..u64::MAX), 100, Some(&pattern))
                .unwrap()
            {
                Answer::Page { examined, next, .. } => {
                    (seen, from, steps) = (seen + examined, next, steps + 1);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((seen, steps > 2), (20, true));
        let (mut after, mut steps) = (None, 1);
        while let Answer::Listing { last: Some(last), .. } =
            View::settled(&store).keys(partition, after.as_ref(), &pattern, 100).unwrap()
        {
            (after, steps) = (Some(last), steps + 1);
        }
        assert!(steps > 2);
    }
}

#[test]
fn a_page_ends_at_so_many_bytes() {
    let long = |i: usize| [format!("{{t}}{i:02}").into_bytes(), b"a".repeat(50_000)].concat();
    for partition in [Partition::Hash, Partition::Range] {
        let store = store(partition, (0..20).map(long));
        let (mut found, mut from) = (BTreeSet::new(), Some(0));
        while let Some(place) = from {
            let Answer::Page { keys, next, .. } =
                View::settled(&store).scan(partition, &(place..u64::MAX), 100, None).unwrap()
            else {
                panic!("a scan gives pages");
            };
            assert!(keys.iter().map(Bytes::len).sum::<usize>() < PAGE_BYTES + 50_100);
            found.extend(keys);
            from = next;
        }
        assert_eq!(found.len(), 20);
        let (mut listed, mut after) = (0, None);
        loop {
            let Answer::Listing { keys, last } =
                View::settled(&store).keys(partition, after.as_ref(), b"*", 100).unwrap()
            else {
                panic!("keys are listed");
            };
            assert!(keys.len() <= 6);
            listed += keys.len();
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        assert_eq!(listed, 20);
    }
}

fn pairs(answer: Answer) -> (Vec<Bytes>, bool) {
    match answer {
        Answer::Pairs { pairs, more } => (pairs.into_iter().map(|(key, _)| key).collect(), more),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_step_of_a_range_stops_at_bytes_but_makes_progress() {
    let store = store(Partition::Range, keys("k", 10));
    let step = |limit_bytes| {
        pairs(View::settled(&store).ordered(Partition::Range, ALL_KEYS, 100, limit_bytes).unwrap())
    };
    assert_eq!(step(1).0, ["k0"]);
    assert_eq!(step(7).0, ["k0"]);
    assert_eq!(step(8).0, ["k0", "k1"]);
    assert!(step(8).1);
    assert_eq!(step(1000).0.len(), 10);
    assert!(!step(1000).1);
}

#[test]
fn a_value_beyond_the_bytes_of_a_step_is_left_out() {
    let mut store = store(Partition::Range, keys("k", 3));
    store.insert(Bytes::from("k1"), Bytes::from(vec![7; 100])).unwrap();
    match View::settled(&store).ordered(Partition::Range, ALL_KEYS, 100, 99).unwrap() {
        Answer::Pairs { pairs, more } => {
            let lengths: Vec<_> =
                pairs.iter().map(|(_, value)| value.as_ref().map(Bytes::len)).collect();
            assert_eq!((lengths, more), (vec![Some(2), None, Some(2)], false));
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn ranges_agree_with_a_sorted_list(
        keys in proptest::collection::btree_set(proptest::collection::vec(0..4u8, 0..4), 0..40),
        start in proptest::collection::vec(0..4u8, 0..4),
        end in proptest::option::of(proptest::collection::vec(0..4u8, 0..4)),
        after_start: bool,
        limit in 1..50usize,
    ) {
        let inside: Vec<_> = keys
            .iter()
            .filter(|key| **key > start || (**key == start && !after_start))
            .filter(|key| end.as_ref().is_none_or(|end| *key < end))
            .cloned()
            .collect();
        for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
            let store = store(partition, keys.iter().cloned());
            let span = KeySpan { start: &start, after_start, end: end.as_deref() };
            let view = View::settled(&store);
            let answer = view.ordered(partition, span, limit as u64, u64::MAX).unwrap();
            let (found, more) = pairs(answer);
            prop_assert_eq!(&found, &inside[..limit.min(inside.len())]);
            prop_assert_eq!(more, inside.len() > limit);
        }
    }
}

/// Keys of slot 1, which are there, and many of slot 2. All of these but the first have expired by
/// the clock of the node, so a query that looks at any of them is late.
fn with_a_large_slot_behind() -> (Entries, Vec<Bytes>) {
    let mut store = Entries::new(MemoryKeys::default(), 0);
    let mut put = |slot, name: Vec<u8>, deadline_ms| {
        let entry = Entry { value: Bytes::from("v"), deadline_ms };
        store.put(in_slot(slot, &name), entry).unwrap();
    };
    keys("here", 1_000).for_each(|name| put(1, name, NEVER));
    put(2, b"a".to_vec(), NEVER);
    keys("behind", 5_000).for_each(|name| put(2, name, 1_000));
    let mut names: Vec<Bytes> = keys("here", 1_000).map(Bytes::from).collect();
    names.sort();
    (store, names)
}

#[test]
fn a_scan_looks_at_nothing_behind_its_end() {
    for partition in [Partition::Hash, Partition::Slots] {
        let (store, names) = with_a_large_slot_behind();
        let view = View::at(&store, 2_000);
        for (pattern, found) in [(None, names.len()), (Some(&b""[..]), 0)] {
            let Answer::Page { keys, examined, next } =
                view.scan(partition, &(0..2 << 32), u64::MAX, pattern).unwrap()
            else {
                panic!("a scan gives pages");
            };
            assert_eq!((keys.len(), examined, next), (found, 1_000, None));
        }
        assert!(!view.is_late());
    }
}

#[test]
fn keys_that_do_not_match_leave_room_on_a_page() {
    let long = |i: usize| [format!("{{t}}{i:03}").into_bytes(), b"a".repeat(10_000)].concat();
    let store = store(Partition::Hash, (0..100).map(long));
    let answer =
        View::settled(&store).scan(Partition::Hash, &(0..u64::MAX), 1_000, Some(b"b*")).unwrap();
    assert_eq!(answer, Answer::Page { keys: Vec::new(), examined: 100, next: None });
}

#[test]
fn a_stretch_is_walked_in_steps_and_no_further() {
    let (store, names) = with_a_large_slot_behind();
    let view = View::at(&store, 2_000);
    let end = in_slot(2, b"");
    for with_names in [false, true] {
        let (mut start, mut found, mut counted) = (in_slot(1, b""), Vec::new(), 0);
        for step in 0.. {
            let span = KeySpan { start: &start, after_start: step > 0, end: Some(&end) };
            let Answer::Stretch { keys, count, last } =
                view.stretch(Partition::Hash, span, 300, with_names).unwrap()
            else {
                panic!("it is a stretch");
            };
            assert!(count <= 300 && keys.len() == if with_names { count as usize } else { 0 });
            found.extend(keys);
            counted += count;
            let Some(last) = last else {
                assert_eq!(step, 3);
                break;
            };
            start = last;
        }
        assert_eq!(counted, 1_000);
        assert!(!with_names || found == names);
    }
    assert!(!view.is_late());
    let nothing = Answer::Stretch { keys: Vec::new(), count: 0, last: None };
    for (start, end) in [(&b"b"[..], &b"b"[..]), (b"b", b"a"), (b"", b"")] {
        for after_start in [false, true] {
            let span = KeySpan { start, after_start, end: Some(end) };
            assert_eq!(view.stretch(Partition::Hash, span, 9, true).unwrap(), nothing);
        }
    }
}

#[test]
fn a_slot_of_too_many_keys_is_walked_in_parts() {
    let count = MAX_WALKED + 1;
    for partition in [Partition::Slots, Partition::Range] {
        let store = store(partition, keys("{t}", count));
        let view = View::settled(&store);
        let slot = u64::from(partition.stored_slot(&partition.stored(b"{t}"))) << 32;
        let here = Answer::Page { keys: Vec::new(), examined: 0, next: Some(slot) };
        assert_eq!(view.scan(partition, &(0..u64::MAX), 10, None).unwrap(), here);
        assert_eq!(view.scan(partition, &(slot..u64::MAX), 10, None).unwrap(), here);
        let (mut found, mut steps) = (BTreeSet::new(), 0);
        let third = (1 << 32) / 3;
        let ends = [slot, slot + third, slot + 2 * third, slot + (1 << 32)];
        for within in ends.windows(2).map(|ends| ends[0]..ends[1]) {
            let mut after = None;
            loop {
                let Answer::Stretch { keys, count, last } =
                    view.places(partition, &within, after.as_ref(), None, 100_000).unwrap()
                else {
                    panic!("it is a stretch");
                };
                assert_eq!(keys.len() as u64, count);
                found.extend(keys);
                steps += 1;
                after = last;
                if after.is_none() {
                    break;
                }
            }
        }
        assert_eq!(found.len(), count);
        assert!(steps >= 6, "{steps}");
    }
}
