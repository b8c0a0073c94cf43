//! What each encoding costs, and what it leaves of the bytes, on real lists.
//!
//!   cargo bench --bench encodings > benches/results/encodings.txt

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use endcap::fill::encode::encode;
use endcap::policy::encoding::Coding;

const CAPTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/captures/http");
/// The footer's list of a shop with 5,000 products has as many bytes.
const LARGE_BYTES: usize = 9_800_000;
/// The best of so many rounds counts, and there are fewer of what takes long.
const ROUNDS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let read = |name: &str| std::fs::read(format!("{CAPTURES}/{name}")).with_context(|| name.to_owned());
    println!("{:<26} {:>9}  {:<8} {:>9}  {:>7}  {:>9}", "body", "bytes", "encoding", "bytes", "ratio", "ms (best)");
    for name in ["product-vip-anonymous.body", "products-12.body", "categories-starter.body"] {
        measure(name, &read(name)?)?;
    }
    measure("products, 9.8 MB", &large(&String::from_utf8(read("products-12-starter.body")?)?))
}

fn measure(name: &str, body: &[u8]) -> Result<()> {
    for coding in Coding::ALL {
        let (mut best, began, mut length) = (Duration::MAX, Instant::now(), body.len());
        for _ in 0..ROUNDS {
            let round = Instant::now();
            let encoded = black_box(encode(coding, black_box(body))?);
            best = best.min(round.elapsed());
            length = encoded.map_or(body.len(), |encoded| encoded.len());
            if began.elapsed() > PATIENCE {
                break;
            }
        }
        let (ratio, ms) = (body.len() as f64 / length as f64, best.as_secs_f64() * 1e3);
        println!("{name:<26} {:>9}  {:<8} {length:>9}  {ratio:>5.1}:1  {ms:>9.2}", body.len(), coding.as_str());
    }
    Ok(())
}

/// Real products, again and again, each time with ids of their own: what a large list has in common with itself.
fn large(list: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(LARGE_BYTES + list.len());
    let mut number = 0_u64;
    while body.len() < LARGE_BYTES {
        for (at, piece) in list.split("_01").enumerate() {
            if at > 0 {
                // Four bits a letter, as far from one another as chance would have it.
                let hash = blake3::hash(&[number, (at / 4) as u64].map(u64::to_be_bytes).concat()).to_hex();
                body.extend_from_slice(b"_01");
                body.extend_from_slice(hash.to_uppercase().split_at(24).0.as_bytes());
            }
            let rest = if at > 0 { piece.split_at_checked(24).map_or("", |(_, rest)| rest) } else { piece };
            body.extend_from_slice(rest.as_bytes());
        }
        number += 1;
    }
    body
}
