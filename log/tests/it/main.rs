//! Tests of the log: golden scripts in `testscripts/`, and one file per property.
//!
//! "Seen to fail" in a header lists what was broken on purpose to see that the test notices.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod history;
#[cfg(test)]
mod world;

#[cfg(test)]
mod boundaries;
#[cfg(test)]
mod erased;
mod failed_sync;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod group_commit;
#[cfg(test)]
mod old_copies;
#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod real_disk;
#[cfg(test)]
mod scrubbed;
#[cfg(test)]
mod segments;
