//! Ctrl-C, and what it leaves behind.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use proto::wire::Reply;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::node::{FakeNode, status};
use crate::user::User;

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

#[test]
fn watching_ends_with_ctrl_c_and_the_last_verdict() {
    for (up, code) in [(true, 0), (false, 10)] {
        let user = User::with_cluster();
        let _node = FakeNode::start(&user, move |_, _| {
            let mut status = status();
            status.nodes[2].up = up;
            vec![Reply::Status(status)]
        });
        let mut command = user.command(&["status", "--watch", "-o", "ndjson"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The second view proves that it goes on by itself.
        lines.next().unwrap().unwrap();
        lines.next().unwrap().unwrap();
        kill_process(pid(child.id()), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_file() {
    let user = User::new();
    let home = user.home.path();
    let logd = home.join("logd");
    // A daemon that never serves: the demo waits for it, and is interrupted there.
    std::fs::write(&logd, "#!/bin/sh\necho $$ >>\"$TMPDIR/pids\"\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&logd, std::fs::Permissions::from_mode(0o700)).unwrap();
    let tmp = home.join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = user.command(&["demo", "--logd", "./logd", "-o", "plain"]);
        command.env("TMPDIR", &tmp).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let last = lines.find(|line| line.as_ref().unwrap().contains("node3.toml &"));
        assert!(last.is_some());
        let pids = loop {
            let text = std::fs::read_to_string(tmp.join("pids")).unwrap_or_default();
            if text.lines().count() == 3 {
                break text;
            }
            std::thread::yield_now();
        };
        kill_process(pid(child.id()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        for line in pids.lines() {
            assert!(test_kill_process(pid(line.parse().unwrap())).is_err(), "{line} still runs");
        }
        std::fs::remove_file(tmp.join("pids")).unwrap();
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "files are left");
    }
}
