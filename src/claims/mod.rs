//! Tables and statements to verdicts, with the numbers that decided. Pure.
