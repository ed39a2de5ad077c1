//! The micro-kernel: up to 2 by 2 tiles of C stay in tile registers while the inner dimension runs. All that is assembly.

use std::arch::asm;
use std::marker::PhantomData;

use super::super::super::simd::Amx;
use super::{STEP, TILE};

/// The tile registers of this thread, configured: eight tiles of 16 rows by 64 bytes. Dropping it gives them back.
pub(super) struct Tiles(PhantomData<*const ()>);

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Tiles {
    pub(super) fn new(_: Amx) -> Self {
        // SAFETY: the token proves the instruction and the permission; the configuration is one that AMX-BF16 CPUs have.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly, preserves_flags)) };
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `new` has proven the instruction. Without live tiles the system has 8 KiB less to save.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Operands of one block of C.
///
/// Valid when for each tile row (tile column) of the block `steps` steps of A (B) can be read from `a` (`b`), `a_next`
/// (`b_next`) floats after those of the one before, and when each row of the block can be read from `seed`, which is null where C
/// starts from zero, and written to `c`.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub steps: usize,
    pub a: *const f32,
    pub a_next: usize,
    pub b: *const f32,
    pub b_next: usize,
    pub seed: *const f32,
    pub seed_stride: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Room for one tile, whose contents nobody reads. On the Xeon this was measured on, a store of a tile takes some 900 cycles
    /// if 2000 or more have gone by since the last one; with a store of anything every second step that does not happen.
    pub spill: *mut f32,
}

/// One instruction for each tile of C in a block, or for each operand tile.
macro_rules! each {
    (1, $first:expr, $second:expr) => {
        $first
    };
    (2, $first:expr, $second:expr) => {
        concat!($first, $second)
    };
}

macro_rules! load_a {
    ($rows:tt, $plane:literal) => {
        each!(
            $rows,
            concat!("tileloadd tmm4, [{a} + {line} + ", $plane, "]\n"),
            concat!("tileloadd tmm5, [{a2} + {line} + ", $plane, "]\n")
        )
    };
}

macro_rules! load_b {
    ($cols:tt, $plane:literal) => {
        each!(
            $cols,
            concat!("tileloadd tmm6, [{b} + {line} + ", $plane, "]\n"),
            concat!("tileloadd tmm7, [{b2} + {line} + ", $plane, "]\n")
        )
    };
}

macro_rules! products {
    ($rows:tt, $cols:tt) => {
        each!(
            $rows,
            each!($cols, "tdpbf16ps tmm0, tmm4, tmm6\n", "tdpbf16ps tmm1, tmm4, tmm7\n"),
            each!($cols, "tdpbf16ps tmm2, tmm5, tmm6\n", "tdpbf16ps tmm3, tmm5, tmm7\n")
        )
    };
}

/// Defines the kernel of a block of `$rows` by `$cols` tiles.
macro_rules! kernel {
    ($name:ident, $rows:tt, $cols:tt) => {
        #[inline]
        unsafe fn $name(block: &Block) {
            let Block { steps, a, a_next, b, b_next, seed, seed_stride, c, c_stride, spill } = *block;
            // SAFETY: the caller's promise; all tiles are 16 rows of 64 bytes. Only pointers are computed for the second row or
            // column of tiles where the block has none.
            unsafe {
                asm!(
                    "/* {a2} {b2} {seed2} {c2} */",
                    "test {seed}, {seed}",
                    "jz 4f",
                    each!($rows,
                        each!($cols, "tileloadd tmm0, [{seed} + {seed_stride}]\n", "tileloadd tmm1, [{seed} + {seed_stride} + 64]\n"),
                        each!($cols, "tileloadd tmm2, [{seed2} + {seed_stride}]\n", "tileloadd tmm3, [{seed2} + {seed_stride} + 64]\n")),
                    "jmp 5f",
                    "4:",
                    each!($rows,
                        each!($cols, "tilezero tmm0\n", "tilezero tmm1\n"),
                        each!($cols, "tilezero tmm2\n", "tilezero tmm3\n")),
                    "5:",
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    // Neighbours share an operand; the products that are small come first.
                    load_a!($rows, 2048), load_b!($cols, 0), products!($rows, $cols), // a3 b1
                    load_a!($rows, 1024), products!($rows, $cols), // a2 b1
                    load_b!($cols, 1024), products!($rows, $cols), // a2 b2
                    load_a!($rows, 0), products!($rows, $cols), // a1 b2
                    load_b!($cols, 2048), products!($rows, $cols), // a1 b3
                    load_b!($cols, 0), products!($rows, $cols), // a1 b1
                    "add {a}, {step}",
                    // See `Block::spill`.
                    "test {steps}, 1",
                    "jz 6f",
                    "tilestored [{spill} + {line}], tmm6",
                    "6:",
                    "add {a2}, {step}",
                    "add {b}, {step}",
                    "add {b2}, {step}",
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    each!($rows,
                        each!($cols, "tilestored [{c} + {c_stride}], tmm0\n", "tilestored [{c} + {c_stride} + 64], tmm1\n"),
                        each!($cols, "tilestored [{c2} + {c_stride}], tmm2\n", "tilestored [{c2} + {c_stride} + 64], tmm3\n")),
                    step = const STEP * size_of::<f32>(),
                    line = in(reg) 64usize,
                    steps = inout(reg) steps => _,
                    a = inout(reg) a => _,
                    a2 = inout(reg) a.wrapping_add(a_next) => _,
                    b = inout(reg) b => _,
                    b2 = inout(reg) b.wrapping_add(b_next) => _,
                    spill = in(reg) spill,
                    seed = in(reg) seed,
                    seed2 = in(reg) seed.wrapping_add(TILE * seed_stride),
                    seed_stride = in(reg) seed_stride * size_of::<f32>(),
                    c = in(reg) c,
                    c2 = in(reg) c.wrapping_add(TILE * c_stride),
                    c_stride = in(reg) c_stride * size_of::<f32>(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

kernel!(one_by_one, 1, 1);
kernel!(one_by_two, 1, 2);
kernel!(two_by_one, 2, 1);
kernel!(two_by_two, 2, 2);

impl Tiles {
    /// Computes a block of up to 2 by 2 tiles of C.
    ///
    /// # Safety
    /// See [`Block`].
    #[inline]
    pub(super) unsafe fn multiply(&self, (rows, cols): (usize, usize), block: &Block) {
        // SAFETY: the caller's promise; `self` proves that the tiles are configured.
        unsafe {
            match (rows, cols) {
                (1, 1) => one_by_one(block),
                (1, 2) => one_by_two(block),
                (2, 1) => two_by_one(block),
                (2, 2) => two_by_two(block),
                _ => unreachable!("a block has 1 or 2 tiles each way"),
            }
        }
    }
}
