//! The order in which an epoch visits the training pictures.

use crate::random::{Purpose, Stream};

use super::Pictures;

/// The pictures of epoch `epoch`, as many as there are. With `balance`, each class comes equally often (up to one):
/// pictures of small classes are repeated, and of large ones others are left out in each epoch.
pub fn order(seed: u64, epoch: u64, pictures: &Pictures, balance: bool) -> Vec<u32> {
    let mut stream = Stream::new(seed, Purpose::Order, epoch);
    let count = pictures.count();
    if !balance || pictures.labels().is_empty() {
        return stream.permutation(count as u32);
    }
    let mut classes: Vec<Vec<u32>> = Vec::new();
    for (index, label) in pictures.labels().iter().enumerate() {
        let label = usize::from(*label);
        classes.resize_with(classes.len().max(label + 1), Vec::new);
        classes[label].push(index as u32);
    }
    classes.retain(|class| !class.is_empty());
    // which classes have one picture more, where the number cannot be divided, differs from epoch to epoch
    let turn = stream.permutation(classes.len() as u32);
    let mut visited = Vec::with_capacity(count);
    for (place, class) in turn.iter().map(|class| &classes[*class as usize]).enumerate() {
        let mut missing = count / classes.len() + usize::from(place < count % classes.len());
        while missing > 0 {
            let shuffled = stream.permutation(class.len() as u32);
            let taken = missing.min(class.len());
            visited.extend(shuffled[..taken].iter().map(|index| class[*index as usize]));
            missing -= taken;
        }
    }
    let shuffled = stream.permutation(count as u32);
    shuffled.into_iter().map(|place| visited[place as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(counts: &[usize]) -> Pictures {
        let labels: Vec<u16> =
            counts.iter().enumerate().flat_map(|(class, count)| vec![class as u16; *count]).collect();
        Pictures::from_rows(1, vec![0; labels.len()], labels)
    }

    #[test]
    fn every_picture_comes_once_unless_classes_are_balanced() {
        let pictures = pictures(&[90, 10]);
        let mut all = order(3, 2, &pictures, false);
        assert_eq!(all, Stream::new(3, Purpose::Order, 2).permutation(100));
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn balanced_classes_come_equally_often() {
        let pictures = pictures(&[90, 0, 10, 5]);
        let mut seen = [0usize; 105];
        for epoch in 0..30 {
            let order = order(3, epoch, &pictures, true);
            assert_eq!((order.len(), &order), (105, &super::order(3, epoch, &pictures, true)));
            let mut counts = [0usize; 4];
            order.iter().for_each(|index| counts[usize::from(pictures.labels()[*index as usize])] += 1);
            assert_eq!(counts, [35, 0, 35, 35]);
            order.iter().for_each(|index| seen[*index as usize] += 1);
            // the classes are mixed
            assert!(
                order[..35].iter().any(|index| *index >= 90) && order[70..].iter().any(|index| *index < 90)
            );
        }
        // over some epochs no picture is left out, and those of one class come about equally often
        assert!(seen[..90].iter().all(|count| (3..=25).contains(count)), "{seen:?}");
        assert!(seen[90..100].iter().all(|count| (90..=120).contains(count)), "{seen:?}");
    }
}
