//! Which pictures are held out: by a hash of their content, class by class.
//!
//! Pictures that belong together (copies, variants of one drawing) are held out together. Adding or removing a
//! picture moves no other, as long as no floor or bound below decides; a near copy can take its twin along.

use std::collections::BTreeMap;

/// A class of so many pictures has at least one held out.
const CLASS_WITH_FLOOR: usize = 4;
/// Where there are so many pictures…
const SET_WITH_FLOOR: usize = 40;
/// … at least so many are held out.
const FLOOR: usize = 8;

/// A picture to be held out or not.
pub(super) struct Candidate {
    /// SHA-256 of what stands for it: its file, or the group it belongs to by the user's rule.
    pub(super) sha256: [u8; 32],
    /// Its class; 0 for all where there are none.
    pub(super) class: u16,
    /// Pictures of one number stay together.
    pub(super) together: u32,
}

/// Pictures that stay together.
struct Unit {
    /// Which of their hashes speaks for them.
    rank: u64,
    /// Uniform in 0..2⁶⁴: held out if it is below the share.
    place: u64,
    members: Vec<usize>,
    /// How many of each class.
    classes: BTreeMap<u16, usize>,
}

/// Whether each picture is held out, for a share of 0 to 0.5.
pub(super) fn held_out(candidates: &[Candidate], share: f64) -> Vec<bool> {
    let mut held = vec![false; candidates.len()];
    if share <= 0.0 {
        return held;
    }
    let mut units: BTreeMap<u32, Unit> = BTreeMap::new();
    let mut classes: BTreeMap<u16, usize> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let half = |at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&candidate.sha256[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        // the member with the smallest first half speaks for all, with its second half: so a unit of many
        // pictures is held out no more often than one of a single picture
        let (rank, place) = (half(0), half(8));
        let unit = units.entry(candidate.together).or_insert(Unit {
            rank,
            place,
            members: Vec::new(),
            classes: BTreeMap::new(),
        });
        if rank < unit.rank {
            (unit.rank, unit.place) = (rank, place);
        }
        unit.members.push(index);
        *unit.classes.entry(candidate.class).or_default() += 1;
        *classes.entry(candidate.class).or_default() += 1;
    }
    let mut units: Vec<Unit> = units.into_values().collect();
    units.sort_by_key(|unit| (unit.place, unit.rank));

    let bound = (share * 2f64.powi(64)) as u64;
    let mut taken: BTreeMap<u16, usize> = BTreeMap::new();
    let mut count = 0;
    let mut chosen = vec![false; units.len()];
    let mut take = |number: usize, taken: &mut BTreeMap<u16, usize>, count: &mut usize| {
        let unit = &units[number];
        // at least half of each class stays to be learned from
        let fits = unit.classes.iter().all(|(class, more)| {
            let already = taken.get(class).copied().unwrap_or_default();
            2 * (already + more) <= classes[class]
        });
        if chosen[number] || !fits {
            return;
        }
        chosen[number] = true;
        *count += unit.members.len();
        unit.classes.iter().for_each(|(class, more)| *taken.entry(*class).or_default() += more);
        unit.members.iter().for_each(|index| held[*index] = true);
    };
    for (number, unit) in units.iter().enumerate() {
        if unit.place < bound {
            take(number, &mut taken, &mut count);
        }
    }
    let mut of_class: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (number, unit) in units.iter().enumerate() {
        unit.classes.keys().for_each(|class| of_class.entry(*class).or_default().push(number));
    }
    for (class, numbers) in of_class.iter().filter(|(class, _)| classes[class] >= CLASS_WITH_FLOOR) {
        for number in numbers {
            if taken.contains_key(class) {
                break;
            }
            take(*number, &mut taken, &mut count);
        }
    }
    if candidates.len() >= SET_WITH_FLOOR {
        for number in 0..units.len() {
            if count >= FLOOR {
                break;
            }
            take(number, &mut taken, &mut count);
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Pictures that stand for themselves, `counts` of each class.
    fn candidates(counts: &[usize]) -> Vec<Candidate> {
        let classes =
            counts.iter().enumerate().flat_map(|(class, count)| (0..*count).map(move |i| (class, i)));
        let candidate = |(number, (class, index)): (usize, (usize, usize))| Candidate {
            sha256: Sha256::digest(format!("{class} {index}")).into(),
            class: class as u16,
            together: number as u32,
        };
        classes.enumerate().map(candidate).collect()
    }

    fn per_class(candidates: &[Candidate], held: &[bool], classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        candidates
            .iter()
            .zip(held)
            .filter(|(_, held)| **held)
            .for_each(|(c, _)| counts[usize::from(c.class)] += 1);
        counts
    }

    #[test]
    fn a_share_of_each_class_is_held_out() {
        let all = candidates(&[4000, 2000, 1000]);
        let counts = per_class(&all, &held_out(&all, 0.05), 3);
        for (count, expected) in counts.iter().zip([200.0, 100.0, 50.0f64]) {
            assert!((*count as f64 - expected).abs() < 4.0 * expected.sqrt(), "{counts:?}");
        }
        assert!(held_out(&all, 0.0).iter().all(|held| !held));
    }

    #[test]
    fn no_class_is_on_one_side_and_floors_hold() {
        for counts in [vec![10], vec![5, 5], vec![4; 10], vec![400], vec![100, 4, 1], vec![40], vec![80; 5]] {
            let all = candidates(&counts);
            let held = per_class(&all, &held_out(&all, 0.05), counts.len());
            for (count, held) in counts.iter().zip(&held) {
                assert!(held * 2 <= *count, "{counts:?}: {held:?}");
                assert!(*count < CLASS_WITH_FLOOR || *held > 0, "{counts:?}: {held:?}");
            }
            let total: usize = counts.iter().sum();
            assert!(total < SET_WITH_FLOOR || held.iter().sum::<usize>() >= FLOOR, "{counts:?}: {held:?}");
        }
    }

    #[test]
    fn a_picture_more_or_less_moves_no_other() {
        let all = candidates(&[3000, 900]);
        let whole = held_out(&all, 0.05);
        for removed in [0, 17, 2999, 3500] {
            let mut fewer = candidates(&[3000, 900]);
            fewer.remove(removed);
            let mut expected = whole.clone();
            expected.remove(removed);
            assert_eq!(held_out(&fewer, 0.05), expected, "without picture {removed}");
        }
    }

    #[test]
    fn what_belongs_together_stays_together_and_is_held_out_no_more_often() {
        let mut all = candidates(&[6000]);
        all.iter_mut().for_each(|candidate| candidate.together /= 6);
        let held = held_out(&all, 0.05);
        assert!(held.chunks(6).all(|unit| unit.iter().all(|held| *held == unit[0])));
        let share = held.iter().filter(|held| **held).count() as f64 / 6000.0;
        assert!((0.03..0.07).contains(&share), "{share}");
        // a class whose pictures are all one drawing can only stay whole
        all.iter_mut().for_each(|candidate| candidate.together = 0);
        assert!(held_out(&all, 0.05).iter().all(|held| !held));
    }
}
