//! Completion as a shell asks for it, with a cluster that answers and with one that is not up.

use std::process::Command;

use proto::ErrorCode;
use proto::group::{GroupView, Groups};
use proto::registry::{ClientRow, Clients};
use proto::wire::{Op, Reply};

use crate::node::{FakeNode, failure};
use crate::user::{User, text};

/// What bash would offer, by its own script. `part` is what it takes for the word at the cursor.
fn offered(user: &User, line: &str, part: &str) -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_logctl")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let script = r#"source <(logctl completions bash)
        COMP_LINE=$1; COMP_POINT=${#1}; _logctl logctl "$2" x; printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["-c", script, "bash", line, part])
        .env("PATH", path)
        .env("LOGCTL_HOME", user.home.path())
        .current_dir(user.home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// Meant to catch: an option whose value bash breaks at its `=`, and names that only a cluster could tell.
#[test]
fn bash_is_told_verbs_nodes_and_contexts() {
    let user = User::with_cluster();
    assert_eq!(offered(&user, "logctl regi", "regi"), ["register"]);
    assert_eq!(offered(&user, "logctl node show n", "n"), ["n1", "n2", "n3"]);
    assert_eq!(offered(&user, "logctl read --via=n", "n"), ["n1", "n2", "n3"]);
    assert_eq!(offered(&user, "logctl context use ad", "ad"), ["admin"]);
    assert_eq!(offered(&user, "logctl certs renew --ca-key clu", "clu"), ["cluster/"]);
}

/// Seen to fail with the value of --to taken for a client's name alone.
#[test]
fn bash_is_told_the_names_that_the_cluster_knows() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| {
        let client = |name: &str| ClientRow { name: name.to_owned(), ..ClientRow::default() };
        let group = GroupView { name: "ops".to_owned(), ..GroupView::default() };
        vec![match op {
            Op::Clients(_) => {
                Reply::Clients(Clients { clients: vec![client("alice"), client("bob")] })
            }
            Op::Groups(_) => Reply::Groups(Groups { groups: vec![group] }),
            _ => failure(ErrorCode::Invalid),
        }]
    });
    assert_eq!(offered(&user, "logctl send --to a", "a"), ["alice"]);
    assert_eq!(offered(&user, "logctl send --to @", ""), ["ops"]);
    assert_eq!(offered(&user, "logctl group add ops b", "b"), ["bob"]);
    assert_eq!(offered(&user, "logctl group show o", "o"), ["ops"]);
}

/// Meant to catch: an error in the middle of a line that somebody types.
#[test]
fn nothing_is_said_where_nobody_answers() {
    let user = User::with_cluster();
    for line in ["logctl send --to a", "logctl group show o", "logctl # x", "logctl nonsense x"] {
        let output = user.run(&["complete-line", "fish", "--", line]);
        assert!(output.status.success(), "{line}");
        assert_eq!(
            (text(&output.stdout), text(&output.stderr)),
            (String::new(), String::new()),
            "{line}"
        );
    }
}
