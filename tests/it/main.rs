//! The one integration binary.

// `cfg(test)` always holds here; it tells clippy that helpers may unwrap like the tests they serve.
#[cfg(test)]
mod access;
#[cfg(test)]
mod admins;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod catch_up;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod check_store;
#[cfg(test)]
mod clock_ceiling;
#[cfg(test)]
mod clock_config;
#[cfg(test)]
mod clock_crash;
#[cfg(test)]
mod clock_failover;
#[cfg(test)]
mod clock_hostile;
#[cfg(test)]
mod clock_loss;
#[cfg(test)]
mod clock_os_step;
#[cfg(test)]
mod clock_queries;
#[cfg(test)]
mod clock_truth;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod dead_nodes;
#[cfg(test)]
mod disk_full;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod fair_shares;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod following;
#[cfg(test)]
mod good_way;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod homes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod http_admin;
#[cfg(test)]
mod http_messages;
#[cfg(test)]
mod joining;
#[cfg(test)]
mod lost_majority;
#[cfg(test)]
mod members_bad_input;
#[cfg(test)]
mod members_cut;
#[cfg(test)]
mod members_under_load;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod no_quorum;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod page;
#[cfg(test)]
mod page_in_browser;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod removed;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod round_robin;
#[cfg(test)]
mod scrubber;
#[cfg(test)]
mod security;
#[cfg(test)]
mod set_back;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod slow_disk;
#[cfg(test)]
mod smoke;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod states;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod system;
#[cfg(test)]
mod tidy;
