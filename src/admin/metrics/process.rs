//! The standard process metrics from `/proc/self`; a value that cannot be read is left out.
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use super::exposition::Exposition;
use crate::util::clock;

/// Linux reports CPU time to programs in 1/100 s on every platform.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

pub fn render(out: &mut Exposition) {
    if let Some(seconds) = read_proc_self("stat").as_deref().and_then(cpu_seconds) {
        out.counter("process_cpu_seconds_total", "CPU time of the process, user and system");
        out.sample(&[], seconds);
    }
    if let Some(bytes) = read_proc_self("status").as_deref().and_then(resident_bytes) {
        out.gauge("process_resident_memory_bytes", "Resident memory of the process");
        out.sample(&[], bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "File descriptors in use");
        out.sample(&[], open.count());
    }
    if let Some(max) = read_proc_self("limits").as_deref().and_then(max_descriptors) {
        out.gauge("process_max_fds", "File descriptors the process may have");
        out.sample(&[], max);
    }
    out.gauge("process_start_time_seconds", "Start of the process, seconds since 1970");
    out.sample(&[], clock::process_start_unix_secs());
}

fn read_proc_self(file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{file}")).ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program name in brackets, which may contain anything; the other fields follow it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / CLOCK_TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn max_descriptors(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_parsed() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    1200 kB\n"), Some(1_228_800));
        assert_eq!(
            max_descriptors("Max open files            1024                 4096  files\n"),
            Some(1024)
        );
        assert_eq!(cpu_seconds("nonsense"), None);
        assert!(resident_bytes(&read_proc_self("status").unwrap()).unwrap() > 0);
    }
}
