//! One file a job kind: hands the inputs of a job to its room and its output to the store.
