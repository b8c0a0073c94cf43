//! Chance, as an argument: what keeps nodes out of step with one another, and is the same again for the same seed.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A sequence of numbers that no other seed has.
#[derive(Debug)]
pub struct Jitter {
    seed: u64,
    drawn: AtomicU64,
}

impl Jitter {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// A seed that nobody can guess.
    pub fn seed() -> u64 {
        RandomState::new().hash_one(std::process::id())
    }

    /// The seed, and a number that it has not given before.
    pub fn unique(&self) -> u128 {
        (u128::from(self.seed) << 64) | u128::from(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// Between half of a pause and all of it.
    pub fn of(&self, pause: Duration) -> Duration {
        pause / 2 + pause.mul_f64(f64::from(self.draw()) / f64::from(u16::MAX) / 2.0)
    }

    /// Which of so many things: a number below `count`, of the first 65,536; 0 of none.
    pub fn one_of(&self, count: usize) -> usize {
        usize::from(self.draw()).checked_rem(count).unwrap_or(0)
    }

    fn draw(&self) -> u16 {
        let mut hasher = DefaultHasher::new();
        self.unique().hash(&mut hasher);
        let [a, b, ..] = hasher.finish().to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shortens_by_half_at_the_most_and_the_same_again_for_the_same_seed() {
        let pause = Duration::from_millis(100);
        let (one, two, other) = (Jitter::new(1), Jitter::new(1), Jitter::new(2));
        let pauses = |jitter: &Jitter| (0..100).map(|_| jitter.of(pause)).collect::<Vec<_>>();
        let drawn = pauses(&one);
        assert!(drawn.iter().all(|drawn| *drawn >= pause / 2 && *drawn <= pause));
        assert!(drawn.iter().any(|drawn| *drawn < pause * 6 / 10) && drawn.iter().any(|drawn| *drawn > pause * 9 / 10));
        assert_eq!(drawn, pauses(&two));
        assert_ne!(drawn, pauses(&other));
    }

    #[test]
    fn each_of_a_few_things_is_drawn_now_and_then() {
        let jitter = Jitter::new(1);
        let mut times = [0; 3];
        (0..300).for_each(|_| times[jitter.one_of(3)] += 1);
        assert!(times.iter().all(|times| *times > 60), "{times:?}");
        assert_eq!((jitter.one_of(1), jitter.one_of(0)), (0, 0));
    }
}
