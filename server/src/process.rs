//! What the operating system reports about this process, for INFO. What it does not report counts
//! as zero.

use std::fs;
use std::path::Path;

/// The memory and the processor time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessUsage {
    /// Memory that is in use, in bytes.
    pub(crate) resident_bytes: u64,
    /// The most memory that was ever in use, in bytes.
    pub(crate) peak_bytes: u64,
    /// The memory of the machine, in bytes.
    pub(crate) machine_bytes: u64,
    /// Time spent in the program, in seconds.
    pub(crate) user_secs: f64,
    /// Time that the system spent for it, in seconds.
    pub(crate) system_secs: f64,
}

impl ProcessUsage {
    /// The values now.
    pub(crate) fn now() -> Self {
        let status = read("/proc/self/status");
        let machine = read("/proc/meminfo");
        let [user_secs, system_secs] = processor_times(&read("/proc/self/stat"));
        Self {
            resident_bytes: line_bytes(&status, "VmRSS:"),
            peak_bytes: line_bytes(&status, "VmHWM:"),
            machine_bytes: line_bytes(&machine, "MemTotal:"),
            user_secs,
            system_secs,
        }
    }
}

/// The memory that this process may have, in bytes: that of the machine, or of its control groups
/// if they have less.
pub(crate) fn available_memory() -> u64 {
    let machine = line_bytes(&read("/proc/meminfo"), "MemTotal:");
    let limits = group_paths(&read("/proc/self/cgroup"));
    let limits = limits.iter().filter_map(|path| read(path).trim().parse::<u64>().ok());
    limits.fold(machine, u64::min)
}

/// The files that may hold a limit of memory, for the groups in `/proc/self/cgroup` and those above
/// them. In a container, paths may be those of the machine outside; then the root has the limit.
fn group_paths(groups: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let groups = Path::new(path).ancestors().map(|group| group.display().to_string());
        let groups = groups.map(|group| group.trim_end_matches('/').to_owned());
        paths.extend(groups.map(|group| format!("{root}{group}/{file}")));
    }
    paths
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of a line such as `VmRSS:  1234 kB`.
fn line_bytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// User and system time from `/proc/self/stat`. The fields are counted behind the program's name,
/// which may hold anything but is in parentheses.
#[expect(clippy::cast_precision_loss, reason = "ticks of centuries fit")]
fn processor_times(stat: &str) -> [f64; 2] {
    const USER_TIME: usize = 11;
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks_a_second = rustix::param::clock_ticks_per_second() as f64;
    let mut times = fields.split_ascii_whitespace().skip(USER_TIME);
    [times.next(), times.next()].map(|time| {
        let ticks = time.and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        ticks as f64 / ticks_a_second
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        let usage = ProcessUsage::now();
        assert!(usage.resident_bytes > 0 && usage.resident_bytes <= usage.machine_bytes);
        assert!(usage.peak_bytes > 0);
    }

    #[test]
    fn the_limits_of_all_control_groups_above_count() {
        let paths = group_paths("4:memory:/a\n3:cpu:/a\n0::/b.slice/c.service\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/b.slice/c.service/memory.max",
            "/sys/fs/cgroup/b.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(paths, expected);
        let available = available_memory();
        assert!(available > 0 && available <= ProcessUsage::now().machine_bytes);
    }

    #[test]
    fn times_are_found_behind_any_name_of_the_program() {
        let ticks = rustix::param::clock_ticks_per_second();
        let (user, system) = (3 * ticks, 2 * ticks);
        let stat = format!("1 (a) (b c) R 2 3 4 5 6 7 8 9 10 11 {user} {system} 14 15");
        assert_eq!(processor_times(&stat), [3.0, 2.0]);
        assert_eq!(processor_times(""), [0.0, 0.0]);
    }
}
