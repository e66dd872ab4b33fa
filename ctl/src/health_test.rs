use super::*;

fn node(name: &str, role: &str) -> NodeRow {
    NodeRow {
        name: name.into(),
        role: role.into(),
        address: "127.0.0.1:7101".into(),
        up: true,
        applied: 12,
        lag: 0,
        version: "0.1.0".into(),
        clock_state: "local".into(),
        ..NodeRow::default()
    }
}

fn status() -> Status {
    Status {
        cluster: "07".repeat(16),
        term: 4,
        primary: "n1".into(),
        quorum: true,
        nodes: vec![node("n1", "primary"), node("n2", "backup"), node("n3", "backup")],
        ..Status::default()
    }
}

fn code(status: Status) -> u8 {
    let view = StatusView::from(status);
    assert_eq!(view.is_healthy(), view.problems().is_empty());
    view.verdict().map_or_else(|error| error.exit_code(), |()| 0)
}

#[test]
fn a_status_has_exactly_these_fields() {
    let one = Status { nodes: vec![node("n1", "primary")], ..status() };
    assert_eq!(
        serde_json::to_string(&StatusView::from(one)).unwrap(),
        concat!(
            r#"{"cluster":"07070707070707070707070707070707","term":4,"primary":"n1","#,
            r#""quorum":true,"nodes":[{"id":"n1","role":"primary","address":"127.0.0.1:7101","#,
            r#""state":"up","applied":12,"lag":0,"version":"0.1.0","#,
            r#""clock":{"state":"local","error_bound_us":null}}],"healthy":true,"problems":[]}"#
        )
    );
    let none = StatusView::from(Status { primary: String::new(), ..status() });
    assert_eq!(serde_json::to_value(&none).unwrap()["primary"], serde_json::Value::Null);
}

#[test]
fn the_exit_code_is_the_gravest_of_the_problems() {
    let with = |at: usize, change: fn(&mut NodeRow)| {
        let mut status = status();
        change(&mut status.nodes[at]);
        status
    };
    assert_eq!(code(status()), 0);
    assert_eq!(code(with(1, |row| row.up = false)), 10);
    assert_eq!(code(with(1, |row| row.problems = vec!["the disk is full".into()])), 10);
    assert_eq!(code(with(0, |row| row.clock_state = "synced".into())), 0);
    assert_eq!(code(with(0, |row| row.clock_state = "holdover".into())), 10);
    assert_eq!(code(with(0, |row| row.clock_state = "expired".into())), 12);
    assert_eq!(code(with(1, |row| row.clock_state = "expired".into())), 10);
    assert_eq!(code(with(1, |row| row.clock_state = "a new word".into())), 10);
    assert_eq!(code(Status { problems: vec!["something".into()], ..status() }), 10);
    assert_eq!(code(Status { quorum: false, ..status() }), 11);
    assert_eq!(code(Status { primary: String::new(), ..status() }), 11);
    let mut worst = with(0, |row| row.clock_state = "suspect".into());
    worst.quorum = false;
    assert_eq!(code(worst), 11);
}

#[test]
fn what_the_node_reports_is_not_said_twice() {
    let mut status = Status { problems: vec!["n2 does not answer".into()], ..status() };
    status.nodes[1].up = false;
    assert_eq!(StatusView::from(status).problems(), ["n2 does not answer"]);
}

#[test]
fn nodes_for_people() {
    let mut down = node("n2", "unknown");
    down.up = false;
    down.clock_state = "synced".into();
    down.error_bound_us = Some(1234);
    let views = [NodeView::from(&node("n1", "primary")), NodeView::from(&down)];
    assert_eq!(
        crate::out::tests::shown(crate::out::Shape::Table, &views),
        "\
NODE  ROLE     STATE  ADDRESS         APPLIED  LAG  VERSION  CLOCK
n1    primary  up     127.0.0.1:7101  12       0    0.1.0    local
n2    unknown  down   127.0.0.1:7101  12       0    0.1.0    synced ±1.234 ms
"
    );
}
