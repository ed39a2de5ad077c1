//! How ops are recorded for a GPU: a [`Recorder`] collects nodes and buffers, an op's [`Record`] says which.
//!
//! Residual streams, statistics, features and gradients of parameters are f32; what products read and write is the compute type
//! ([`Real`]). Invariants: everything that changes from step to step is read from kept buffers; the first call that goes back
//! writes the gradient of a parameter, later ones (of other parts, or calls that share it) add to it. Must not know a program, an
//! op or a device.

mod array;
mod buffers;
mod products;
mod record;

pub use array::{Array, Elem, Output, Pixels, Source, Value};
pub use buffers::{Buffer, Buffers, Life};
pub use record::{HostPart, HostPlan, Record, Recorded, Refusal, Site};

use crate::elementwise;
use crate::launch::{Node, Real, Section, View};
use crate::params::{ParamIdx, ParamView};

/// Where a recording finds the parameters of a program.
#[derive(Debug, Clone, Copy)]
pub struct ParamPlaces<'a> {
    /// Views of the program.
    pub views: &'a [ParamView],
    /// First float of each in the flat buffers below.
    pub offsets: &'a [usize],
    /// Parameters, f32.
    pub params: View,
    /// Parameters in the compute type; `params` itself where that is f32.
    pub shadow: View,
    /// Gradients, f32, zero at first; absent where nothing is trained.
    pub grads: Option<View>,
}

/// Collects nodes and buffers while a step is described.
#[derive(Debug)]
pub struct Recorder<'a> {
    places: ParamPlaces<'a>,
    real: Real,
    /// All buffers so far.
    pub buffers: Buffers,
    /// At least one; nodes go to `branch` of the last.
    sections: Vec<Section>,
    branch: usize,
    /// Where the gradients of parameters wait that are recorded with the next section; `None` while they are recorded at once.
    aside: Option<Aside>,
    /// Whether the gradient of a parameter has been recorded.
    has_grad: Vec<bool>,
}

/// Gradients of parameters, which nobody but the optimiser waits for.
#[derive(Debug, Default)]
pub struct Aside {
    /// Products, and what is short.
    pub products: Vec<Node>,
    /// Sums over rows.
    pub sums: Vec<Node>,
}

impl<'a> Recorder<'a> {
    /// A recording of nothing so far, beside the given buffers.
    #[must_use]
    pub fn new(places: ParamPlaces<'a>, real: Real, buffers: Buffers) -> Self {
        let sections = vec![Section { branches: vec![Vec::new()] }];
        let has_grad = vec![false; places.views.len()];
        Self { places, real, buffers, sections, branch: 0, aside: None, has_grad }
    }

    /// All buffers, and what runs, in order; no branch is empty.
    #[must_use]
    pub fn finish(mut self) -> (Buffers, Vec<Section>) {
        for section in &mut self.sections {
            section.branches.retain(|branch| !branch.is_empty());
        }
        self.sections.retain(|section| !section.branches.is_empty());
        (self.buffers, self.sections)
    }

    /// The compute type.
    #[must_use]
    pub fn real(&self) -> Real {
        self.real
    }

    /// Begins a section; what is pushed goes to its first branch.
    pub fn begin(&mut self, branches: usize) {
        self.sections.push(Section { branches: vec![Vec::new(); branches] });
        self.branch = 0;
    }

    /// What is pushed goes to this branch of the section; to the last where there are fewer.
    pub fn on(&mut self, branch: usize) {
        self.branch = branch.min(self.section().branches.len() - 1);
    }

    fn section(&mut self) -> &mut Section {
        self.sections.last_mut().expect("there is always a section")
    }

    /// Nodes that run after those so far on this branch.
    pub fn push(&mut self, nodes: impl IntoIterator<Item = impl Into<Node>>) {
        let branch = self.branch;
        self.section().branches[branch].extend(nodes.into_iter().map(Into::into));
    }

    /// As `push` for gradients of parameters: they wait in `list` where they are set aside.
    pub fn push_aside(&mut self, list: fn(&mut Aside) -> &mut Vec<Node>, nodes: impl IntoIterator<Item = impl Into<Node>>) {
        match &mut self.aside {
            Some(aside) => list(aside).extend(nodes.into_iter().map(Into::into)),
            None => self.push(nodes),
        }
    }

    /// Sets aside what `push_aside` gets from now on. Such nodes read no gradient in f32 that a call hands on, since the call after
    /// may change it: where the compute type is f32, nothing is set aside.
    pub fn set_aside(&mut self) {
        self.aside = (self.real != Real::F32).then(Aside::default);
    }

    /// What was set aside; what `push_aside` gets from now on is recorded at once.
    pub fn take_aside(&mut self) -> Aside {
        self.aside.take().unwrap_or_default()
    }

    /// An array that lives from its first to its last use.
    pub fn array(&mut self, name: &str, elem: Elem, rows: usize, channels: usize) -> Array {
        let view = self.scratch(name, rows * channels * elem.bytes());
        Array { view, elem, rows, channels }
    }
    /// An array of f32.
    pub fn floats(&mut self, name: &str, rows: usize, channels: usize) -> Array {
        self.array(name, Elem::F32, rows, channels)
    }
    /// An array of the compute type.
    pub fn reals(&mut self, name: &str, rows: usize, channels: usize) -> Array {
        self.array(name, self.real.into(), rows, channels)
    }
    /// Bytes that live from their first to their last use.
    pub fn scratch(&mut self, name: &str, bytes: usize) -> View {
        self.buffers.add(name, bytes, Life::Planned)
    }
    /// An array of f32 and one of the compute type; the same one where that is f32.
    pub fn pair(&mut self, name: &str, rows: usize, channels: usize) -> Output {
        let floats = self.floats(name, rows, channels);
        let reals = if self.real == Real::F32 { floats } else { self.reals(&format!("{name} copy"), rows, channels) };
        Output { floats, reals }
    }

    /// Fills an array with zeros.
    pub fn zero(&mut self, array: Array) {
        self.push([Node::Zero { view: array.view, bytes: array.bytes() }]);
    }

    /// A value in f32; made from its rows in the compute type where it is not there.
    pub fn in_floats(&mut self, value: Value) -> Array {
        if let Some(floats) = value.in_floats() {
            return floats;
        }
        let from = value.in_either();
        let to = self.floats("a value in f32", from.rows, from.channels);
        self.push([elementwise::cuda::sum(from.len(), elements(from), None, Some(to.view), None)]);
        to
    }

    /// Copies a value to rows in f32.
    pub fn copy(&mut self, value: Value, to: Array) {
        let from = value.in_either();
        self.push([elementwise::cuda::sum(from.len(), elements(from), None, Some(to.view), None)]);
    }

    /// A value in the compute type; made from its rows in f32 where it is not there.
    pub fn in_reals(&mut self, value: Value) -> Array {
        if let Some(reals) = value.in_reals(self.real) {
            return reals;
        }
        let from = value.in_either();
        let to = self.reals("a value in the compute type", from.rows, from.channels);
        self.push([elementwise::cuda::cast(from.len(), from.view, to.view)]);
        to
    }

    /// The sum of two gradients of a slot, in both types. It is where the rows in f32 of the first, or else of the second, are; its
    /// rows in the compute type are in a new place.
    ///
    /// # Panics
    /// If they differ in size.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        let [x, y] = [a, b].map(|value| value.in_either());
        assert_eq!(x.len(), y.len(), "two gradients of a slot");
        let floats = a.in_floats().or(b.in_floats());
        let floats = floats.unwrap_or_else(|| self.floats("a sum of gradients", x.rows, x.channels));
        let copy = (self.real != Real::F32).then(|| self.reals("a sum of gradients copy", x.rows, x.channels));
        let sum = elementwise::cuda::sum(x.len(), elements(x), Some(elements(y)), Some(floats.view), copy.map(|copy| copy.view));
        self.push([sum]);
        Value::both(floats, copy.unwrap_or(floats))
    }

    /// A parameter in f32.
    #[must_use]
    pub fn param(&self, idx: ParamIdx) -> View {
        self.places.params.floats(self.places.offsets[idx])
    }
    /// A parameter in the compute type.
    #[must_use]
    pub fn shadow(&self, idx: ParamIdx) -> View {
        self.places.shadow.at(self.real.bytes() * self.places.offsets[idx])
    }
    /// Where the gradients of some parameters go, and whether they are added to what is there.
    ///
    /// # Panics
    /// If nothing is trained, or if some of them were recorded before and some not.
    pub fn grads<const N: usize>(&mut self, params: [ParamIdx; N]) -> ([View; N], bool) {
        let are_there = params.map(|idx| std::mem::replace(&mut self.has_grad[idx], true));
        let accumulate = are_there.contains(&true);
        assert!(!accumulate || !are_there.contains(&false), "calls that share a parameter share all that go with it");
        (params.map(|idx| self.grad_view(idx)), accumulate)
    }

    fn grad_view(&self, idx: ParamIdx) -> View {
        let grads = self.places.grads.expect("only a session for training records gradients");
        grads.floats(self.places.offsets[idx])
    }
}

fn elements(array: Array) -> elementwise::cuda::Elements {
    elementwise::cuda::Elements { view: array.view, real: array.elem.real() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WeightLayout;
    use crate::launch::{Arg, BufferIdx};
    use crate::linear::LinearShape;
    use crate::params::{Init, ParamList};

    /// A weight [3, 2] and its bias.
    fn params() -> Vec<ParamView> {
        let mut list = ParamList::default();
        let shape = LinearShape { inputs: 2, outputs: 3, layout: WeightLayout::OutIn };
        list.linear("weight".into(), &[3, 2], 1, shape, Init::Constant(0.0));
        list.vector("bias".into(), 3, Init::Constant(0.0));
        list.finish()
    }

    fn place(buffer: u32) -> View {
        View { buffer: BufferIdx(buffer), offset: 0 }
    }

    fn recorder(views: &[ParamView], real: Real) -> Recorder<'_> {
        let mut buffers = Buffers::default();
        let [params, shadow, grads] = ["params", "shadow", "grads"].map(|name| buffers.add(name, 512, Life::Kept));
        Recorder::new(ParamPlaces { views, offsets: &[0, 64], params, shadow, grads: Some(grads) }, real, buffers)
    }

    fn nodes(r: Recorder) -> Vec<Node> {
        r.finish().1.into_iter().flat_map(|section| section.branches).flatten().collect()
    }

    #[test]
    fn the_first_gradient_of_a_parameter_is_written_and_later_ones_are_added() {
        let views = params();
        let mut r = recorder(&views, Real::F32);
        let (x, grad) = (r.reals("x", 4, 2), r.reals("grad", 4, 3));
        r.linear_weight((0, Some(1)), x, grad);
        r.linear_weight((0, Some(1)), x, grad);
        let addends = nodes(r).into_iter().filter_map(|node| if let Node::Product(p) = node { Some(p.addend) } else { None });
        assert_eq!(addends.collect::<Vec<_>>(), [None, Some(place(2))]);
    }

    #[test]
    fn parameters_that_go_together_are_shared_together() {
        let views = params();
        let outcome = std::panic::catch_unwind(|| {
            let mut r = recorder(&views, Real::F32);
            let _ = r.grads([1]);
            let _ = r.grads([0, 1]);
        });
        assert!(outcome.is_err());
    }

    #[test]
    fn gradients_add_where_the_first_is_and_their_copy_is_new() {
        let views = params();
        for real in [Real::F32, Real::Bf16] {
            let mut r = recorder(&views, real);
            let (stream, product) = (r.pair("stream", 4, 2), r.reals("product", 4, 2));
            let sum = r.add(Value::reals(product), Value::both(stream.floats, stream.reals));
            let expected = if real == Real::F32 { product } else { stream.floats };
            assert_eq!(sum.in_floats(), Some(expected));
            assert_eq!(sum.copy().is_some(), real == Real::Bf16);
            assert!(sum.copy().is_none_or(|copy| copy.view != stream.reals.view && copy.view != product.view));
            let [Node::Launch(launch)] = &nodes(r)[..] else { panic!("one launch") };
            assert!(launch.args.contains(&Arg::InOut(expected.view)), "{launch:?}");
        }
    }

    #[test]
    fn a_value_is_converted_where_the_wanted_type_is_not_there() {
        let views = params();
        let mut r = recorder(&views, Real::Bf16);
        let (floats, reals) = (r.floats("floats", 4, 2), r.reals("reals", 4, 2));
        assert_eq!(r.in_floats(Value::floats(floats)), floats);
        assert_eq!(r.in_reals(Value::both(floats, reals)), reals);
        assert_eq!(r.in_reals(Value::floats(floats)).elem, Elem::Bf16);
        assert_eq!(r.in_floats(Value::reals(reals)).elem, Elem::F32);
        assert_eq!(nodes(r).len(), 2);
    }
}
