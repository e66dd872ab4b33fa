//! The rules: what a command changes and when it is refused, one file per kind of change, and `apply`,
//! which knows them all.
//!
//! The middle floor: it stands on `rows`, and nothing here asks `query`.

pub(crate) mod access;
pub(crate) mod admins;
pub(crate) mod apply;
pub mod check;
pub(crate) mod cursors;
pub(crate) mod dedup;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod floors;
pub(crate) mod groups;
pub(crate) mod homes;
pub(crate) mod input;
pub(crate) mod keep_blocks;
pub(crate) mod kv;
pub(crate) mod lineage;
pub mod machine;
pub(crate) mod member_check;
pub(crate) mod members;
pub(crate) mod notice;
pub(crate) mod registry;
pub(crate) mod repair;
pub mod retention;
pub(crate) mod send;
pub(crate) mod settings;
pub(crate) mod tokens;
