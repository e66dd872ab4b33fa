//! All nodes read what they hold behind one entry, and compare it, while messages come in.
//!
//! Promise: 2 one order. That the one that differs steps back is tried in the daemon's own tests, which
//! can change a row behind a node's back.

use serde_json::Value;
use tests::patience::when;
use tests::{Load, until};

use crate::failover::account_for;
use crate::smoke::alice_and_bob;

/// A comparison of what each node happens to hold would never find two at the same entry under load.
#[test]
fn all_rows_are_compared_at_one_entry_under_load() {
    let cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice"], 2, "bob", "audit").unwrap();
    load.wait_more(100).unwrap();
    until("a comparison of all nodes at one entry", || {
        let verify = ["verify", "--state", "--deep", "-o", "json"];
        let run = cluster.user().run(&verify).map_err(|error| error.to_string())?;
        assert_eq!(run.code, 0, "{run}");
        let lines = run.json().map_err(|error| error.to_string())?;
        let same = |line: &Value| line["verdict"] == "same";
        when(lines.as_array().unwrap().iter().all(same), run.to_string())?;
        when(!run.to_string().contains("were read as a whole"), run.to_string())
    })
    .unwrap();
    load.wait_more(50).unwrap();
    let events = cluster.events("n2").unwrap();
    let audits: Vec<_> = events.iter().filter(|event| event.kind == "audit").collect();
    let tells = |text: &str| text.starts_with("audit: all nodes compare") && text.contains("admin");
    assert!(!audits.is_empty() && audits.iter().all(|event| tells(&event.text)), "{audits:?}");
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
}
