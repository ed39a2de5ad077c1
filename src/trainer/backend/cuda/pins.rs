//! For tests: the sections of a training step, recorded without a device.

use super::layout::PaddedLayout;
use super::optimizer::CudaOptimizer;
use super::record::{self, Images, Masking, StepShape};
use super::step::session;
use crate::run::TrainConfig;
use crate::trainer::ops::launch::{Real, Section};
use crate::trainer::program::Program;

/// What a step is asked for.
pub(in crate::trainer) struct GpuStep {
    pub samples: usize,
    pub chunks: usize,
    pub is_masked: bool,
    pub side_by_side: bool,
}

pub(in crate::trainer) fn recorded(program: &Program, train: &TrainConfig, real: Real, step: GpuStep) -> Vec<Section> {
    let GpuStep { samples, chunks, is_masked, side_by_side } = step;
    let layout = PaddedLayout::new(program);
    let optimizer = CudaOptimizer::new(program, &layout, train);
    let session = session(&layout, real, Some(&optimizer));
    let masking = if is_masked { Masking::Drawn([1, 2]) } else { Masking::None };
    let shape = StepShape { samples, chunks, images: Images::Written, masking, has_gradient: true, has_update: true, side_by_side };
    record::training_step(program, &layout, &session, real, &shape, None, &optimizer.update()).0.sections
}
