//! Processor time, as the system counts it.

/// It is counted in hundredths of a second, on every Linux there is.
pub(crate) const TICK_MS: u64 = 10;

/// Processor time of a process with all its threads, in the kernel and out of it, in milliseconds.
pub(crate) fn used_ms(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name of the program may hold anything, also blanks; after it, the times are words 11, 12.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2);
    ticks.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * TICK_MS
}
