//! Runs and existing records to a job graph. Pure.
