//! The token embedding as nodes. The table's gradient is summed in the order of a plan that the host makes.

use super::TokenEmbed;
use crate::embedding::cuda::{Backward, TokenPlan, backward, backward_scratch_bytes, forward};
use crate::launch::Node;
use crate::recorder::{Array, HostPart, HostPlan, Output, Record, Recorded, Recorder, Site, Value};

impl Record for TokenEmbed {
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded {
        let (table, positions) = (r.param(self.table), r.param(self.positions));
        let ids = site.inputs[0].words().view;
        let (vocab, tokens, width) = (self.vocab_size, self.tokens, self.width);
        r.push([forward(vocab, tokens, width, site.samples, ids, table, positions, output.floats.view)]);
        Recorded { output: Value::floats(output.floats), saved: Vec::new() }
    }

    /// The table's gradient is added to; it is zeroed once a step.
    fn backward(&self, r: &mut Recorder, site: &Site, _: &[Array], grad: Value) -> Vec<Option<Value>> {
        let ([grad_table, grad_positions], accumulate) = r.grads([self.table, self.positions]);
        if !accumulate {
            let bytes = 4 * self.vocab_size * self.width;
            r.push([Node::Zero { view: grad_table, bytes }]);
        }
        let (batch, tokens, width) = (site.samples, self.tokens, self.width);
        let grad_rows = r.in_floats(grad).view;
        let plan = site.plan.expect("the host writes a plan where there are gradients");
        let scratch = r.scratch("table scratch", backward_scratch_bytes(batch, tokens, width));
        let accumulate_positions = accumulate;
        let at = Backward { batch, tokens, width, plan, grad_rows, grad_table, grad_positions, accumulate_positions };
        r.push(backward(&at, scratch));
        vec![None; site.inputs.len()]
    }

    fn host_plan(&self) -> Option<Box<dyn HostPlan>> {
        Some(Box::new(Places { tokens: self.tokens, plan: TokenPlan::default() }))
    }
}

/// The places at which each id of a part stands.
struct Places {
    tokens: usize,
    plan: TokenPlan,
}

impl HostPlan for Places {
    fn words(&self, samples: usize) -> usize {
        TokenPlan::words(samples, self.tokens)
    }
    fn fill(&mut self, part: &HostPart) -> &[u32] {
        self.plan.fill(part.words, part.ends, self.tokens);
        self.plan.as_words()
    }
}
