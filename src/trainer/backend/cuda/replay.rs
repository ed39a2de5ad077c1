//! Nodes made concrete: functions, addresses and plans in place of names, views and shapes.
//!
//! Input: nodes and addresses. Output: [`ResolvedNode`]s that only need a stream. Invariants: a node reads nothing of the host but
//! what it holds, so it can be captured; nodes allocate nothing. Must not know how they are run: one by one or as a graph.

use std::ffi::c_void;

use cudarc::driver::{CudaFunction, DriverError, result, sys};

use super::device::Address;
use super::kernels::{Kernels, failed};
use super::lane::Lane;
use super::products::{Products, Way};
use super::shape::Operands;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Arg, Launch, Node, Product, View};
use crate::trainer::ops::product;

/// A node made concrete.
pub(super) enum ResolvedNode {
    /// A kernel; arguments in 8 bytes each, of which a kernel reads as many as its type has.
    Launch { name: &'static str, function: CudaFunction, grid: [u32; 3], threads: u32, shared_bytes: u32, args: Vec<u64> },
    /// A product by its plan.
    Product { plan: usize, operands: Operands },
    /// Zero bytes.
    Zero { address: Address, bytes: usize },
    /// A copy.
    Copy { from: Address, to: Address, bytes: usize },
}

/// Makes the nodes of a branch concrete; kernels are compiled and plans made where they are new.
pub(super) fn resolve(
    nodes: &[Node],
    addresses: &[Address],
    kernels: &mut Kernels,
    products: &mut Products,
) -> Result<Vec<ResolvedNode>, TrainerError> {
    let mut steps = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Launch(launch) => steps.push(resolve_launch(launch, addresses, kernels)?),
            Node::Product(product) if product.m == 0 || product.n == 0 => {}
            Node::Product(product) => {
                let operands = operands(addresses, product);
                match products.way(product, &operands)? {
                    Way::Library(plan) => steps.push(ResolvedNode::Product { plan, operands }),
                    Way::BiasApart(plan) => {
                        steps.push(ResolvedNode::Product { plan, operands: Operands { bias: None, ..operands } });
                        let bias = product::cuda::add_bias(product);
                        steps.extend(bias.map(|launch| resolve_launch(&launch, addresses, kernels)).transpose()?);
                    }
                    Way::Own => steps.push(resolve_launch(&product::cuda::product(product), addresses, kernels)?),
                }
            }
            // An empty fill or copy is an error of the driver inside a capture.
            Node::Zero { bytes: 0, .. } | Node::Copy { bytes: 0, .. } => {}
            Node::Zero { view, bytes } => steps.push(ResolvedNode::Zero { address: address(addresses, *view), bytes: *bytes }),
            Node::Copy { from, to, bytes } => {
                steps.push(ResolvedNode::Copy { from: address(addresses, *from), to: address(addresses, *to), bytes: *bytes });
            }
        }
    }
    Ok(steps)
}

/// Decides how the products among nodes are done; they are resolved after they were tried.
pub(super) fn plan_products(nodes: &[Node], addresses: &[Address], products: &mut Products) -> Result<(), TrainerError> {
    let not_empty = nodes.iter().filter_map(|node| match node {
        Node::Product(product) if product.m > 0 && product.n > 0 => Some(product),
        _ => None,
    });
    not_empty.into_iter().try_for_each(|product| products.way(product, &operands(addresses, product)).map(|_| ()))
}

fn resolve_launch(launch: &Launch, addresses: &[Address], kernels: &mut Kernels) -> Result<ResolvedNode, TrainerError> {
    Ok(ResolvedNode::Launch {
        name: launch.kernel,
        function: kernels.function(launch)?,
        grid: launch.grid,
        threads: launch.threads,
        shared_bytes: launch.shared_bytes,
        args: launch.args.iter().map(|arg| argument(addresses, *arg)).collect(),
    })
}

impl ResolvedNode {
    /// Starts the step on the stream of a lane, whose context is bound; also inside a capture.
    pub(super) fn start(&self, lane: &Lane, products: &Products) -> Result<(), TrainerError> {
        match self {
            Self::Product { plan, operands } => products.run(*plan, operands, lane),
            other => other.call(lane.stream.cu_stream()).map_err(|error| failed(&self.describe(products))(error)),
        }
    }

    fn call(&self, stream: sys::CUstream) -> Result<(), DriverError> {
        // SAFETY: functions are loaded; addresses are device memory with room for what the node says, as its maker planned; the
        // driver copies the arguments before it returns.
        unsafe {
            match self {
                Self::Launch { function, grid: [x, y, z], threads, shared_bytes, args, .. } => {
                    let mut pointers: Vec<*mut c_void> = args.iter().map(|arg| std::ptr::from_ref(arg).cast_mut().cast()).collect();
                    let (grid, block) = ((*x, *y, *z), (*threads, 1, 1));
                    result::launch_kernel(function.cu_function(), grid, block, *shared_bytes, stream, &mut pointers)
                }
                Self::Zero { address, bytes } if address.0.is_multiple_of(4) && bytes.is_multiple_of(4) => {
                    sys::cuMemsetD32Async(address.0, 0, bytes / 4, stream).result()
                }
                Self::Zero { address, bytes } => result::memset_d8_async(address.0, 0, *bytes, stream),
                Self::Copy { from, to, bytes } => result::memcpy_dtod_async(to.0, from.0, *bytes, stream),
                Self::Product { .. } => Ok(()),
            }
        }
    }

    /// What it does, for messages.
    pub(super) fn describe(&self, products: &Products) -> String {
        match self {
            Self::Launch { name, grid, threads, shared_bytes, .. } => {
                format!("kernel {name}, grid {grid:?}, {threads} threads, {shared_bytes} bytes of shared memory")
            }
            Self::Product { plan, .. } => products.describe(*plan),
            Self::Zero { bytes, .. } => format!("zeroing {bytes} bytes"),
            Self::Copy { bytes, .. } => format!("copying {bytes} bytes"),
        }
    }
}

fn address(addresses: &[Address], view: View) -> Address {
    let buffer = addresses.get(view.buffer.0 as usize).expect("a recording comes with an address for each of its buffers");
    buffer.at(view.offset)
}

fn argument(addresses: &[Address], arg: Arg) -> u64 {
    match arg {
        Arg::In(view) | Arg::Out(view) | Arg::InOut(view) => address(addresses, view).0,
        Arg::Null => 0,
        Arg::U32(value) => u64::from(value),
        Arg::F32(value) => u64::from(value.to_bits()),
        Arg::TooLarge(value) => unreachable!("a recording that counts to {value} was refused"),
    }
}

pub(super) fn operands(addresses: &[Address], product: &Product) -> Operands {
    let at = |view| address(addresses, view);
    let out = at(product.out);
    Operands {
        a: at(product.a.view),
        b: at(product.b.view),
        addend: product.addend.map_or(out, at),
        out,
        bias: product.bias.map(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::ops::launch::BufferIdx;

    const fn view(buffer: u32, offset: usize) -> View {
        View { buffer: BufferIdx(buffer), offset }
    }

    #[test]
    fn arguments_take_eight_bytes_with_the_value_first() {
        let addresses = [Address(4096)];
        assert_eq!(argument(&addresses, Arg::In(view(0, 12))), 4108);
        assert_eq!(argument(&addresses, Arg::U32(7)).to_le_bytes()[..4], 7_u32.to_le_bytes());
        assert_eq!(argument(&addresses, Arg::F32(1.5)).to_le_bytes()[..4], 1.5_f32.to_le_bytes());
        assert_eq!(argument(&addresses, Arg::Null), 0);
    }
}
