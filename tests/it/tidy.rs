//! Habits that keep the tree as `ARCHITECTURE.md` describes it, checked like everything else.
//!
//! Every check is a function from the tree to complaints, and is tried on a planted fault beside
//! the test on the real tree: a check that has never complained proves nothing.

mod confinement;
mod dependencies;
mod docs;
mod floors;
mod shipped;
mod source;
mod tree;

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The negative control: the planted fault must be found, and by its name.
#[track_caller]
fn one(complaints: &[String], part: &str) {
    assert!(
        matches!(complaints, [complaint] if complaint.contains(part)),
        "the planted fault '{part}' was not found, or not alone: {complaints:?}"
    );
}
