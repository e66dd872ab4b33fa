//! Each row runs from end to end, on the real binaries beside it, and its faults bite. Few of them: the
//! many are `make torture`.

// `cfg(test)` always holds here; it tells clippy that helpers may unwrap like the tests they serve.
#[cfg(test)]
mod rows {
    use std::process::Command;

    /// Exit code where this machine cannot run a row.
    const SKIPPED: i32 = 3;

    /// Runs a row; its repetitions, how many of them bit, and what was acknowledged. `None` where the
    /// machine cannot run it, with a message.
    fn row(name: &str, repetitions: u64) -> Option<[u64; 3]> {
        let torture = Command::new(env!("CARGO_BIN_EXE_torture"))
            .args([name, "--seed", "20", "--repetitions", &repetitions.to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&torture.stderr);
        if torture.status.code() == Some(SKIPPED) {
            println!("{}", said.lines().last().unwrap());
            return None;
        }
        assert!(torture.status.success(), "{said}");
        let line = String::from_utf8(torture.stdout).unwrap();
        let fields: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!((fields[2], fields[7]), (name, "held"), "{line}");
        Some([4, 5, 6].map(|field: usize| fields[field].parse().unwrap()))
    }

    #[test]
    fn power_cuts_lose_nothing_that_was_acknowledged() {
        let Some([repetitions, bit, acks]) = row("power-cut", 20) else { return };
        assert!(bit > 0 && acks > 0, "{bit} of {repetitions} bit, {acks} acks");
    }

    #[test]
    fn kills_lose_nothing_that_was_acknowledged() {
        let [repetitions, bit, acks] = row("kill", 3).expect("kills need nothing special");
        assert!(bit == repetitions && acks > 0, "{bit} of {repetitions} bit, {acks} acks");
    }
}
