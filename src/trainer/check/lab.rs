//! Where checks run: buffers on a device by value, nodes run at once, comparisons with what is expected.

use std::cell::RefCell;

use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::device::{Address, Device};
use crate::trainer::ops::launch::{BufferIdx, Node, Real, Section, View};

/// Orders of threads that a case runs under in the emulator: forward, reversed, shuffled. A GPU has its own.
pub const ORDERS: [u32; 3] = [0, 1, 7];

/// Both compute types.
pub const REALS: [Real; 2] = [Real::F32, Real::Bf16];

/// A [`Device`] whose recordings are not kept.
pub trait Runner {
    /// As [`Device::allocate`].
    ///
    /// # Errors
    /// As there.
    fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError>;
    /// As [`Device::free`].
    fn free(&mut self, address: Address);
    /// As [`Device::write`].
    ///
    /// # Errors
    /// As there.
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), TrainerError>;
    /// As [`Device::read`].
    ///
    /// # Errors
    /// As there.
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), TrainerError>;
    /// Prepares nodes, runs them once and waits.
    ///
    /// # Errors
    /// As [`Device::prepare`] and [`Device::run`].
    fn run_once(&mut self, nodes: &[Node], addresses: &[Address]) -> Result<(), TrainerError>;
}

impl<D: Device> Runner for D {
    fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError> {
        Device::allocate(self, bytes)
    }
    fn free(&mut self, address: Address) {
        Device::free(self, address);
    }
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), TrainerError> {
        Device::write(self, to, bytes)
    }
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), TrainerError> {
        Device::read(self, from, bytes)
    }
    fn run_once(&mut self, nodes: &[Node], addresses: &[Address]) -> Result<(), TrainerError> {
        let graph = self.prepare(&[Section::serial(nodes.iter().cloned())], addresses)?;
        self.run(&graph)?;
        self.synchronize()
    }
}

thread_local! {
    /// How the check that runs on this thread opens its devices.
    static OPEN: RefCell<Option<Box<OpenFn>>> = const { RefCell::new(None) };
}

type OpenFn = dyn Fn(Real, u32) -> Result<Box<dyn Runner>, TrainerError>;

/// Runs a check whose benches stand on devices that are opened so.
pub fn on_device(open: impl Fn(Real, u32) -> Result<Box<dyn Runner>, TrainerError> + 'static, check: impl FnOnce()) {
    /// Puts back what was there, also when a check panics.
    struct Restore(Option<Box<OpenFn>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OPEN.replace(self.0.take());
        }
    }
    let _restore = Restore(OPEN.replace(Some(Box::new(open))));
    check();
}

/// A device with numbered buffers. What fails on the device ends the check.
pub struct Bench {
    real: Real,
    device: RefCell<Box<dyn Runner>>,
    buffers: Vec<(Address, usize)>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let device = self.device.get_mut();
        self.buffers.iter().for_each(|(address, _)| device.free(*address));
    }
}

impl Bench {
    /// A device of its own for one case.
    ///
    /// # Panics
    /// If it cannot be had, or outside of [`on_device`].
    #[must_use]
    pub fn new(real: Real, order: u32) -> Self {
        let device = OPEN.with_borrow(|open| open.as_ref().expect("checks run in `on_device`")(real, order));
        let device = device.unwrap_or_else(|error| panic!("no device: {error}"));
        Self { real, device: RefCell::new(device), buffers: Vec::new() }
    }

    /// A buffer of f32.
    pub fn floats(&mut self, values: &[f32]) -> View {
        self.bytes(bytemuck::cast_slice(values).to_vec())
    }

    /// A buffer of u32.
    pub fn words(&mut self, values: &[u32]) -> View {
        self.bytes(bytemuck::cast_slice(values).to_vec())
    }

    /// A buffer of the compute type, rounded to it.
    pub fn reals(&mut self, values: &[f32]) -> View {
        match self.real {
            Real::F32 => self.floats(values),
            Real::Bf16 => self.bytes(values.iter().flat_map(|value| to_bf16(*value).to_le_bytes()).collect()),
        }
    }

    /// A buffer of f32 filled with NaN: whatever a kernel must write.
    pub fn unwritten_floats(&mut self, len: usize) -> View {
        self.floats(&vec![f32::NAN; len])
    }

    /// A buffer of the compute type filled with NaN.
    pub fn unwritten_reals(&mut self, len: usize) -> View {
        self.reals(&vec![f32::NAN; len])
    }

    /// A buffer of bytes.
    ///
    /// # Panics
    /// If the device fails.
    pub fn bytes(&mut self, bytes: Vec<u8>) -> View {
        let device = self.device.get_mut();
        let address = device.allocate(bytes.len()).unwrap_or_else(|error| panic!("no memory: {error}"));
        device.write(address, &bytes).unwrap_or_else(|error| panic!("cannot write: {error}"));
        self.buffers.push((address, bytes.len()));
        View { buffer: BufferIdx(u32::try_from(self.buffers.len() - 1).expect("a check has few buffers")), offset: 0 }
    }

    /// Elements of a buffer of f32.
    #[must_use]
    pub fn read_floats(&self, view: View, len: usize) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.part(view, 4 * len))
    }

    /// Elements of a buffer of u32.
    #[must_use]
    pub fn read_words(&self, view: View, len: usize) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.part(view, 4 * len))
    }

    /// Elements of a buffer of the compute type.
    #[must_use]
    pub fn read_reals(&self, view: View, len: usize) -> Vec<f32> {
        match self.real {
            Real::F32 => self.read_floats(view, len),
            Real::Bf16 => {
                self.part(view, 2 * len).as_chunks::<2>().0.iter().map(|two| from_bf16(u16::from_le_bytes(*two))).collect()
            }
        }
    }

    /// Bytes of a buffer.
    ///
    /// # Panics
    /// If the device fails, or the buffer is shorter.
    #[must_use]
    pub fn part(&self, view: View, bytes: usize) -> Vec<u8> {
        let (address, len) = self.buffers[view.buffer.0 as usize];
        assert!(view.offset + bytes <= len, "a view beyond its buffer");
        let mut out = vec![0; bytes];
        let read = self.device.borrow_mut().read(address.at(view.offset), &mut out);
        read.unwrap_or_else(|error| panic!("cannot read: {error}"));
        out
    }

    /// Runs nodes in order.
    ///
    /// # Panics
    /// If the device fails.
    pub fn run<N: Into<Node>>(&mut self, nodes: impl IntoIterator<Item = N>) {
        let nodes: Vec<Node> = nodes.into_iter().map(Into::into).collect();
        let addresses: Vec<Address> = self.buffers.iter().map(|(address, _)| *address).collect();
        let ran = self.device.get_mut().run_once(&nodes, &addresses);
        ran.unwrap_or_else(|error| panic!("the device failed: {error}"));
    }
}

/// Rounds to the nearest bf16, ties to even.
#[must_use]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return 0x7fff;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The value of a bf16.
#[must_use]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Values as a kernel that computes in `real` sees them.
#[must_use]
pub fn rounded(values: &[f32], real: Real) -> Vec<f32> {
    match real {
        Real::F32 => values.to_vec(),
        Real::Bf16 => values.iter().map(|value| from_bf16(to_bf16(*value))).collect(),
    }
}

/// Numbers in [-1, 1) that depend on the seed alone.
#[must_use]
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut draws = crate::data::Philox::new(seed, crate::data::Stream::Scenes).at(0, 0);
    (0..len).map(|_| draws.between(-1.0, 1.0)).collect()
}

/// Checks |a - b| <= limit * max|expected| for every element, and that nothing is left unwritten.
///
/// # Panics
/// If an element is too far.
#[track_caller]
pub fn assert_near(what: &str, found: &[f32], expected: &[f32], limit: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
    for (idx, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= limit * largest, "{what}: element {idx}: {found} for {expected}, largest {largest}");
    }
}
