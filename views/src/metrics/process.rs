//! The process, under the names that dashboards for any program know.

use super::shape::{Family, Kind, Sample};

use Kind::{Counter, Gauge};

pub(super) const FAMILIES: &[Family] = &[
    Family::of_node((Gauge, "process_open_fds"), "Open file descriptors.", &[], |seen| {
        seen.facts.process.open_fds.map(Sample::whole).into_iter().collect()
    }),
    Family::of_node((Gauge, "process_max_fds"), "Most that may be open.", &[], |seen| {
        seen.facts.process.max_fds.map(Sample::whole).into_iter().collect()
    }),
    Family::of_node((Gauge, "process_resident_memory_bytes"), "Memory in RAM.", &[], |seen| {
        seen.facts.process.resident_bytes.map(Sample::whole).into_iter().collect()
    }),
    Family::of_node((Gauge, "process_threads"), "Threads.", &[], |seen| {
        seen.facts.process.threads.map(Sample::whole).into_iter().collect()
    }),
    Family::of_node((Counter, "process_cpu_seconds"), "Processor time.", &[], |seen| {
        seen.facts.process.cpu_s.map(Sample::real).into_iter().collect()
    }),
];
