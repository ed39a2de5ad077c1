//! The buffers of a recording, planned by lifetime: those whose lives do not meet share memory.
//!
//! Input: buffers by size, and sections of nodes that use them. Output: where each buffer lies in one arena, and how large that is.
//! Invariants: two buffers that may be alive at once do not overlap, in whatever order the branches of a section run; a buffer that
//! is read was written before; offsets are multiples of [`ALIGNMENT`]. Pure: the same recording gives the same plan. Must not know
//! a device.

use std::collections::HashMap;

use crate::trainer::ops::launch::{Arg, BufferIdx, Node, Section, View};
use crate::trainer::ops::recorder::{Buffers, Life};

/// Every buffer begins at a multiple of this many bytes.
pub const ALIGNMENT: usize = 256;

/// Where the planned buffers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arena {
    /// Offset of each buffer in the arena; `None` for kept and for unused ones.
    pub offsets: Vec<Option<usize>>,
    /// Bytes of the arena.
    pub bytes: usize,
}

/// When a buffer is alive: from a node of one section to a node of the same or a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    first_section: usize,
    last_section: usize,
    first: Within,
    last: Within,
}

/// First and last use within a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// By one branch, at these of its nodes.
    Branch { branch: usize, first: usize, last: usize },
    /// By several, or before and after it: taken as used at every node.
    Everywhere,
}

impl Use {
    fn new(section: usize, branch: usize, node: usize) -> Self {
        let within = Within::Branch { branch, first: node, last: node };
        Self { first_section: section, last_section: section, first: within, last: within }
    }

    /// Takes in a use after those so far.
    fn extend(&mut self, section: usize, branch: usize, node: usize) {
        if section > self.last_section {
            (self.last_section, self.last) = (section, Within::Branch { branch, first: node, last: node });
            return;
        }
        self.last = match self.last {
            Within::Branch { branch: known, first, .. } if known == branch => Within::Branch { branch, first, last: node },
            Within::Branch { .. } | Within::Everywhere => Within::Everywhere,
        };
        if self.first_section == self.last_section {
            self.first = self.last;
        }
    }

    /// Where in a section of its life it is alive.
    fn within(&self, section: usize) -> Within {
        let (is_first, is_last) = (section == self.first_section, section == self.last_section);
        match (is_first, is_last, self.first, self.last) {
            (true, true, within, _) => within,
            (true, false, Within::Branch { branch, first, .. }, _) => Within::Branch { branch, first, last: usize::MAX },
            (false, true, _, Within::Branch { branch, last, .. }) => Within::Branch { branch, first: 0, last },
            _ => Within::Everywhere,
        }
    }

    /// Whether both may be alive at once. Nodes of two branches may always run at once.
    fn meets(&self, other: &Self) -> bool {
        let mut shared = self.first_section.max(other.first_section)..=self.last_section.min(other.last_section);
        shared.any(|section| match (self.within(section), other.within(section)) {
            (Within::Branch { branch: a, first, last }, Within::Branch { branch: b, first: from, last: to }) if a == b => {
                first <= to && from <= last
            }
            _ => true,
        })
    }
}

/// Plans the buffers of a recording: largest first, each at the lowest offset where no living neighbour is.
///
/// **Source** "greedy by size" of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
///
/// # Panics
/// If a planned buffer is read before it is written: a bug of the recording.
#[must_use]
pub fn plan(buffers: &Buffers, sections: &[Section]) -> Arena {
    let uses = uses(buffers, sections);
    let mut order: Vec<usize> = (0..buffers.all().len()).filter(|idx| uses[*idx].is_some()).collect();
    order.sort_by_key(|idx| (std::cmp::Reverse(buffers.all()[*idx].bytes), *idx));
    let mut offsets: Vec<Option<usize>> = vec![None; buffers.all().len()];
    // (offset, end, use) of placed buffers, by offset.
    let mut placed: Vec<(usize, usize, Use)> = Vec::new();
    let mut total = 0;
    for idx in order {
        let life = uses[idx].expect("only used buffers are ordered");
        let bytes = buffers.all()[idx].bytes.next_multiple_of(ALIGNMENT);
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

fn uses(buffers: &Buffers, sections: &[Section]) -> Vec<Option<Use>> {
    let mut uses: Vec<Option<Use>> = vec![None; buffers.all().len()];
    for (section_idx, section) in sections.iter().enumerate() {
        assert_no_race(buffers, section);
        for (branch_idx, branch) in section.branches.iter().enumerate() {
            for (place, node) in branch.iter().enumerate() {
                for Access { view, is_read, .. } in accesses(node) {
                    let idx = view.buffer.0 as usize;
                    let buffer = &buffers.all()[idx];
                    assert!(view.offset <= buffer.bytes, "a view beyond buffer `{}`", buffer.name);
                    if buffer.life == Life::Kept {
                        continue;
                    }
                    match &mut uses[idx] {
                        Some(life) => life.extend(section_idx, branch_idx, place),
                        None => {
                            assert!(!is_read, "buffer `{}` is read before it is written: {node:?}", buffer.name);
                            uses[idx] = Some(Use::new(section_idx, branch_idx, place));
                        }
                    }
                }
            }
        }
    }
    uses
}

/// Checks that no branch touches what another one of its section writes. Of kept buffers, which hold many things, views are compared
/// by where they start.
fn assert_no_race(buffers: &Buffers, section: &Section) {
    // The branch that touched a place first, and whether any branch has written it.
    let mut touched: HashMap<(BufferIdx, usize), (usize, bool)> = HashMap::new();
    for (branch_idx, branch) in section.branches.iter().enumerate() {
        for Access { view, is_written, .. } in branch.iter().flat_map(accesses) {
            let buffer = &buffers.all()[view.buffer.0 as usize];
            let place = if buffer.life == Life::Kept { view.offset } else { 0 };
            let (first, was_written) = touched.entry((view.buffer, place)).or_insert((branch_idx, false));
            *was_written |= is_written;
            assert!(*first == branch_idx || !*was_written, "two branches race for buffer `{}`", buffer.name);
        }
    }
}

/// What a node does at a place.
struct Access {
    view: View,
    is_read: bool,
    is_written: bool,
}

impl Access {
    fn read(view: View) -> Self {
        Self { view, is_read: true, is_written: false }
    }
    fn write(view: View) -> Self {
        Self { view, is_read: false, is_written: true }
    }

    fn of(arg: &Arg) -> Option<Self> {
        match arg {
            Arg::In(view) => Some(Self::read(*view)),
            Arg::Out(view) => Some(Self::write(*view)),
            Arg::InOut(view) => Some(Self { view: *view, is_read: true, is_written: true }),
            Arg::Null | Arg::U32(_) | Arg::F32(_) | Arg::TooLarge(_) => None,
        }
    }
}

/// The places that a node touches. Reads come first: what is read as well as written must have been written by an earlier node.
fn accesses(node: &Node) -> Vec<Access> {
    match node {
        Node::Launch(launch) => {
            let mut accesses: Vec<_> = launch.args.iter().filter_map(Access::of).collect();
            accesses.sort_by_key(|access| !access.is_read);
            accesses
        }
        Node::Product(p) => {
            let reads = [Some(p.a.view), Some(p.b.view), p.addend, p.bias].into_iter().flatten();
            reads.map(Access::read).chain([Access::write(p.out)]).collect()
        }
        Node::Zero { view, .. } => vec![Access::write(*view)],
        Node::Copy { from, to, .. } => vec![Access::read(*from), Access::write(*to)],
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
        let arena = plan(&buffers, &[Section::serial(nodes)]);
        let offset = |view: View| arena.offsets[view.buffer.0 as usize];
        assert_eq!((offset(kept), offset(unused)), (None, None));
        assert_eq!((offset(a), offset(c)), (Some(0), Some(0)));
        assert_eq!(offset(b), Some(1024));
        assert_eq!(arena.bytes, 1024 + 512);
    }

    #[test]
    fn branches_share_no_memory_but_each_with_itself() {
        let mut buffers = Buffers::default();
        let kept = [buffers.add("kept", 1000, Life::Kept), buffers.add("kept too", 1000, Life::Kept)];
        let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(|name| buffers.add(name, 256, Life::Planned));
        let branches = vec![
            vec![copy(kept[0], a), copy(a, kept[0]), copy(kept[0], b), copy(b, kept[0])],
            vec![copy(kept[1], c), copy(c, kept[1]), copy(kept[1], d)],
        ];
        let sections = [Section { branches }, Section::serial([copy(d, e), copy(e, kept[0])])];
        let arena = plan(&buffers, &sections);
        let offset = |view: View| arena.offsets[view.buffer.0 as usize].expect("used");
        assert_eq!(offset(a), offset(b), "one after the other in one branch");
        assert!(offset(c) != offset(a) && offset(d) != offset(a), "side by side");
        assert_eq!(offset(c), offset(d), "d begins where c has ended");
        assert_ne!(offset(d), offset(e));
        assert_eq!(arena.bytes, 512);
    }

    #[test]
    fn what_one_branch_writes_no_other_may_touch() {
        let mut buffers = Buffers::default();
        let kept = buffers.add("kept", 1000, Life::Kept);
        let a = buffers.add("a", 256, Life::Planned);
        let branches = vec![vec![copy(kept, a)], vec![copy(a, kept.at(256))]];
        let outcome = std::panic::catch_unwind(|| plan(&buffers, &[Section { branches }]));
        let message = outcome.expect_err("a race is a bug of the recording");
        assert_eq!(message.downcast_ref::<String>().map(String::as_str), Some("two branches race for buffer `a`"));
    }

    #[test]
    fn random_recordings_never_let_living_buffers_overlap() {
        let mut draws = crate::data::Philox::new(3, crate::data::Stream::Scenes).at(0, 0);
        for _ in 0..50 {
            let mut buffers = Buffers::default();
            let views: Vec<View> =
                (0..40).map(|idx| buffers.add(format!("{idx}"), 1 + draws.below(5000) as usize, Life::Planned)).collect();
            // Each buffer is used by one branch of a section at most.
            let mut sections: Vec<Section> = (0..6).map(|_| Section { branches: vec![Vec::new(); 3] }).collect();
            let mut alive: Vec<Vec<(usize, usize, usize)>> = vec![Vec::new(); 40];
            for (section_idx, section) in sections.iter_mut().enumerate() {
                for (idx, view) in views.iter().enumerate() {
                    let (branch, times) = (draws.below(3) as usize, draws.below(3));
                    for _ in 0..times {
                        alive[idx].push((section_idx, branch, section.branches[branch].len()));
                        section.branches[branch].push(Node::Zero { view: *view, bytes: 1 });
                    }
                }
            }
            let arena = plan(&buffers, &sections);
            let span = |idx: usize| arena.offsets[idx].map(|start| (start, start + buffers.all()[idx].bytes));
            for (i, j) in (0..40).flat_map(|i| (0..i).map(move |j| (i, j))) {
                let (Some((a, a_end)), Some((b, b_end))) = (span(i), span(j)) else { continue };
                assert!(a % ALIGNMENT == 0 && a_end <= arena.bytes);
                if a_end <= b || b_end <= a {
                    continue;
                }
                // They share memory: every use of one is over before the first of the other may begin.
                let over = |x: &[(usize, usize, usize)], y: &[(usize, usize, usize)]| {
                    let before =
                        |(s, b, n): (usize, usize, usize), (t, c, m): (usize, usize, usize)| s < t || (s == t && b == c && n < m);
                    x.iter().all(|x| y.iter().all(|y| before(*x, *y)))
                };
                assert!(over(&alive[i], &alive[j]) || over(&alive[j], &alive[i]), "{i} and {j}");
            }
        }
    }
}
