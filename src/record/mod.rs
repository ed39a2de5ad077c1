//! `RunRecord` to and from CSV and provenance; the only room that knows columns and the format version.
