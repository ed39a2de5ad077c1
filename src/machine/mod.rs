//! What the operating system tells of this machine and its processes: CPU, memory, boot, and whether a process is there.
//!
//! Owns the questions and their forms: `/proc` on Linux, `sysctl` and `proc_pidinfo` on macOS. Output: plain values, `None` where
//! a system does not tell. Elsewhere nothing is told: a CPU has no name, memory no size, and a process is known by its pid alone.
//! Invariant: nothing here fails or waits; `unsafe` is in the form for macOS alone. Must not know any other room.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod other;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
use other as system;

/// What is known of a process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// No process has it, or only a zombie that its parent has not yet waited for.
    Gone,
    /// A process has it that started then: a number that another process with this id on this boot does not share.
    ///
    /// **Units** clock ticks since boot on Linux, microseconds since 1970 on macOS.
    Started(u64),
    /// A process has it, of which the system tells no more.
    There,
}

/// What a process id belongs to now.
#[must_use]
pub fn process(pid: u32) -> Process {
    if let found @ (Process::Gone | Process::Started(_)) = system::process(pid) {
        return found;
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return Process::Gone };
    // A process of another user refuses the signal, and is there.
    match rustix::process::test_kill_process(pid) {
        Err(rustix::io::Errno::SRCH) => Process::Gone,
        _ => Process::There,
    }
}

/// Name of the CPU, as the system gives it.
#[must_use]
pub fn cpu_model() -> Option<String> {
    system::cpu_model()
}

/// Memory of the machine.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    system::memory_bytes()
}

/// The largest resident set of this process so far.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    system::peak_memory_bytes()
}

/// What tells this run of the machine from its others: hexadecimal digits, other ones after every boot.
#[must_use]
pub fn boot_id() -> Option<String> {
    system::boot_id()
}

/// What tells the pid namespace of this process from others on the machine: digits; `None` where there is one for all.
#[must_use]
pub fn pid_namespace() -> Option<String> {
    system::pid_namespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_a_child_is_gone_once_it_was_waited_for() -> std::io::Result<()> {
        assert_ne!(process(std::process::id()), Process::Gone);
        let mut child = std::process::Command::new("true").spawn()?;
        child.wait()?;
        assert_eq!(process(child.id()), Process::Gone);
        assert_eq!(process(u32::MAX), Process::Gone);
        Ok(())
    }

    #[test]
    fn a_child_that_nobody_waited_for_is_gone_once_it_ended() -> std::io::Result<()> {
        if !matches!(process(std::process::id()), Process::Started(_)) {
            println!("skipped: this system tells no process start times");
            return Ok(());
        }
        let mut child = std::process::Command::new("true").spawn()?;
        let ended = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            process(child.id()) == Process::Gone
        });
        child.wait()?;
        assert!(ended, "a zombie counts as a process");
        Ok(())
    }

    #[test]
    fn a_system_with_a_form_tells_all_of_it() {
        if cfg!(any(target_os = "linux", target_os = "macos")) {
            assert!(cpu_model().is_some_and(|name| !name.trim().is_empty()));
            let (memory, peak) = (memory_bytes().unwrap_or(0), peak_memory_bytes().unwrap_or(0));
            assert!(memory > 64 << 20 && peak > 1 << 20 && peak < memory, "{peak} of {memory}");
            assert!(boot_id().is_some_and(|id| id.len() >= 8 && id.chars().all(|c| c.is_ascii_hexdigit())));
        }
    }
}
