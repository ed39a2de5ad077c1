//! Walks the job graph; the only room with clock, retry and signals.
