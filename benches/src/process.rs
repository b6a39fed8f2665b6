//! What this process uses of the machine.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::io;
use std::time::Duration;

/// The processor time of all threads since the process began.
pub fn cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// The processor time of the calling thread since it began.
pub fn thread_cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// The memory that the process has resident, in bytes.
///
/// # Errors
/// When `/proc` does not have it.
pub fn resident_bytes() -> io::Result<u64> {
    status_bytes("VmRSS:")
}

/// The most memory that the process had resident at once, in bytes, since it began or since
/// [`forget_peak`].
///
/// # Errors
/// When `/proc` does not have it.
pub fn peak_resident_bytes() -> io::Result<u64> {
    status_bytes("VmHWM:")
}

/// Lets [`peak_resident_bytes`] begin anew.
///
/// # Errors
/// When `/proc` can't be written.
pub fn forget_peak() -> io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

fn status_bytes(name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let missing = || io::Error::other(format!("no {name} in /proc/self/status"));
    kib.map(|kib| kib << 10).ok_or_else(missing)
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// The bytes that the process has had written to storage. Linux counts them when pages become
/// dirty.
///
/// # Errors
/// When `/proc` does not have them.
pub fn device_bytes() -> io::Result<u64> {
    let counts = std::fs::read_to_string("/proc/self/io")?;
    let bytes =
        counts.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    bytes.ok_or_else(|| io::Error::other("no write_bytes in /proc/self/io"))
}
