//! What this process uses of the machine.

use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::time::Duration;

/// The processor time of all threads since the process began.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// The memory that the process has resident, in bytes.
pub(crate) fn resident_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))
}

/// The bytes that the process has had written to storage, counted when pages become dirty.
#[cfg(feature = "peers")]
pub(crate) fn device_bytes() -> io::Result<u64> {
    let counts = std::fs::read_to_string("/proc/self/io")?;
    let bytes =
        counts.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    bytes.ok_or_else(|| io::Error::other("no write_bytes in /proc/self/io"))
}
