//! What a CPU step owns between batches: parameters, packed weights, lanes, saved slots, threads.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::super::StepBatch;
use super::CpuSettings;
use super::lanes;
use crate::trainer::TrainerError;
use crate::trainer::ops::op::whole::{self, Observed};
use crate::trainer::ops::op::{Params, Workspace};
use crate::trainer::ops::{AlignedFloats, ParallelFor, Scratch, linear};
use crate::trainer::program::{ParamIdx, Program, Tower};

/// State of a CPU step that its calls compute with.
pub(super) struct Core {
    pub program: Arc<Program>,
    pub parameters: Vec<f32>,
    pub gradient: Vec<f32>,
    /// What training changes without a gradient, and what the step at hand has observed of it.
    pub state: Vec<f32>,
    pub observed: Observed,
    /// Parameter gradients of each lane.
    pub lanes: Vec<Vec<f32>>,
    /// Whether a lane has been written since the batch began.
    pub lane_started: Vec<bool>,
    /// Saved slots by slot index; only those of kind `Saved` ever grow.
    pub saved: Vec<Vec<f32>>,
    pub batch: StepBatch,
    /// Gradients of the losses' own parameters, for [`Self::finish`].
    pub loss_grads: Vec<(ParamIdx, f64)>,
    pub pool: rayon::ThreadPool,
    pub workspaces: Workspaces,
    packed: AlignedFloats,
    packed_ranges: Vec<Range<usize>>,
    /// Whether `packed` belongs to `parameters` as they are.
    packed_is_fresh: bool,
}

/// Working memories, handed out to whichever thread asks.
#[derive(Default)]
pub(super) struct Workspaces(Mutex<Vec<Workspace>>);

impl Workspaces {
    /// Runs `work` with a workspace of its own.
    pub fn with<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut workspace = self.0.lock().expect("no thread panics while it holds the list").pop().unwrap_or_default();
        let result = work(&mut workspace);
        self.0.lock().expect("no thread panics while it holds the list").push(workspace);
        result
    }
}

impl Core {
    pub fn new(program: Arc<Program>, parameters: Vec<f32>, settings: CpuSettings) -> Result<Self, TrainerError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.max(1))
            .build()
            .map_err(|error| TrainerError::Threads { threads: settings.threads, reason: error.to_string() })?;
        let mut packed_len = 0;
        let packed_ranges = program.params.iter().map(|view| {
            let start = packed_len;
            packed_len += view.linear.as_ref().map_or(0, linear::packed_len);
            start..packed_len
        });
        let packed_ranges = packed_ranges.collect();
        let num_params = program.num_params();
        let mut core = Self {
            parameters: Vec::new(),
            gradient: vec![0.0; num_params],
            state: whole::initial(&program.state),
            observed: Observed::new(&program.state),
            lanes: (0..settings.lanes.max(1)).map(|_| Vec::new()).collect(),
            lane_started: vec![false; settings.lanes.max(1)],
            saved: program.slots.iter().map(|_| Vec::new()).collect(),
            batch: StepBatch::default(),
            loss_grads: Vec::new(),
            pool,
            workspaces: Workspaces::default(),
            packed: AlignedFloats::zeros(packed_len),
            packed_ranges,
            packed_is_fresh: false,
            program,
        };
        core.set_parameters(&parameters)?;
        Ok(core)
    }

    pub fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        let expected = self.program.num_params();
        if values.len() != expected {
            return Err(TrainerError::ParameterCount { found: values.len(), expected });
        }
        self.parameters = values.to_vec();
        self.packed_is_fresh = false;
        Ok(())
    }

    /// Takes in what `towers` read of a batch, and packs the weights if they changed.
    pub fn begin(&mut self, batch: &StepBatch, towers: &[Tower]) -> Result<(), TrainerError> {
        batch.check(&self.program, towers)?;
        let lacks_masks = towers.contains(&Tower::Image) && batch.keep.is_empty() && self.program.kept_patches().is_some();
        if !batch.index.is_empty() || lacks_masks {
            return Err(TrainerError::Input("the CPU holds no pool and draws no masks: images and kept patches come along".into()));
        }
        self.batch.copy_from(batch);
        self.lane_started.fill(false);
        self.loss_grads.clear();
        self.observed.clear();
        if !self.packed_is_fresh {
            self.pack();
            self.packed_is_fresh = true;
        }
        // The token table's gradient is summed in place, in sample order, not by lanes.
        self.gradient.fill(0.0);
        Ok(())
    }

    fn pack(&mut self) {
        let (views, flat) = (&self.program.params, &self.parameters);
        let mut rest = &mut *self.packed;
        let mut jobs = Vec::new();
        for (view, range) in views.iter().zip(&self.packed_ranges) {
            let (panels, tail) = rest.split_at_mut(range.len());
            rest = tail;
            if let Some(shape) = &view.linear {
                jobs.push((shape, &flat[view.range()], panels));
            }
        }
        self.pool.install(|| jobs.into_par_iter().for_each(|(shape, weight, panels)| linear::pack(shape, weight, panels)));
    }

    pub fn params(&self) -> Params<'_> {
        Params { views: &self.program.params, flat: &self.parameters, packed: &self.packed, packed_ranges: &self.packed_ranges }
    }

    /// The multiplier.
    pub fn logit_scale(&self) -> f32 {
        self.parameters[self.program.params[self.program.log_logit_scale].offset].exp()
    }

    /// Keeps the logit scale within [1, max], as CLIP does; parameters have changed, so packed weights are stale.
    pub fn clamp_logit_scale(&mut self) {
        let offset = self.program.params[self.program.log_logit_scale].offset;
        #[expect(clippy::cast_possible_truncation, reason = "a parameter is f32")]
        let max = self.program.logit_scale_max.ln() as f32;
        self.parameters[offset] = self.parameters[offset].clamp(0.0, max);
        self.packed_is_fresh = false;
    }

    /// The step's threads, for work that is not cut into lanes.
    pub fn team(&self) -> Team<'_> {
        Team { core: self }
    }

    /// Notes which lanes hold the gradient of a part of `samples` that has gone back: the next part adds to them.
    pub fn end_part(&mut self, samples: usize) {
        let lanes = self.lane_started.len();
        for (lane, started) in self.lane_started.iter_mut().enumerate() {
            *started |= !lanes::lane_range(samples, lane, lanes).is_empty();
        }
    }

    /// Replaces the untrained state.
    pub fn set_state(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        let expected = self.state.len();
        if values.len() != expected {
            return Err(TrainerError::Input(format!("{} values of running statistics, expected {expected}", values.len())));
        }
        self.state = values.to_vec();
        Ok(())
    }

    /// Adds the lanes into the flat gradient, and the gradients of the losses' own parameters; the untrained state moves by what was
    /// observed.
    #[expect(clippy::cast_possible_truncation, reason = "gradients and state are f32")]
    pub fn finish(&mut self) {
        lanes::reduce(&self.pool, &self.program, &mut self.gradient, &self.lanes, &self.lane_started);
        for (param, grad) in self.loss_grads.drain(..) {
            self.gradient[self.program.params[param].offset] += grad as f32;
        }
        let before: Vec<f64> = self.state.iter().map(|value| f64::from(*value)).collect();
        let moved = self.observed.moved(&self.program.state, &before);
        self.state = moved.into_iter().map(|value| value as f32).collect();
    }
}

/// Jobs on the step's threads.
pub(super) struct Team<'a> {
    core: &'a Core,
}

impl ParallelFor for Team<'_> {
    fn for_each(&self, count: usize, work: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        let workspaces = &self.core.workspaces;
        self.core.pool.install(|| {
            (0..count).into_par_iter().for_each(|idx| workspaces.with(|workspace| work(idx, &mut workspace.ops)));
        });
    }
}
