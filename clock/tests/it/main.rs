//! Tests of the clock: golden scripts in `testscripts/`, and one file per property.
//!
//! "Seen to fail" in a header lists what was broken on purpose to see that the test notices.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod lead_world;
#[cfg(test)]
mod script;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod world;

#[cfg(test)]
mod any_datagram;
#[cfg(test)]
mod bound_holds;
#[cfg(test)]
mod cluster_clocks;
#[cfg(test)]
mod cluster_controls;
#[cfg(test)]
mod cluster_holds;
#[cfg(test)]
mod encodings;
#[cfg(test)]
mod eras;
#[cfg(test)]
mod fencing;
#[cfg(test)]
mod future_stamps;
#[cfg(test)]
mod hull_holds_truth;
#[cfg(test)]
mod leading;
#[cfg(test)]
mod leaps;
#[cfg(test)]
mod overlaps;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod peers_day;
#[cfg(test)]
mod ratchet;
#[cfg(test)]
mod reading_runs;
#[cfg(test)]
mod sample_holds_truth;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod sim_controls;
#[cfg(test)]
mod sim_faults;
#[cfg(test)]
mod sim_liars;
#[cfg(test)]
mod sim_truth;
#[cfg(test)]
mod states;
#[cfg(test)]
mod tells;
#[cfg(test)]
mod ticks_ascend;
