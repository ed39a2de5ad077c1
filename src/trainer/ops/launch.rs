//! What a GPU step is recorded as: kernel launches, matrix products, fills and copies on views of buffers.
//!
//! Ops build [`Node`]s (`ops/<op>/cuda.rs`) and know shapes, grids and arguments; `backend::cuda` plans the buffers and runs the
//! nodes. Invariant: everything a node does is decided by its fields and by device memory, so a recorded step can be replayed;
//! what changes from step to step (learning rate, step number) is read from device memory, never from an argument.
//! Must not know: a driver, an address, a program.

/// Index of a buffer in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferIdx(pub u32);

/// A place in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Which buffer.
    pub buffer: BufferIdx,
    /// Bytes from its start.
    pub offset: usize,
}

impl View {
    /// The place `bytes` further on.
    #[must_use]
    pub fn at(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
    /// The place `floats` f32 elements further on.
    #[must_use]
    pub fn floats(self, floats: usize) -> Self {
        self.at(4 * floats)
    }
}

/// The type that products read and write (`real` in the kernels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Real {
    /// 4 bytes.
    F32,
    /// 2 bytes, the upper half of an f32.
    Bf16,
}

impl Real {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A kernel file: compiled once for each [`Real`] in use, with its headers put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// Name of the file in `kernels/` without `.cu`.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
    /// A macro that it is compiled with, and its value: one of the sizes that a file has kernels for.
    pub define: Option<(&'static str, u32)>,
}

impl Module {
    /// A file that is compiled as it is.
    #[must_use]
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, define: None }
    }
    /// What is compiled: the macro, where there is one, as a line before the text.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.define.map_or_else(String::new, |(name, value)| format!("#define {name} {value}\n"))
    }
    /// Name for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        self.define.map_or_else(|| self.name.to_string(), |(name, value)| format!("{} ({name} {value})", self.name))
    }
}

/// An argument of a kernel; pointers say how they are used, so that buffers can share memory when their lives do not meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// A pointer that is only read.
    In(View),
    /// A pointer that is written before anything is read through it.
    Out(View),
    /// A pointer that is read and written.
    InOut(View),
    /// A null pointer.
    Null,
    /// A 32-bit integer (`u32` or a non-negative `int`).
    U32(u32),
    /// A float.
    F32(f32),
    /// A count that a kernel cannot be given: it counts in 32 bits. A recording with one of these is refused.
    TooLarge(u64),
}

impl Arg {
    /// A pointer that is only read, or null.
    #[must_use]
    pub fn maybe_in(view: Option<View>) -> Self {
        view.map_or(Self::Null, Self::In)
    }
    /// A pointer that is written, or null.
    #[must_use]
    pub fn maybe_out(view: Option<View>) -> Self {
        view.map_or(Self::Null, Self::Out)
    }
    /// A count: kernels count in 32 bits and multiply in 64.
    #[must_use]
    pub fn count(value: usize) -> Self {
        u32::try_from(value).map_or(Self::TooLarge(value as u64), Self::U32)
    }
}

/// One kernel launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Where the kernel is.
    pub module: Module,
    /// Its name.
    pub kernel: &'static str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block, in x.
    pub threads: u32,
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Arguments in order.
    pub args: Vec<Arg>,
}

/// A factor of a product: a row-major matrix, as it is or transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    /// First element.
    pub view: View,
    /// Whether the matrix in memory is the transpose of the factor.
    pub transposed: bool,
    /// Element type.
    pub real: Real,
}

impl Factor {
    /// A factor as it lies in memory.
    #[must_use]
    pub fn plain(view: View, real: Real) -> Self {
        Self { view, transposed: false, real }
    }
    /// A factor whose transpose lies in memory.
    #[must_use]
    pub fn transposed(view: View, real: Real) -> Self {
        Self { view, transposed: true, real }
    }
}

/// out = a b (+ addend) (+ bias), all row-major and dense, sums in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// Rows of `out`.
    pub m: usize,
    /// Columns of `out`.
    pub n: usize,
    /// Inner dimension.
    pub k: usize,
    /// [m, k].
    pub a: Factor,
    /// [k, n].
    pub b: Factor,
    /// [m, n] in f32, may be `out` itself; only where `out` is f32.
    pub addend: Option<View>,
    /// n elements of the type of `out` (as cuBLASLt reads them), added to every row.
    pub bias: Option<View>,
    /// [m, n].
    pub out: View,
    /// Element type of `out`.
    pub out_real: Real,
}

/// One entry of a recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A kernel.
    Launch(Launch),
    /// A matrix product.
    Product(Product),
    /// Zero bytes.
    Zero {
        /// First byte.
        view: View,
        /// How many.
        bytes: usize,
    },
    /// A copy between two buffers.
    Copy {
        /// First byte read.
        from: View,
        /// First byte written.
        to: View,
        /// How many.
        bytes: usize,
    },
}

impl From<Launch> for Node {
    fn from(launch: Launch) -> Self {
        Self::Launch(launch)
    }
}

impl From<Product> for Node {
    fn from(product: Product) -> Self {
        Self::Product(product)
    }
}

/// A part of a recording: branches that may run side by side, the nodes of each one after another. Sections run one after another.
/// Invariant: what a branch writes, no other branch of its section touches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Branches; one where everything is in order.
    pub branches: Vec<Vec<Node>>,
}

impl Section {
    /// Nodes that run one after another.
    #[must_use]
    pub fn serial(nodes: impl IntoIterator<Item = impl Into<Node>>) -> Self {
        Self { branches: vec![nodes.into_iter().map(Into::into).collect()] }
    }
}

/// Blocks of `threads` that cover `items`, at least one; `u32::MAX` where there are more: a recording with such a grid is refused.
#[must_use]
pub fn blocks(items: usize, threads: usize) -> u32 {
    u32::try_from(items.div_ceil(threads).max(1)).unwrap_or(u32::MAX)
}

/// As [`blocks`], for a kernel that counts its threads in 32 bits: `u32::MAX` where it cannot.
#[must_use]
pub fn blocks_of_counted(items: usize, threads: usize) -> u32 {
    if u32::try_from(items + threads).is_ok() { blocks(items, threads) } else { u32::MAX }
}

/// Adjacent elements that a thread may move at once: 4 if every row of `width` elements starts aligned to that in all of the
/// views (given with the bytes of an element; a view starts with a row), else 1.
#[must_use]
pub fn pack(width: usize, views: &[(View, usize)]) -> usize {
    let is_aligned = views.iter().all(|(view, bytes)| view.offset.is_multiple_of(4 * bytes));
    if is_aligned && width.is_multiple_of(4) { 4 } else { 1 }
}

/// Cuts the items that sums run over into slabs, so that with `blocks` blocks a slab a large GPU is full: items of a slab (the
/// last may have fewer) and slabs.
#[must_use]
pub fn slabs(items: usize, blocks: usize) -> (usize, usize) {
    /// Eight for each of an H200's 132 multiprocessors.
    const ENOUGH: usize = 8 * 132;
    let slab = items.div_ceil(ENOUGH.div_ceil(blocks.max(1)).min(items).max(1)).max(1);
    (slab, items.div_ceil(slab))
}

/// The second stage of sums that blocks have made (`sum_parts` in `common.cuh`): how its threads share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSums {
    /// Parts to add up.
    pub parts: usize,
    /// Sums in each.
    pub len: usize,
}

impl PartSums {
    /// Threads of a block.
    pub const THREADS: u32 = 512;

    /// Groups of threads that take every `groups`-th part.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.parts.div_ceil(4).next_power_of_two().min(16)
    }
    /// Blocks of the launch.
    #[must_use]
    pub fn grid(&self) -> [u32; 3] {
        [blocks(self.len, Self::THREADS as usize / self.groups()), 1, 1]
    }
    /// Bytes of the parts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        4 * self.parts * self.len
    }
}
