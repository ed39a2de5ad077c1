//! `kernels/bias.cu` against the rounding of another library.

use scaledown::trainer::ops::bias;

use crate::harness::{Emulator, ORDERS, REALS, is_available, random, to_bf16};

#[test]
fn a_bias_is_rounded_to_the_nearest_bf16() {
    if !is_available() {
        return;
    }
    for real in REALS {
        for (len, order) in [1, 255, 256, 515].into_iter().zip(ORDERS.into_iter().cycle()) {
            let values = random(3, len);
            let mut emulator = Emulator::new(real, order);
            let (from, out) = (emulator.floats(&values), emulator.bytes(vec![0xff; 2 * len]));
            emulator.run([bias::cuda::round(len, from, out)]);
            let expected: Vec<u8> = values.iter().flat_map(|value| to_bf16(*value).to_le_bytes()).collect();
            assert_eq!(emulator.part(out, 2 * len), expected, "{real:?} {len}");
        }
    }
}
