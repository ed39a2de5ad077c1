//! `ValidSpec` to ordered runs: axes, seeds, points, run ids. Pure.
