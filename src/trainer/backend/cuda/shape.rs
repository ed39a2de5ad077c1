//! Shapes of products: everything that their algorithm is chosen by.
//!
//! Input: a [`Product`] and its addresses. Output: a [`Shape`], equal for products that can share a plan, and the library's
//! column-major view of it: outᵀ = bᵀ aᵀ. Pure. Must not know the library.

use super::device::Address;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Product, Real};

/// Where the matrices of a product are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operands {
    pub a: Address,
    pub b: Address,
    /// Added to the product; the output itself where nothing is.
    pub addend: Address,
    pub out: Address,
    /// Of the output's type.
    pub bias: Option<Address>,
}

/// Everything that an algorithm is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the sizes and parts of a product, as it names them")]
pub struct Shape {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub is_a_transposed: bool,
    pub is_b_transposed: bool,
    pub factors: Real,
    pub out: Real,
    pub has_addend: bool,
    pub has_bias: bool,
    /// Largest powers of two, up to 256, that divide the addresses: of a, b, addend, out, bias.
    pub alignments: [u32; 5],
}

impl Shape {
    /// The same product with its bias left out.
    pub(super) fn without_bias(self) -> Self {
        let [a, b, addend, out, _] = self.alignments;
        Self { has_bias: false, alignments: [a, b, addend, out, 256], ..self }
    }

    /// The shape of a product.
    ///
    /// # Errors
    /// [`TrainerError::Cuda`] where the library has no such product.
    pub(super) fn new(product: &Product, operands: &Operands) -> Result<Self, TrainerError> {
        let Product { m, n, k, a, b, addend, bias, out: _, out_real } = *product;
        let is_known = a.real == b.real && (a.real == Real::Bf16 || out_real == Real::F32);
        if !is_known || (addend.is_some() && out_real != Real::F32) || [m, n, k].contains(&0) {
            let operation = format!("a product {m} x {n} x {k} of {:?} and {:?} to {out_real:?}", a.real, b.real);
            return Err(TrainerError::Cuda { operation, code: "no such product".into() });
        }
        let alignment = |address: Address| 1 << address.0.trailing_zeros().min(8);
        let bias_alignment = operands.bias.map_or(256, alignment);
        Ok(Self {
            m,
            n,
            k,
            is_a_transposed: a.transposed,
            is_b_transposed: b.transposed,
            factors: a.real,
            out: out_real,
            has_addend: addend.is_some(),
            has_bias: bias.is_some(),
            alignments: [
                alignment(operands.a),
                alignment(operands.b),
                alignment(operands.addend),
                alignment(operands.out),
                bias_alignment,
            ],
        })
    }

    /// Rows, columns and whether the library transposes it, of its A (our b) as it lies in memory, column-major.
    pub(super) fn library_a(&self) -> (usize, usize, bool) {
        if self.is_b_transposed { (self.k, self.n, true) } else { (self.n, self.k, false) }
    }

    /// As [`Shape::library_a`], of its B (our a).
    pub(super) fn library_b(&self) -> (usize, usize, bool) {
        if self.is_a_transposed { (self.m, self.k, true) } else { (self.k, self.m, false) }
    }

    /// Addresses in a piece of memory for trying algorithms, and its size.
    pub(super) fn scratch(&self, base: Address) -> (Operands, usize) {
        let mut end = 0;
        let mut place = |elements: usize, real: Real| {
            let at = base.at(end);
            end += (elements * real.bytes()).next_multiple_of(256);
            at
        };
        let (a, b) = (place(self.m * self.k, self.factors), place(self.k * self.n, self.factors));
        let out = place(self.m * self.n, self.out);
        let bias = self.has_bias.then(|| place(self.n, self.out));
        (Operands { a, b, addend: out, out, bias }, end)
    }

    /// Operations: two a multiply-accumulate.
    #[expect(clippy::cast_precision_loss, reason = "an amount of work")]
    #[must_use]
    pub fn flop(&self) -> f64 {
        2.0 * (self.m * self.n) as f64 * self.k as f64
    }

    /// Bytes of its operands, each read or written once.
    #[expect(clippy::cast_precision_loss, reason = "an amount of work")]
    #[must_use]
    pub fn bytes(&self) -> f64 {
        let factors = (self.m * self.k + self.k * self.n) * self.factors.bytes();
        (factors + self.m * self.n * self.out.bytes() * (1 + usize::from(self.has_addend))) as f64
    }

    /// Everything that an algorithm is chosen by, in words.
    #[must_use]
    pub fn in_full(&self) -> String {
        let Self { m, n, k, is_a_transposed, is_b_transposed, factors, out, has_addend, has_bias, alignments } = *self;
        let (a, b) = (if is_a_transposed { "aT" } else { "a" }, if is_b_transposed { "bT" } else { "b" });
        let added = [(has_addend, " + addend"), (has_bias, " + bias")].map(|(is_there, what)| if is_there { what } else { "" });
        let least = alignments.iter().min().expect("five alignments");
        format!("{m} x {n} x {k}, {a} {b}{}{}, {factors:?} to {out:?}, aligned to {least}", added[0], added[1])
            .replace("Bf16", "bf16")
            .replace("F32", "f32")
    }

    /// What is computed, for messages.
    pub(super) fn describe(&self) -> String {
        format!("the product {} x {} x {} of {:?} to {:?}", self.m, self.n, self.k, self.factors, self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::ops::launch::{BufferIdx, Factor, View};

    fn product(a_real: Real, out_real: Real, addend: bool) -> Product {
        let view = View { buffer: BufferIdx(0), offset: 0 };
        let (a, b) = (Factor::plain(view, a_real), Factor::transposed(view, a_real));
        Product { m: 3, n: 5, k: 7, a, b, addend: addend.then_some(view), bias: None, out: view, out_real }
    }

    const AT: Operands = Operands { a: Address(512), b: Address(0x104), addend: Address(0x1010), out: Address(6), bias: None };

    #[test]
    fn row_major_factors_become_column_major_ones_of_the_transposed_product() -> Result<(), TrainerError> {
        let shape = Shape::new(&product(Real::Bf16, Real::F32, true), &AT)?;
        // a [3, 7] lies as 7 x 3 column by column; b is given as [5, 7], which lies as 7 x 5 and is transposed to 5 x 7.
        assert_eq!((shape.library_a(), shape.library_b()), ((7, 5, true), (7, 3, false)));
        let turned = Shape { is_a_transposed: true, is_b_transposed: false, ..shape };
        assert_eq!((turned.library_a(), turned.library_b()), ((5, 7, false), (3, 7, true)));
        assert_eq!(shape.alignments, [256, 4, 16, 2, 256]);
        Ok(())
    }

    #[test]
    fn products_that_the_library_lacks_are_refused() {
        assert!(Shape::new(&product(Real::F32, Real::Bf16, false), &AT).is_err());
        assert!(Shape::new(&product(Real::Bf16, Real::Bf16, true), &AT).is_err());
        assert!(Shape::new(&Product { k: 0, ..product(Real::F32, Real::F32, false) }, &AT).is_err());
        assert!(Shape::new(&product(Real::F32, Real::F32, true), &AT).is_ok());
    }

    #[test]
    fn scratch_operands_do_not_overlap() -> Result<(), TrainerError> {
        let shape = Shape { has_bias: true, ..Shape::new(&product(Real::Bf16, Real::F32, false), &AT)? };
        let (at, bytes) = shape.scratch(Address(1024));
        assert_eq!((at.a, at.b, at.out, at.bias, bytes), (Address(1024), Address(1280), Address(1536), Some(Address(1792)), 1024));
        Ok(())
    }
}
