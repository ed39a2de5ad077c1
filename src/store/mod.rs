//! Finished jobs on disk: keys, atomic renames, leases. Knows no spec and no tensor.
