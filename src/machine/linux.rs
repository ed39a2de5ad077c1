//! Linux: what stands in `/proc`.

use std::fs;

use super::Process;

pub(super) fn process(pid: u32) -> Process {
    // A mount with `hidepid` shows no processes of others, so a missing file says nothing.
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| from_stat(&stat)).unwrap_or(Process::There)
}

/// Reads a line of `/proc/PID/stat`.
fn from_stat(stat: &str) -> Option<Process> {
    // The name in brackets may hold anything, brackets and spaces included: the last bracket ends it.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return Some(Process::Gone);
    }
    // `state` is the third field of the line and the start the 22nd.
    fields.nth(18)?.parse().ok().map(Process::Started)
}

pub(super) fn cpu_model() -> Option<String> {
    from_cpuinfo(&fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// The name of the first CPU. x86 kernels write `model name`; those of 64-bit Arm write numbers of the maker and the part.
fn from_cpuinfo(info: &str) -> Option<String> {
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    if let Some(name) = field("model name") {
        return Some(name);
    }
    let (maker, part) = (field("CPU implementer")?, field("CPU part")?);
    let known = PARTS.iter().find(|(of, number, _)| *of == maker && *number == part);
    Some(known.map_or_else(|| format!("Arm CPU, maker {maker}, part {part}"), |(_, _, name)| (*name).to_owned()))
}

/// Makers' and parts' numbers of 64-bit Arm CPUs that machines for training have. Source: `MIDR_EL1` values in Linux,
/// `arch/arm64/include/asm/cputype.h`.
const PARTS: [(&str, &str, &str); 12] = [
    ("0x41", "0xd03", "Arm Cortex-A53"),
    ("0x41", "0xd07", "Arm Cortex-A57"),
    ("0x41", "0xd08", "Arm Cortex-A72"),
    ("0x41", "0xd0b", "Arm Cortex-A76"),
    ("0x41", "0xd0c", "Arm Neoverse N1"),
    ("0x41", "0xd40", "Arm Neoverse V1"),
    ("0x41", "0xd49", "Arm Neoverse N2"),
    ("0x41", "0xd4f", "Arm Neoverse V2"),
    ("0x46", "0x001", "Fujitsu A64FX"),
    ("0xc0", "0xac3", "Ampere-1"),
    ("0x61", "0x022", "Apple M1, efficiency core"),
    ("0x61", "0x023", "Apple M1, performance core"),
];

pub(super) fn memory_bytes() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemTotal:").map(|kib| kib * 1024)
}

pub(super) fn peak_memory_bytes() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:").map(|kib| kib * 1024)
}

fn kibibytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

pub(super) fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.chars().filter(char::is_ascii_hexdigit).collect())
}

pub(super) fn pid_namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let rest = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        assert_eq!(from_stat(&format!("7 (a) b (c)) S {rest}")), Some(Process::Started(98765)));
        assert_eq!(from_stat(&format!("7 (sh) Z {rest}")), Some(Process::Gone));
        assert_eq!(from_stat("7 (sh"), None);
    }

    #[test]
    fn cpus_of_both_kinds_have_names() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some Xeon @ 2 GHz\n";
        assert_eq!(from_cpuinfo(x86).as_deref(), Some("Some Xeon @ 2 GHz"));
        let arm = |part| format!("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: {part}\nCPU revision\t: 1\n");
        assert_eq!(from_cpuinfo(&arm("0xd0c")).as_deref(), Some("Arm Neoverse N1"));
        assert_eq!(from_cpuinfo(&arm("0xfff")).as_deref(), Some("Arm CPU, maker 0x41, part 0xfff"));
        assert_eq!(from_cpuinfo("processor\t: 0\n"), None);
    }
}
