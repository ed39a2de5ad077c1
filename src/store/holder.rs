//! Who holds a lease: host, pid, start of the process, boot and pid namespace; and whether that process is still there.
//!
//! A pid does not name a process for good: the system gives pids out again. The start time tells one use from the next, the boot
//! id tells this run of the machine from the last, the namespace tells containers on one machine apart. Where a system tells none of these (it is
//! neither Linux nor macOS), a pid that was used again counts as the holder, and a boot is seen by the silence of a lease alone.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machine::{self, Process};

/// A process (and a store handle in it) that may hold leases.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Host name, with characters that a file name cannot take replaced.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Start of the process as [`Process::Started`] gives it; 0 where the system does not tell.
    pub start: u64,
    /// The first digits of the boot id and the pid namespace.
    pub boot: String,
    /// Which store handle of the process.
    pub handle: u32,
}

static HANDLES: AtomicU32 = AtomicU32::new(0);

impl Holder {
    /// This process, as a new handle.
    #[must_use]
    pub fn this_process() -> Self {
        let pid = std::process::id();
        let handle = HANDLES.fetch_add(1, Ordering::Relaxed);
        let (host, boot) = this_machine().clone();
        let start = if let Process::Started(start) = machine::process(pid) { start } else { 0 };
        Self { host, pid, start, boot, handle }
    }

    /// Whether the process runs on this machine, this boot, in this pid namespace, so that asking for its pid makes sense.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let (host, boot) = this_machine();
        self.host == *host && self.boot == *boot
    }

    /// Whether this machine is the holder's, but booted since: then it is certainly gone.
    #[must_use]
    pub fn is_before_boot(&self) -> bool {
        let (host, own) = this_machine();
        let (boot_id, namespace) = self.boot.split_at(self.boot.len().min(8));
        let (own_id, own_namespace) = own.split_at(own.len().min(8));
        self.host == *host && namespace == own_namespace && boot_id != own_id
    }

    /// Whether a local holder's process is still there: the same pid with the same start, and no zombie.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match machine::process(self.pid) {
            Process::Gone => false,
            Process::Started(now) => self.start == 0 || self.start == now,
            Process::There => true,
        }
    }

    /// The form in a file name.
    pub(super) fn to_name(&self) -> String {
        format!("{}-{}-{}-{}@{}", self.pid, self.start, self.boot, self.handle, self.host)
    }

    /// Reads [`to_name`](Self::to_name) back.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (numbers, host) = name.split_once('@')?;
        let mut parts = numbers.split('-');
        let holder = Self {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            boot: parts.next()?.to_owned(),
            handle: parts.next()?.parse().ok()?,
            host: host.to_owned(),
        };
        parts.next().is_none().then_some(holder)
    }
}

/// Host name, and boot with namespace, of this process.
fn this_machine() -> &'static (String, String) {
    static MACHINE: OnceLock<(String, String)> = OnceLock::new();
    MACHINE.get_or_init(|| (host(), boot()))
}

fn host() -> String {
    let uname = rustix::system::uname();
    let name: String = uname.nodename().to_string_lossy().chars().take(64).map(plain).collect();
    if name.is_empty() { "localhost".into() } else { name }
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }
}

/// Eight digits of the boot id, then the number of the pid namespace.
fn boot() -> String {
    let id: String = machine::boot_id().unwrap_or_default().chars().take(8).collect();
    format!("{id:0>8}{}", machine::pid_namespace().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_local_and_running() {
        let holder = Holder::this_process();
        assert!(holder.is_local() && holder.is_running() && !holder.is_before_boot());
        assert_eq!(Holder::from_name(&holder.to_name()), Some(holder));
    }

    #[test]
    fn a_pid_that_was_used_again_is_not_the_holder() {
        let mut holder = Holder::this_process();
        if holder.start == 0 {
            println!("skipped: this system tells no process start times");
            return;
        }
        holder.start -= 1;
        assert!(!holder.is_running());
    }

    #[test]
    fn a_holder_of_an_earlier_boot_is_gone_and_one_in_another_container_is_not_local() {
        let mut earlier = Holder::this_process();
        earlier.boot.replace_range(0..1, if earlier.boot.starts_with('0') { "1" } else { "0" });
        assert!(earlier.is_before_boot() && !earlier.is_local());
        let mut elsewhere = Holder::this_process();
        elsewhere.boot.push('7');
        assert!(!elsewhere.is_before_boot() && !elsewhere.is_local());
    }
}
