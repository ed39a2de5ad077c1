//! macOS: `sysctl`, `proc_pidinfo`, `getrusage`.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use super::Process;

pub(super) fn process(pid: u32) -> Process {
    let Ok(pid) = i32::try_from(pid) else { return Process::Gone };
    let mut info = MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = libc::c_int::try_from(size_of::<libc::proc_bsdinfo>()).expect("a small structure");
    // SAFETY: the call writes at most `size` bytes of the structure, which is plain numbers and zeroed.
    let (written, info) = unsafe {
        let written = libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, info.as_mut_ptr().cast(), size);
        (written, info.assume_init())
    };
    if written != size {
        // Gone, a zombie, or somebody else's: the caller asks whether the id is in use.
        return Process::There;
    }
    if info.pbi_status == libc::SZOMB {
        return Process::Gone;
    }
    Process::Started(info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec)
}

pub(super) fn cpu_model() -> Option<String> {
    text(c"machdep.cpu.brand_string")
}

pub(super) fn memory_bytes() -> Option<u64> {
    let bytes = value(c"hw.memsize")?;
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

pub(super) fn peak_memory_bytes() -> Option<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the structure, which is plain numbers and zeroed.
    let (outcome, usage) = unsafe { (libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), usage.assume_init()) };
    // In bytes here, unlike on Linux.
    if outcome == 0 { u64::try_from(usage.ru_maxrss).ok() } else { None }
}

pub(super) fn boot_id() -> Option<String> {
    let id = text(c"kern.bootsessionuuid")?;
    Some(id.chars().filter(char::is_ascii_hexdigit).collect())
}

pub(super) fn pid_namespace() -> Option<String> {
    None
}

fn text(name: &CStr) -> Option<String> {
    let bytes = value(name)?;
    Some(CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy().trim().to_owned())
}

/// Bytes of a `sysctl` value of up to 256 bytes.
fn value(name: &CStr) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; 256];
    let mut len = bytes.len();
    // SAFETY: the name ends in a zero; at most `len` bytes are written, all of them in `bytes`; nothing is set.
    let outcome = unsafe { libc::sysctlbyname(name.as_ptr(), bytes.as_mut_ptr().cast(), &raw mut len, std::ptr::null_mut(), 0) };
    bytes.truncate(len);
    (outcome == 0).then_some(bytes)
}
