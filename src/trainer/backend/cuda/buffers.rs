//! Buffers of a recording, planned by lifetime: those whose lives do not meet share memory.
//!
//! Input: buffers by size, and nodes that use them in order. Output: where each buffer lies in one arena, and how large that is.
//! Invariants: two buffers that are alive at the same node do not overlap; a buffer that is read was written before; offsets are
//! multiples of [`ALIGNMENT`]. Pure: the same recording gives the same plan. Must not know a device.

use crate::trainer::ops::launch::{Arg, BufferIdx, Node, View};

/// Every buffer begins at a multiple of this many bytes.
pub const ALIGNMENT: usize = 256;

/// How long a buffer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// As long as the step: parameters, inputs, reports. It has memory of its own.
    Kept,
    /// From the first node that writes it to the last that reads it.
    Planned,
}

/// A buffer by name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// For messages.
    pub name: String,
    /// Size.
    pub bytes: usize,
    /// Lifetime.
    pub life: Life,
}

/// The buffers of a recording.
#[derive(Debug, Clone, Default)]
pub struct Buffers {
    list: Vec<Buffer>,
}

impl Buffers {
    /// Adds a buffer.
    ///
    /// # Panics
    /// If there are over 2^32 buffers.
    pub fn add(&mut self, name: impl Into<String>, bytes: usize, life: Life) -> View {
        let view = View { buffer: self.next(), offset: 0 };
        self.list.push(Buffer { name: name.into(), bytes, life });
        view
    }
    /// Index of the buffer that is added next.
    ///
    /// # Panics
    /// If there are over 2^32 buffers.
    #[must_use]
    pub fn next(&self) -> BufferIdx {
        BufferIdx(u32::try_from(self.list.len()).expect("a recording has few buffers"))
    }
    /// All of them, by index.
    #[must_use]
    pub fn all(&self) -> &[Buffer] {
        &self.list
    }
}

/// Where the planned buffers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arena {
    /// Offset of each buffer in the arena; `None` for kept and for unused ones.
    pub offsets: Vec<Option<usize>>,
    /// Bytes of the arena.
    pub bytes: usize,
}

/// First and last node that uses a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    first: usize,
    last: usize,
}

impl Use {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Plans the buffers of a recording: largest first, each at the lowest offset where no living neighbour is.
///
/// **Source** "greedy by size" of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
///
/// # Panics
/// If a planned buffer is read before it is written: a bug of the recording.
#[must_use]
pub fn plan(buffers: &Buffers, nodes: &[Node]) -> Arena {
    let uses = uses(buffers, nodes);
    let mut order: Vec<usize> = (0..buffers.list.len()).filter(|idx| uses[*idx].is_some()).collect();
    order.sort_by_key(|idx| (std::cmp::Reverse(buffers.list[*idx].bytes), *idx));
    let mut offsets: Vec<Option<usize>> = vec![None; buffers.list.len()];
    // (offset, end, use) of placed buffers, by offset.
    let mut placed: Vec<(usize, usize, Use)> = Vec::new();
    let mut total = 0;
    for idx in order {
        let life = uses[idx].expect("only used buffers are ordered");
        let bytes = buffers.list[idx].bytes.next_multiple_of(ALIGNMENT);
        let mut offset = 0;
        for (start, end, _) in placed.iter().filter(|(_, _, other)| life.meets(other)) {
            if offset + bytes <= *start {
                break;
            }
            offset = offset.max(*end);
        }
        offsets[idx] = Some(offset);
        total = total.max(offset + bytes);
        let at = placed.partition_point(|(start, _, _)| *start < offset);
        placed.insert(at, (offset, offset + bytes, life));
    }
    Arena { offsets, bytes: total }
}

fn uses(buffers: &Buffers, nodes: &[Node]) -> Vec<Option<Use>> {
    let mut uses: Vec<Option<Use>> = vec![None; buffers.list.len()];
    for (place, node) in nodes.iter().enumerate() {
        for (view, is_written_first) in accesses(node) {
            let idx = view.buffer.0 as usize;
            let buffer = &buffers.list[idx];
            assert!(view.offset <= buffer.bytes, "a view beyond buffer `{}`", buffer.name);
            if buffer.life == Life::Kept {
                continue;
            }
            match &mut uses[idx] {
                Some(life) => life.last = place,
                None => {
                    assert!(is_written_first, "buffer `{}` is read before it is written, at node {place}", buffer.name);
                    uses[idx] = Some(Use { first: place, last: place });
                }
            }
        }
    }
    uses
}

/// The places that a node touches, and whether it writes them before it reads them.
fn accesses(node: &Node) -> Vec<(View, bool)> {
    match node {
        Node::Launch(launch) => {
            // Reads come first: an argument that is read as well as written must have been written by an earlier node.
            let mut views: Vec<_> = launch.args.iter().filter_map(access).collect();
            views.sort_by_key(|(_, is_written_first)| *is_written_first);
            views
        }
        Node::Product(p) => {
            let reads = [Some(p.a.view), Some(p.b.view), p.addend, p.bias].into_iter().flatten();
            reads.map(|view| (view, false)).chain([(p.out, true)]).collect()
        }
        Node::Zero { view, .. } => vec![(*view, true)],
        Node::Copy { from, to, .. } => vec![(*from, false), (*to, true)],
    }
}

fn access(arg: &Arg) -> Option<(View, bool)> {
    match arg {
        Arg::In(view) | Arg::InOut(view) => Some((*view, false)),
        Arg::Out(view) => Some((*view, true)),
        Arg::Null | Arg::U32(_) | Arg::F32(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(from: View, to: View) -> Node {
        Node::Copy { from, to, bytes: 1 }
    }

    #[test]
    fn buffers_share_memory_only_where_their_lives_do_not_meet() {
        let mut buffers = Buffers::default();
        let kept = buffers.add("kept", 1000, Life::Kept);
        let a = buffers.add("a", 1000, Life::Planned);
        let b = buffers.add("b", 300, Life::Planned);
        let c = buffers.add("c", 900, Life::Planned);
        let unused = buffers.add("unused", 1 << 30, Life::Planned);
        // a lives over nodes 0 and 1, b over 1 and 2, c over 2 and 3.
        let nodes = [copy(kept, a), copy(a, b), copy(b, c), copy(c, kept)];
        let arena = plan(&buffers, &nodes);
        let offset = |view: View| arena.offsets[view.buffer.0 as usize];
        assert_eq!((offset(kept), offset(unused)), (None, None));
        assert_eq!((offset(a), offset(c)), (Some(0), Some(0)));
        assert_eq!(offset(b), Some(1024));
        assert_eq!(arena.bytes, 1024 + 512);
    }

    #[test]
    fn random_recordings_never_let_living_buffers_overlap() {
        let mut draws = crate::data::Philox::new(3, crate::data::Stream::Scenes).at(0, 0);
        for _ in 0..50 {
            let mut buffers = Buffers::default();
            let views: Vec<View> =
                (0..40).map(|idx| buffers.add(format!("{idx}"), 1 + draws.below(5000) as usize, Life::Planned)).collect();
            let mut nodes: Vec<Node> = views.iter().map(|view| Node::Zero { view: *view, bytes: 1 }).collect();
            for _ in 0..60 {
                let view = views[draws.below(40) as usize];
                let place = draws.below(nodes.len() as u32 + 1) as usize;
                nodes.insert(place, Node::Zero { view, bytes: 1 });
            }
            let arena = plan(&buffers, &nodes);
            let uses = uses(&buffers, &nodes);
            let spans: Vec<_> = (0..40)
                .map(|idx| (arena.offsets[idx].expect("used"), buffers.all()[idx].bytes, uses[idx].expect("used")))
                .collect();
            for (i, (start, bytes, life)) in spans.iter().enumerate() {
                assert!(start % ALIGNMENT == 0 && start + bytes <= arena.bytes);
                for (other_start, other_bytes, other) in &spans[..i] {
                    let apart = start + bytes <= *other_start || other_start + other_bytes <= *start;
                    assert!(apart || !life.meets(other));
                }
            }
        }
    }
}
