//! The one source of training randomness: Philox4x32-10, a counter-based generator.
//!
//! A key stands for (seed, stream); a counter is (step, sample, draw). A draw is a pure function of the four, so any draw of
//! any step can be had without those before it: resuming is a seek, and threads cannot change a result. The integers and the
//! uniform floats use integer arithmetic and exact scaling only, so a CUDA twin gives the same bits: it takes the two words
//! of [`Philox::key`] and counts in the same way. Normals go through `libm` and are made on the CPU alone.
//!
//! Must not know: what the draws are for, beyond the names in [`Stream`].
//!
//! **Source**: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

use std::convert::Infallible;

use rand::{RngExt, TryRng};

const MULTIPLIER_0: u32 = 0xD251_1F53;
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;

/// What draws are for. Streams of one seed are independent; the numbers are part of every key, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Stream {
    /// Initial parameters.
    Init = 1,
    /// Order of samples within an epoch.
    Order = 2,
    /// Augmentation of images.
    Augment = 3,
    /// Patches left out.
    Mask = 4,
    /// The procedural world.
    Scenes = 5,
    /// Random subsets.
    Subset = 6,
    /// The fixed order in which pools nest.
    Pool = 7,
    /// Choice of labelled images in few-shot and probe evaluations.
    Fewshot = 8,
    /// Simulated runs, of which claims are judged.
    Simulation = 9,
    /// What other seeds and items would have made of the cells of a fit.
    Fits = 10,
}

/// One block of Philox4x32-10: four words from a counter of four words and a key of two.
#[inline]
#[must_use]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let product0 = u64::from(MULTIPLIER_0) * u64::from(c0);
        let product1 = u64::from(MULTIPLIER_1) * u64::from(c2);
        let (high0, low0) = ((product0 >> 32) as u32, product0 as u32);
        let (high1, low1) = ((product1 >> 32) as u32, product1 as u32);
        (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0);
        k0 = k0.wrapping_add(WEYL_0);
        k1 = k1.wrapping_add(WEYL_1);
    }
    [c0, c1, c2, c3]
}

/// A keyed generator: all draws of one (seed, stream).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The generator of a seed's stream. The key is itself a Philox block, keyed by the seed and counted by the stream.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        let [k0, k1, ..] = philox4x32([stream as u32, 0, 0, u32::MAX], [seed as u32, (seed >> 32) as u32]);
        Self { key: [k0, k1] }
    }

    /// The two key words, as a kernel takes them.
    #[must_use]
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// Block `block` of (step, sample): draws `4 * block` to `4 * block + 3`.
    #[inline]
    #[must_use]
    pub fn block(&self, step: u64, sample: u32, block: u32) -> [u32; 4] {
        philox4x32([block, sample, step as u32, (step >> 32) as u32], self.key)
    }

    /// The draws of (step, sample), from draw 0 on.
    #[must_use]
    pub fn at(&self, step: u64, sample: u32) -> Draws {
        Draws { philox: *self, step, sample, draw: 0, words: [0; 4], held: u32::MAX }
    }
}

/// The draws of one (key, step, sample) in order; also a generator for `rand`'s distributions.
#[derive(Debug, Clone)]
pub struct Draws {
    philox: Philox,
    step: u64,
    sample: u32,
    draw: u32,
    words: [u32; 4],
    /// The block that `words` holds; `u32::MAX` before the first.
    held: u32,
}

impl Draws {
    /// Goes to a draw; the next word is that one.
    #[must_use]
    pub fn from_draw(mut self, draw: u32) -> Self {
        self.draw = draw;
        self
    }

    /// The next word.
    #[inline]
    pub fn word(&mut self) -> u32 {
        let block = self.draw / 4;
        if block != self.held {
            self.words = self.philox.block(self.step, self.sample, block);
            self.held = block;
        }
        let word = self.words[(self.draw % 4) as usize];
        self.draw = self.draw.wrapping_add(1);
        word
    }

    /// The next two words, low one first.
    #[inline]
    pub fn word64(&mut self) -> u64 {
        let low = u64::from(self.word());
        low | (u64::from(self.word()) << 32)
    }

    /// Uniform in [0, 1), by `rand`: the top 24 bits of one word, exactly scaled, which is [`uniform_f32`].
    #[inline]
    pub fn uniform(&mut self) -> f32 {
        self.random()
    }

    /// Uniform in [0, 1), by `rand`: the top 53 bits of two words, exactly scaled.
    #[inline]
    pub fn uniform64(&mut self) -> f64 {
        self.random()
    }

    /// Uniform in [low, high).
    #[inline]
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in 0..bound without bias (Lemire 2019: multiply, reject the short remainder); 0 where `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        let mut product = u64::from(self.word()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.word()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }

    /// True with this probability.
    #[inline]
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Two independent standard normals (Box-Muller in f64 from two words).
    #[inline]
    pub fn normals(&mut self) -> (f64, f64) {
        // Shifted by half a step, so that the logarithm never sees zero.
        let radius_draw = (f64::from(self.word()) + 0.5) * (1.0 / 4_294_967_296.0);
        let angle_draw = (f64::from(self.word()) + 0.5) * (1.0 / 4_294_967_296.0);
        let radius = (-2.0 * libm::log(radius_draw)).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * angle_draw);
        (radius * cos, radius * sin)
    }

    /// One standard normal; its twin is thrown away.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        self.normals().0
    }
}

/// A word as a uniform f32 in [0, 1): its top 24 bits, exactly scaled.
#[inline]
#[must_use]
pub fn uniform_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.word64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(4) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn blocks_equal_the_known_answers_of_random123() {
        // kat_vectors of the Random123 library, lines `philox4x32 10`.
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox4x32(counter, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn a_draw_does_not_depend_on_those_before_it() {
        let philox = Philox::new(7, Stream::Augment);
        let mut all = philox.at(3, 5);
        let words: Vec<u32> = (0..40).map(|_| all.word()).collect();
        for (draw, &word) in words.iter().enumerate() {
            assert_eq!(philox.at(3, 5).from_draw(draw as u32).word(), word);
            assert_eq!(philox.block(3, 5, draw as u32 / 4)[draw % 4], word);
        }
    }

    #[test]
    fn seeds_streams_steps_and_samples_each_change_the_draws() {
        let first = |seed, stream, step, sample| Philox::new(seed, stream).at(step, sample).word64();
        let base = first(1, Stream::Init, 1, 1);
        assert_ne!(base, first(2, Stream::Init, 1, 1));
        assert_ne!(base, first(1 + (1 << 32), Stream::Init, 1, 1));
        assert_ne!(base, first(1, Stream::Order, 1, 1));
        assert_ne!(base, first(1, Stream::Init, 1 + (1 << 32), 1));
        assert_ne!(base, first(1, Stream::Init, 1, 2));
    }

    #[test]
    fn uniforms_stay_below_one_and_fill_the_range() {
        assert_eq!(uniform_f32(0), 0.0);
        assert!(uniform_f32(u32::MAX) < 1.0);
        let mut draws = Philox::new(0, Stream::Init).at(0, 0);
        let mean = (0..100_000).map(|_| draws.uniform64()).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 5e-3, "mean {mean}");
    }

    #[test]
    fn bounded_integers_are_unbiased_where_a_modulo_would_not_be() {
        // With a bound of 3 * 2^30 a plain modulo would give the lowest third half of all draws.
        let bound = 3u32 << 30;
        let mut draws = Philox::new(0, Stream::Init).at(0, 0);
        let low = (0..30_000).filter(|_| draws.below(bound) < 1 << 30).count();
        assert!((9_600..10_400).contains(&low), "{low}");
        assert_eq!(draws.below(0), 0);
        assert_eq!(draws.below(1), 0);
    }

    #[test]
    fn normals_have_the_moments_of_a_standard_normal() {
        let mut draws = Philox::new(0, Stream::Init).at(0, 0);
        let values: Vec<f64> = (0..100_000).map(|_| draws.normal()).collect();
        let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / 1e5;
        assert!(moment(1).abs() < 0.015 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.12, "{} {}", moment(3), moment(4));
    }

    #[test]
    fn uniforms_of_rand_are_the_top_bits_of_the_words() {
        // What a CUDA kernel computes from the same words; a release of `rand` that scales otherwise fails here.
        let mut draws = Philox::new(3, Stream::Augment).at(1, 2);
        let mut words = draws.clone();
        for _ in 0..1000 {
            assert_eq!(draws.uniform().to_bits(), uniform_f32(words.word()).to_bits());
            let exact = (words.word64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
            assert_eq!(draws.uniform64().to_bits(), exact.to_bits());
        }
    }

    #[test]
    fn distributions_of_rand_sit_on_the_draws() {
        let mut draws = Philox::new(0, Stream::Init).at(0, 0);
        assert!((0..1000).all(|_| (3..9).contains(&draws.random_range(3..9))));
    }

    #[test]
    fn shuffles_of_rand_reach_every_order_equally_often() {
        use rand::seq::SliceRandom;
        let mut counts = std::collections::BTreeMap::new();
        for sample in 0..6000 {
            let mut order = [0, 1, 2];
            order.shuffle(&mut Philox::new(1, Stream::Order).at(0, sample));
            *counts.entry(order).or_insert(0) += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|count| (880..1120).contains(count)), "{counts:?}");
    }
}
