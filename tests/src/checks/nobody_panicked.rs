//! Promise 8, refuses clearly: whatever comes, no panic.
//!
//! Negative control: below.

/// Lines of a log that tell of a panic.
#[must_use]
pub fn nobody_panicked(log: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found() {
        let panic = "thread 'main' panicked at a.rs:1:1:\nno";
        assert_eq!(nobody_panicked(panic).len(), 1);
        assert!(nobody_panicked("INFO logd is running").is_empty());
    }
}
