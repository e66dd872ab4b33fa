//! The formats: what is stored, under which keys and in which shape, and how single rows are read.
//! A row's fields only grow.
//!
//! The lowest floor: nothing here knows a rule, or a question that spans rows of several kinds.

pub(crate) mod blocks;
pub mod command;
pub(crate) mod digest;
pub mod error;
pub(crate) mod find;
pub(crate) mod gateways;
pub mod hash;
pub(crate) mod keys;
pub(crate) mod member_rows;
pub(crate) mod membership_spans;
pub(crate) mod names;
pub(crate) mod new_record;
pub(crate) mod overlay;
pub mod slots;
pub(crate) mod values;
pub mod view;
pub(crate) mod window;
pub(crate) mod wire;
