//! Events to terminal; with `cli`, the only room that prints.
