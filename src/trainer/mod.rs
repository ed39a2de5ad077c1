//! ONE run: `RunConfig` and packed data in, trained parameters and metrics out.
pub mod ops;
