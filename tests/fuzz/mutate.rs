//! Inputs out of inputs, determined by a seed.

/// Longest input: a few heads, or a small entry.
const BYTES_MAX: usize = 16 * 1024;

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<'p, T>(&mut self, from: &'p [T]) -> &'p T {
        &from[self.below(from.len())]
    }

    /// A range of something that long; often a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length - start } else { (length - start).min(8) };
        start..start + self.below(most + 1)
    }
}

/// An input of the corpus with a few changes.
pub(crate) fn mutate(corpus: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(corpus).clone();
    for _ in 0..=random.below(6) {
        let range = random.range(input.len());
        match random.below(7) {
            0 => drop(input.splice(range, [])),
            1 => {
                let word = random.pick(words).as_bytes().to_vec();
                drop(input.splice(range.start..range.start, word));
            }
            2 => {
                let word = random.pick(words).as_bytes().to_vec();
                drop(input.splice(range, word));
            }
            3 => {
                let copy = input[range].to_vec();
                let at = random.below(input.len() + 1);
                drop(input.splice(at..at, copy));
            }
            4 => {
                let other = random.pick(corpus);
                let part = other[random.range(other.len())].to_vec();
                drop(input.splice(range, part));
            }
            5 => {
                let bit = 1 << random.below(8);
                if let Some(byte) = input.get_mut(range.start) {
                    *byte ^= bit;
                }
            }
            _ => {
                let odd = *random.pick(&[0, b'\t', b'\n', b'\r', b' ', b'"', b'%', b'0', b'9', b';', 0x7f, 0x80, 0xff]);
                drop(input.splice(range.start..range.start, [odd]));
            }
        }
        input.truncate(BYTES_MAX);
    }
    input
}

/// The bytes of a line as `escape_ascii` writes them.
pub(crate) fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        let escaped = match byte {
            b'\\' => match rest.next().expect("an escape is whole") {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                literal => literal,
            },
            plain => plain,
        };
        bytes.push(escaped);
    }
    bytes
}

#[test]
fn what_is_printed_can_be_read_again() {
    let _alone = crate::alone();
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(unescape(&all.escape_ascii().to_string()), all);
}
