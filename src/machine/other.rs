//! Any other Unix: nothing is asked.

use super::Process;

pub(super) fn process(_pid: u32) -> Process {
    Process::There
}

pub(super) fn cpu_model() -> Option<String> {
    None
}

pub(super) fn memory_bytes() -> Option<u64> {
    None
}

pub(super) fn peak_memory_bytes() -> Option<u64> {
    None
}

pub(super) fn boot_id() -> Option<String> {
    None
}

pub(super) fn pid_namespace() -> Option<String> {
    None
}
