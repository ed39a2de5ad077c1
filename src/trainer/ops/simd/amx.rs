//! Whether this process may use the tiles of AMX.

use std::arch::x86_64::{__cpuid_count, CpuidResult};

/// Proof that this CPU multiplies tiles of bf16, and that the system lets this process hold tiles.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

/// CPUID leaf 7, EDX: products of tiles of bf16, and tiles at all.
const AMX_BF16: u32 = 1 << 22;
const AMX_TILE: u32 = 1 << 24;

impl Amx {
    /// Asks the system for permission if the CPU has tiles; the answer holds for all threads of the process.
    pub(crate) fn detect() -> Option<Self> {
        // A pointer, because some versions of the compiler call this function unsafe and some do not.
        let cpuid: unsafe fn(u32, u32) -> CpuidResult = __cpuid_count;
        // SAFETY: every x86-64 CPU has CPUID; leaf 0 says up to which leaf it answers.
        let edx = unsafe { if cpuid(0, 0).eax >= 7 { cpuid(7, 0).edx } else { 0 } };
        (edx & AMX_BF16 != 0 && edx & AMX_TILE != 0 && is_permitted()).then_some(Self(()))
    }
}

/// Linux keeps the state of tiles only for processes that ask. It refuses where it does not know tiles or has them turned off.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: this request takes a number and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
