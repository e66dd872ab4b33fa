//! The end-to-end harness: clusters of real `logd` processes, `logctl` as a user runs it, load that
//! remembers what was promised to it, and checks of what came of the promises.
//!
//! - [`cluster`]: a folder made by `logctl cluster create`, its nodes, and waiting for them
//! - [`logd`]: one process, its signals and its log
//! - [`life`]: nodes that join a cluster, and what it says of its life: events, counts
//! - [`netns`]: hosts of their own, whose packets can be dropped one way
//! - [`curl`]: another program that speaks HTTPS to a node
//! - [`browser`]: a real Chromium that looks at a node's page
//! - [`follower`]: `logctl` commands that go on until they are stopped
//! - [`user`]: `logctl` with a home of its own
//! - [`load`] and [`history`]: sends in flight, and what every one of them was told
//! - [`watch`] and [`freshness`]: what the nodes say of themselves, and what they show, meanwhile
//! - [`timed`] and [`truth`]: clusters whose time servers the test holds, and what time it really is
//! - [`node_clock`]: a node's clock without the node
//! - [`chronyd`] and [`faketime`]: a time server of others, and steps of the machine's clock
//! - [`prometheus`]: the real one, and its checker
//! - [`slow_disk`]: a disk whose syncs take as long as the test wants
//! - [`checks`]: one property a file, each naming the promise it protects
//! - [`forge`], [`raw`], [`segments`] and [`watermark`]: what only an attacker or a broken disk does
//!
//! Waiting is asking again, with bounded patience, until something is so; nothing here sleeps for a
//! time that is hoped to be long enough, and nothing asserts how long anything took.

pub mod browser;
pub mod checks;
pub mod chronyd;
pub mod cluster;
pub mod curl;
pub mod faketime;
pub mod folder;
pub mod follower;
pub mod forge;
pub mod freshness;
mod helpers;
pub mod history;
pub mod life;
pub mod load;
pub mod logd;
pub mod netns;
pub mod node_clock;
pub mod patience;
pub mod ports;
pub mod prometheus;
pub mod raw;
pub mod schema;
pub mod segments;
pub mod slow_disk;
pub mod timed;
pub mod truth;
pub mod user;
pub mod watch;
pub mod watermark;

pub use cluster::Cluster;
pub use follower::Follower;
pub use freshness::Readers;
pub use history::{Attempt, History, Outcome};
pub use life::Event;
pub use load::Load;
pub use logd::{Logd, binary};
pub use netns::Hosts;
pub use patience::until;
pub use timed::Timed;
pub use user::{Run, User};
pub use watch::Watch;
