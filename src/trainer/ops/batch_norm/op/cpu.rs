//! The CPU's form: groups cut into slabs of rows, which are independent jobs.
//!
//! Slabs depend on the rows of a group alone, and so do the bytes of all sums.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use super::super::{
    After, Statistics, add_parameter_gradients, add_up, backward, gradient_sums, merge, moments, normalise, observed, record_len,
};
use super::BatchNorm;
use crate::op::whole::{Part, Pass, State, Whole};
use crate::op::{GradInput, GradLane};
use crate::{Accumulation, ParallelFor, elementwise};

/// Floats of a slab that stay in the cache: 64 KiB.
const SLAB_FLOATS: usize = 16 * 1024;
/// Rows of a slab at most: their sums are of f32.
const SLAB_ROWS: usize = 512;

/// Samples that share their statistics.
struct Group {
    first_sample: usize,
    rows: usize,
    slabs: Range<usize>,
}

/// Neighbouring rows of a group.
struct Slab {
    group: usize,
    rows: Range<usize>,
}

/// The rows of a part.
struct Cut {
    width: usize,
    groups: Vec<Group>,
    slabs: Vec<Slab>,
}

impl Cut {
    /// `samples` in groups of `group`.
    fn new(op: &BatchNorm, samples: usize, group: usize) -> Self {
        let (pixels, width) = (op.shape.pixels, op.shape.width);
        let step = (SLAB_FLOATS / width).clamp(1, SLAB_ROWS);
        let mut cut = Self { width, groups: Vec::new(), slabs: Vec::new() };
        for first_sample in (0..samples).step_by(group.max(1)) {
            let rows = first_sample * pixels..samples.min(first_sample + group) * pixels;
            let (group, first_slab) = (cut.groups.len(), cut.slabs.len());
            let slab = |start: usize| Slab { group, rows: start..rows.end.min(start + step) };
            cut.slabs.extend(rows.clone().step_by(step).map(slab));
            cut.groups.push(Group { first_sample, rows: rows.len(), slabs: first_slab..cut.slabs.len() });
        }
        cut
    }

    fn num(&self) -> usize {
        self.slabs.len()
    }

    /// A slab of rows.
    fn of<'a>(&self, slab: usize, values: &'a [f32]) -> &'a [f32] {
        let Range { start, end } = self.slabs[slab].rows;
        &values[start * self.width..end * self.width]
    }

    /// All slabs of rows, each for the job that writes it.
    fn pieces<'a>(&self, mut values: &'a mut [f32]) -> Vec<Mutex<&'a mut [f32]>> {
        let take = |slab: &Slab| {
            let (piece, rest) = std::mem::take(&mut values).split_at_mut(slab.rows.len() * self.width);
            values = rest;
            Mutex::new(piece)
        };
        self.slabs.iter().map(take).collect()
    }
}

/// One list of numbers a slab, each for the job that writes it.
fn lists(len: usize, values: &mut [f64]) -> Vec<Mutex<&mut [f64]>> {
    values.chunks_exact_mut(len).map(Mutex::new).collect()
}

fn own<T>(piece: &Mutex<T>) -> MutexGuard<'_, T> {
    piece.lock().expect("a slab is locked by its own job only")
}

impl BatchNorm {
    /// Merged records of all groups: each at its first slab's place.
    fn records(&self, cut: &Cut, x: &[f32], team: &dyn ParallelFor) -> Vec<f64> {
        let (width, len) = (self.shape.width, record_len(self.shape.width));
        let mut records = vec![0.0; cut.num() * len];
        let jobs = lists(len, &mut records);
        team.for_each(cut.num(), &|slab, scratch| moments(width, cut.of(slab, x), &mut own(&jobs[slab]), scratch));
        drop(jobs);
        for group in &cut.groups {
            merge(width, &mut records[group.slabs.start * len..group.slabs.end * len]);
        }
        records
    }

    /// Statistics of every group, saved and, in a step, observed.
    fn statistics(
        &self,
        cut: &Cut,
        x: &[f32],
        pass: Pass,
        saved: &mut [&mut [f32]],
        state: &mut State<f32>,
        team: &dyn ParallelFor,
    ) -> Vec<Statistics> {
        let (width, len) = (self.shape.width, record_len(self.shape.width));
        let records = self.records(cut, x, team);
        let [mean, rstd] = saved else { unreachable!("a batch norm has two saved slots") };
        let of_group = |group: &Group| {
            let record = &records[group.slabs.start * len..][..len];
            let stats = Statistics::of(record, self.shape.eps);
            let at = group.first_sample * width..(group.first_sample + 1) * width;
            mean[at.clone()].copy_from_slice(&stats.mean);
            rstd[at].copy_from_slice(&stats.rstd);
            if pass == Pass::Gradient {
                let (mean, variance) = observed(record);
                state.observe(self.running_mean, mean.iter().copied());
                state.observe(self.running_var, variance);
            }
            stats
        };
        cut.groups.iter().map(of_group).collect()
    }

    /// Panics if the rows are not those of the part.
    fn check(&self, part: &Part, rows: &[f32]) {
        let len = part.samples * self.shape.pixels * self.shape.width;
        let all_fit = part.inputs.iter().all(|input| input.rows().len() == len);
        assert!(all_fit && rows.len() == len, "rows of a batch norm");
    }
}

impl Whole for BatchNorm {
    fn forward(&self, part: &Part, output: &mut [f32], saved: &mut [&mut [f32]], state: &mut State<f32>, team: &dyn ParallelFor) {
        self.check(part, output);
        let (x, add) = (part.inputs[0].rows(), part.inputs.get(1).map(|add| add.rows()));
        let (gain, bias) = (part.params.view(self.gain), part.params.view(self.bias));
        let evaluates = part.pass == Pass::Evaluate;
        let cut = Cut::new(self, part.samples, if evaluates { part.samples } else { self.shape.group });
        let stats = if evaluates {
            vec![Statistics::running(state.view(self.running_mean), state.view(self.running_var), self.shape.eps)]
        } else {
            self.statistics(&cut, x, part.pass, saved, state, team)
        };
        let outputs = cut.pieces(output);
        team.for_each(cut.num(), &|slab, _| {
            let after = After { add: add.map(|add| cut.of(slab, add)), relu: self.shape.relu };
            normalise(cut.of(slab, x), &stats[cut.slabs[slab].group], gain, bias, after, &mut own(&outputs[slab]));
        });
    }

    fn backward(
        &self,
        part: &Part,
        grad_output: &mut [f32],
        grad_inputs: &mut [GradInput],
        saved: &[&[f32]],
        gradient: &mut [f32],
        team: &dyn ParallelFor,
    ) {
        self.check(part, grad_output);
        let (x, width) = (part.inputs[0].rows(), self.shape.width);
        let cut = Cut::new(self, part.samples, self.shape.group);
        let of_group = |group: &Group| {
            let [mean, rstd] = [0, 1].map(|slot: usize| saved[slot][group.first_sample * width..][..width].to_vec());
            Statistics { mean, rstd }
        };
        let stats: Vec<Statistics> = cut.groups.iter().map(of_group).collect();
        let sums = self.gradient_sums(part, &cut, &stats, grad_output, team);
        let mut grads = GradLane { views: part.params.views, flat: gradient, first: false };
        let (grad_gain, grad_bias) = grads.pair(self.gain, self.bias);
        let of_group = |group: &Group| &sums[group.slabs.start * 2 * width..][..2 * width];
        for group in &cut.groups {
            add_parameter_gradients(of_group(group), grad_gain, grad_bias);
        }

        let (grad_z, gain) = (&*grad_output, part.params.view(self.gain));
        let (grad_x, grad_add) = grad_inputs.split_first_mut().expect("a batch norm reads rows");
        let (grad_x, mode) = grad_x.rows();
        let grads_x = cut.pieces(grad_x);
        let grads_add = match grad_add.first_mut() {
            None | Some(GradInput::None) => None,
            Some(grad) => {
                let (rows, mode) = grad.rows();
                Some((cut.pieces(rows), mode))
            }
        };
        team.for_each(cut.num(), &|slab, scratch| {
            let (group, grad_z) = (cut.slabs[slab].group, cut.of(slab, grad_z));
            let sums = (cut.groups[group].rows, of_group(&cut.groups[group]));
            let (x, grad_x) = (cut.of(slab, x), &mut *own(&grads_x[slab]));
            backward(x, &stats[group], gain, sums, grad_z, grad_x, mode, scratch);
            match &grads_add {
                None => {}
                Some((pieces, Accumulation::Overwrite)) => own(&pieces[slab]).copy_from_slice(grad_z),
                Some((pieces, Accumulation::Add)) => elementwise::add(grad_z, &mut own(&pieces[slab])),
            }
        });
    }
}

impl BatchNorm {
    /// Turns dy into dz; the sums of every group's dz and dz h, each at its first slab's place.
    fn gradient_sums(
        &self,
        part: &Part,
        cut: &Cut,
        stats: &[Statistics],
        grad_output: &mut [f32],
        team: &dyn ParallelFor,
    ) -> Vec<f64> {
        let (x, add) = (part.inputs[0].rows(), part.inputs.get(1).map(|add| add.rows()));
        let (gain, bias, len) = (part.params.view(self.gain), part.params.view(self.bias), 2 * self.shape.width);
        let mut sums = vec![0.0; cut.num() * len];
        let (jobs, grads) = (lists(len, &mut sums), cut.pieces(grad_output));
        team.for_each(cut.num(), &|slab, scratch| {
            let (x, stats) = (cut.of(slab, x), &stats[cut.slabs[slab].group]);
            let (grad, sums) = (&mut *own(&grads[slab]), &mut *own(&jobs[slab]));
            if !self.shape.relu {
                return gradient_sums(x, stats, None, grad, sums, scratch);
            }
            let ([y], scratch) = scratch.floats_and_rest([x.len()]);
            let after = After { add: add.map(|add| cut.of(slab, add)), relu: true };
            normalise(x, stats, gain, bias, after, y);
            gradient_sums(x, stats, Some(y), grad, sums, scratch);
        });
        drop(jobs);
        for group in &cut.groups {
            add_up(self.shape.width, &mut sums[group.slabs.start * len..group.slabs.end * len]);
        }
        sums
    }
}
