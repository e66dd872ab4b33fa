//! The bench runs from end to end, on the real binaries beside it. How fast is not asked.

use std::process::{Command, Output};

use serde_json::Value;

fn benches(args: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_benches")).args(args).output()
}

/// The document of a run that went well, and what it said besides.
fn report(args: &[&str]) -> anyhow::Result<(Value, String)> {
    let run = benches(args)?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    Ok((serde_json::from_slice(&run.stdout)?, said))
}

#[test]
fn a_quick_run_measures_everything_and_loses_nothing() {
    let (report, said) = report(&["--quick"]).unwrap();
    assert_eq!(report["faults"], Value::Array(Vec::new()), "{said}");
    assert!(report["verified"].as_u64().unwrap() > 0, "{said}");
    for (part, rows) in [("disk_append_4k_fdatasync", 3), ("quic_echo", 2), ("sends", 4)] {
        let part = report[part].as_array().unwrap();
        assert_eq!(part.len(), rows, "{said}");
        assert!(part.iter().all(|row| row["count"].as_u64().unwrap() > 0), "{said}");
    }
}

#[test]
fn a_quick_turn_beside_a_greedy_client_is_compared_with_one_without() {
    let (report, said) = report(&["greedy", "--quick"]).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "{said}");
    assert!(rows.iter().all(|row| row["count"].as_u64().unwrap() > 0), "{said}");
    for row in rows {
        let greedy = row["greedy_per_second"].as_f64().unwrap() > 0.0;
        assert_eq!(greedy, row["beside"] != "alone", "{said}");
    }
}

#[test]
fn quick_reads_are_answered_by_each_node_and_a_follower_gets_all() {
    let (report, said) = report(&["reads", "--quick"]).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8, "{said}");
    assert!(rows.iter().all(|row| row["count"].as_u64().unwrap() > 0), "{said}");
}

#[test]
fn a_primary_that_goes_leaves_a_gap_and_nothing_is_lost() {
    let (report, said) = report(&["failover", "--quick"]).unwrap();
    assert_eq!(report["faults"], Value::Array(Vec::new()), "{said}");
    assert!(report["verified"].as_u64().unwrap() > 0, "{said}");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{said}");
    for row in rows {
        assert!(row["rounds"] == 1 && row["gap_max_us"].as_f64().unwrap() > 0.0, "{said}");
    }
}

#[test]
fn a_quick_search_by_time_is_exact() {
    let (report, said) = report(&["time-query", "--quick"]).unwrap();
    assert_eq!(report["records"], 20_000);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{said}");
    assert!(rows.iter().all(|row| row["compared"].as_u64().unwrap() > 0), "{said}");
}

#[test]
fn a_quick_apply_tells_what_a_message_costs_and_leaves_behind() {
    let (report, said) = report(&["apply", "--quick"]).unwrap();
    let levels = report["rows"].as_array().unwrap();
    assert_eq!(levels.len(), 3, "{said}");
    for level in levels {
        assert_eq!(level["by_table"]["records"]["rows"], 1.0, "{said}");
        assert!(level["decide_us"].as_f64().unwrap() > 0.0, "{said}");
    }
}

#[test]
fn a_wrong_command_line_is_refused_with_a_hint() {
    for args in [
        &["--fast"][..],
        &["--seconds", "0"],
        &["--seconds", "soon"],
        &["--out"],
        &["--records", "9"],
        &["--rounds", "0"],
    ] {
        let run = benches(args).unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(run.stdout.is_empty() && said.contains("try: benches --help"), "{said}");
    }
}
