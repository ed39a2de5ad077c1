//! An open GPU as a [`Device`]: memory, copies, and recordings replayed as CUDA graphs.
//!
//! Input: a device's number and a precision. Output: prepared recordings that run by one call. Everything happens on one stream
//! of its own, never the default one; the branches of a section fork from it and join it again. A recording is made concrete
//! first (kernels compiled and loaded, products planned and tried once) and only then captured, since a capture must neither
//! allocate nor wait. `SCALEDOWN_CUDA_REPLAY` may be `graph` (the default), `eager` (node by node) or `checked` (node by node,
//! waiting after each, so that an error names its node).
//!
//! Invariants: device memory is freed with the device, after all work; no call here panics without CUDA. Must not know a program,
//! or who has the device ([`super::pool`]).

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, result};

use super::cache::Cache;
use super::device::{Address, Device};
use super::kernels::{Kernels, failed};
use super::lane::{Lane, Memory};
use super::products::Products;
use super::replay::{ResolvedNode, plan_products, resolve};
use super::ring::Ring;
use super::tune::Tuner;
use crate::run::Precision;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Node, Real, Section};

/// An open GPU.
pub(super) struct OpenDevice {
    name: String,
    replay: Replay,
    // Dropped in this order: what uses the stream, then the stream, then the context.
    products: Products,
    kernels: Kernels,
    ring: Ring,
    memory: Memory,
    /// One for each branch that a section has had; the first is the device's own.
    lanes: Vec<Lane>,
    fork: CudaEvent,
    context: Arc<CudaContext>,
}

/// Sections ready to run on the device that prepared them.
pub struct PreparedSections {
    /// Absent where nodes are run one by one. Dropped before the steps, which keep its kernels loaded.
    graph: Option<CudaGraph>,
    /// Sections, branches, nodes.
    sections: Vec<Vec<Vec<ResolvedNode>>>,
}

// SAFETY: the driver and cuBLASLt may be called from any thread that has bound the context, which every method of `OpenDevice`
// does first; a graph has one owner and is launched and destroyed through it alone, never from two threads at once.
unsafe impl Send for OpenDevice {}
// SAFETY: as above.
unsafe impl Send for PreparedSections {}

/// How recordings run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    Graph,
    Eager,
    Checked,
}

impl Replay {
    /// What `SCALEDOWN_CUDA_REPLAY` asks for.
    pub(super) fn from_environment() -> Result<Self, TrainerError> {
        let choices = [("graph", Self::Graph), ("eager", Self::Eager), ("checked", Self::Checked)];
        super::environment_choice("SCALEDOWN_CUDA_REPLAY", choices)
    }
}

impl OpenDevice {
    /// Opens a GPU in its context.
    pub(super) fn new(context: Arc<CudaContext>, name: String, precision: Precision, replay: Replay) -> Result<Self, TrainerError> {
        context.bind_to_thread().map_err(failed("binding the device"))?;
        let stream = context.new_stream().map_err(failed("making a stream"))?;
        let real = super::real_of(precision);
        let cache = Cache::of_user();
        let kernels = Kernels::new(&context, real, cache.clone())?;
        let ring = Ring::new(&stream).map_err(failed("making buffers for copies"))?;
        let mut memory = Memory::new(stream.clone());
        let lanes = vec![Lane::new(stream, &context, &mut memory)?];
        let tuner = Tuner::from_environment(&context, &cache).map_err(failed("reading the device's properties"))?;
        let products = Products::new(precision, tuner)?;
        let fork = context.new_event(None).map_err(failed("making an event"))?;
        Ok(Self { name, replay, products, kernels, ring, memory, lanes, fork, context })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for what was asked of it and frees what was allocated on it, for another caller; whether it still answers.
    pub(super) fn is_cleared(&mut self) -> bool {
        let is_idle = |lane: &Lane| lane.stream.synchronize().is_ok();
        if self.bind().is_err() || !self.lanes.iter().all(is_idle) {
            return false;
        }
        let own: Vec<Address> = self.lanes.iter().map(|lane| lane.workspace).collect();
        self.memory.free_all_but(&own).is_ok()
    }

    /// What products of the device's own stream run with.
    pub(super) fn lane_and_products(&self) -> (&Lane, &Products) {
        (&self.lanes[0], &self.products)
    }

    /// Makes this device's context the one that calls of this thread go to.
    fn bind(&self) -> Result<(), TrainerError> {
        self.context.bind_to_thread().map_err(failed("binding the device"))
    }

    /// The device's own stream.
    fn stream(&self) -> &Arc<CudaStream> {
        &self.lanes[0].stream
    }

    fn wait(&self, operation: &str) -> Result<(), TrainerError> {
        self.stream().synchronize().map_err(failed(operation))
    }

    /// Starts the sections one after another; what is later on the device's own stream comes after all of them.
    fn start(&self, sections: &[Vec<Vec<ResolvedNode>>]) -> Result<(), TrainerError> {
        for (section_idx, branches) in sections.iter().enumerate() {
            let others = &self.lanes[1..branches.len().max(1)];
            if !others.is_empty() {
                self.fork.record(self.stream()).map_err(failed("forking"))?;
            }
            others.iter().try_for_each(|lane| lane.stream.wait(&self.fork)).map_err(failed("forking"))?;
            for (branch_idx, (branch, lane)) in branches.iter().zip(&self.lanes).enumerate() {
                for (idx, step) in branch.iter().enumerate() {
                    step.start(lane, &self.products)?;
                    if self.replay == Replay::Checked {
                        let node = format!("node {idx} of branch {branch_idx} of section {section_idx}");
                        let operation = format!("{node}, {}", step.describe(&self.products));
                        lane.stream.synchronize().map_err(failed(&operation))?;
                    }
                }
            }
            for lane in others {
                lane.rejoin(self.stream()).map_err(failed("joining"))?;
            }
        }
        Ok(())
    }

    /// Sections as one graph. The capture is relaxed: other threads, and this one, may allocate meanwhile.
    fn capture(&self, sections: &[Vec<Vec<ResolvedNode>>]) -> Result<CudaGraph, TrainerError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        self.stream().begin_capture(mode).map_err(failed("beginning a capture"))?;
        let started = self.start(sections);
        // The capture ends whatever happened, else the stream stays unusable.
        let graph = self.stream().end_capture(CUgraphInstantiate_flags(0));
        started?;
        let graph = graph.map_err(failed("making a graph"))?;
        let nothing = || TrainerError::Cuda { operation: "making a graph".into(), code: "nothing was captured".into() };
        let graph = graph.ok_or_else(nothing)?;
        graph.upload().map_err(failed("uploading a graph"))?;
        Ok(graph)
    }
}

impl Device for OpenDevice {
    type Graph = PreparedSections;

    fn real(&self) -> Real {
        self.kernels.real()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.context.mem_get_info().ok().map(|(free, _)| free as u64)
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError> {
        self.bind()?;
        self.memory.allocate(bytes)
    }

    fn free(&mut self, address: Address) {
        // Where the device no longer answers, the driver frees its memory with the context.
        let _ = self.bind().and_then(|()| self.wait("waiting before memory is freed"));
        self.memory.free(address);
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), TrainerError> {
        self.bind()?;
        self.ring.write(to.0, bytes).map_err(failed("copying to the device, or work before"))
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), TrainerError> {
        self.bind()?;
        let failed = failed("copying from the device, or work before");
        if !bytes.is_empty() {
            // SAFETY: the caller reads memory that it allocated; `bytes` outlives the wait below.
            unsafe { result::memcpy_dtoh_async(bytes, from.0, self.stream().cu_stream()) }.map_err(&failed)?;
        }
        self.stream().synchronize().map_err(failed)
    }

    fn prepare(&mut self, sections: &[Section], addresses: &[Address]) -> Result<PreparedSections, TrainerError> {
        self.bind()?;
        let branches = sections.iter().map(|section| section.branches.len()).max().unwrap_or(0);
        while self.lanes.len() < branches {
            let stream = self.context.new_stream().map_err(failed("making a stream"))?;
            self.lanes.push(Lane::new(stream, &self.context, &mut self.memory)?);
        }
        for branch in sections.iter().flat_map(|section| &section.branches) {
            plan_products(branch, addresses, &mut self.products)?;
        }
        self.products.rehearse(&self.lanes[0])?;
        let nodes = sections.iter().flat_map(|section| &section.branches).flatten();
        self.kernels.compile_all(nodes.filter_map(|node| if let Node::Launch(launch) = node { Some(launch) } else { None }))?;
        let mut resolved = Vec::with_capacity(sections.len());
        for section in sections {
            let mut resolve = |nodes: &Vec<_>| resolve(nodes, addresses, &mut self.kernels, &mut self.products);
            resolved.push(section.branches.iter().map(&mut resolve).collect::<Result<Vec<_>, _>>()?);
        }
        let is_empty = resolved.iter().flatten().all(Vec::is_empty);
        let graph = match self.replay {
            Replay::Graph if !is_empty => Some(self.capture(&resolved)?),
            Replay::Graph | Replay::Eager | Replay::Checked => None,
        };
        Ok(PreparedSections { graph, sections: resolved })
    }

    fn run(&mut self, recording: &PreparedSections) -> Result<(), TrainerError> {
        self.bind()?;
        match &recording.graph {
            Some(graph) => graph.launch().map_err(failed("starting a graph, or work before")),
            None => self.start(&recording.sections),
        }
    }

    fn synchronize(&mut self) -> Result<(), TrainerError> {
        self.wait("waiting for the device's work")
    }

    fn take_warnings(&mut self) -> Vec<String> {
        self.products.take_warnings()
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        // Work under way uses what the fields free, also in a branch that a failure kept from joining. Binds the context, too.
        for lane in &self.lanes {
            let _ = lane.stream.synchronize();
        }
    }
}
