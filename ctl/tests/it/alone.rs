//! What needs no cluster: making one, contexts, bad input, help, and the forms of failure.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::user::{User, json, text};

#[test]
fn create_answers_in_every_form_and_says_what_is_next() {
    let user = User::new();
    let output = user.run(&["cluster", "create", "c", "--base-port", "9001", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let made = json(&text(&output.stdout));
    assert_eq!(made["clock"], "local");
    assert_eq!((&made["context"], &made["current"]), (&"admin".into(), &true.into()));
    assert_eq!(made["nodes"][2]["address"], "127.0.0.1:9003");
    let notes = text(&output.stderr);
    for part in ["clock: local", "next:", "logd --config c/node1.toml", "logctl register"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    let again = user.run(&["cluster", "create", "c", "--base-port", "9001"]);
    assert_eq!(text(&again.stdout).lines().count(), 3);
    assert_eq!(text(&again.stdout).lines().next(), Some("n1\t127.0.0.1:9001\tc/node1.toml"));
    assert!(text(&again.stderr).contains("nothing was changed"));
    user.fails(&["cluster", "create", "c", "--nodes", "5"], 6);
}

#[test]
fn create_with_time_servers_and_a_dry_run() {
    let user = User::new();
    let args = ["cluster", "create", "c", "--time-server", "a.example", "--time-server", "::1"];
    let would = user.ok(&[&args[..], &["--dry-run"]].concat());
    assert!(would.contains("c/pki/ca.key"), "{would}");
    assert!(!user.home.path().join("c").exists());
    assert!(!user.home.path().join("contexts").exists());
    let made = user.run(&args);
    assert!(text(&made.stderr).contains("clock: 2 of at least 3 time servers"));
    let config = std::fs::read_to_string(user.home.path().join("c/node2.toml")).unwrap();
    for part in ["mode = \"sntp\"", "address = \"a.example:123\"", "address = \"[::1]:123\""] {
        assert!(config.contains(part), "{part}");
    }
}

#[test]
fn create_refuses_bad_numbers_and_addresses() {
    let user = User::new();
    for bad in [
        &["--nodes", "0"][..],
        &["--nodes", "10"],
        &["--nodes", "three"],
        &["--base-port", "0"],
        &["--base-port", "65535"],
        &["--host", "0.0.0.0"],
        &["--host", "not an address"],
        &["--time-server", "a b"],
        &["--time-server", "a:b"],
        &["--time-server", ""],
        &["--time-server", "a", "--time-server", "a:123"],
        // What the daemon would refuse. Meant to catch a parser of our own.
        &["--time-server", "a", "--time-server", "A."],
        &["--time-server", "[::1]", "--time-server", "0::1"],
        &["--time-server", "0.0.0.0"],
        &["--time-server", "10.0.0"],
        &["--time-server", "a..b"],
        &["--time-server", "-a"],
        &["--time-server", "1.2.3.4%lo"],
        &["--time-server", "127.0.0.1:7102"],
        &[
            "--time-server=a",
            "--time-server=b",
            "--time-server=c",
            "--time-server=d",
            "--time-server=e",
            "--time-server=f",
            "--time-server=g",
            "--time-server=h",
            "--time-server=i",
            "--time-server=j",
            "--time-server=k",
            "--time-server=l",
            "--time-server=m",
            "--time-server=n",
            "--time-server=o",
            "--time-server=p",
            "--time-server=q",
        ],
    ] {
        user.fails(&[&["cluster", "create", "c"], bad].concat(), 2);
    }
    assert!(!user.home.path().join("c").exists());
    user.fails(&["cluster", "create", "/proc/none/such"], 1);
}

/// Meant to catch either of them refused.
#[test]
fn names_with_a_final_dot_and_zones_are_time_servers() {
    let user = User::new();
    let args = ["cluster", "create", "c", "--time-server", "ntp.example.", "--time-server"];
    user.ok(&[&args[..], &["[fe80:0::1%lo]:1123", "--time-server", "fe80::2%lo"]].concat());
    let config = std::fs::read_to_string(user.home.path().join("c/node1.toml")).unwrap();
    for address in ["ntp.example.:123", "[fe80::1%lo]:1123", "[fe80::2%lo]:123"] {
        assert!(config.contains(&format!("address = \"{address}\"")), "{config}");
    }
}

/// Meant to catch the folder taken as it is.
#[test]
fn a_folder_for_keys_that_others_may_write_is_refused() {
    let user = User::new();
    let pki = user.home.path().join("c/pki");
    std::fs::create_dir_all(&pki).unwrap();
    for mode in [0o777, 0o770, 0o1777, 0o702] {
        std::fs::set_permissions(&pki, std::fs::Permissions::from_mode(mode)).unwrap();
        for dry in [&["--dry-run"][..], &[]] {
            let errors = user.fails(&[&["cluster", "create", "c"], dry].concat(), 4);
            assert!(errors.contains("c/pki") && errors.contains("chmod go-w"), "{errors}");
        }
        assert_eq!(std::fs::read_dir(&pki).unwrap().count(), 0);
    }
    std::fs::set_permissions(&pki, std::fs::Permissions::from_mode(0o755)).unwrap();
    user.ok(&["cluster", "create", "c"]);
    // One that was opened later is refused, too: what is in it may be anybody's.
    std::fs::set_permissions(&pki, std::fs::Permissions::from_mode(0o777)).unwrap();
    user.fails(&["cluster", "create", "c"], 4);
}

/// Meant to catch a token as an argument taken without a word.
#[test]
fn a_token_that_others_can_see_is_said_to_be_seen() {
    let user = User::new();
    let token = proto::token::JoinToken {
        cluster: proto::ClusterId::from_bytes([7; 16]),
        ca_sha256: [9; 32],
        addresses: vec!["127.0.0.1:1".to_owned()],
        role: proto::Role::Node,
        id: [1; 8],
        secret: [2; 16],
        expires_unix_s: 0,
        name: "n4".to_owned(),
    };
    let text = token.encode();
    std::fs::write(user.home.path().join("t"), &text).unwrap();
    let join = |args: &[&str], variable: &str| {
        let base = ["cluster", "join", "--timeout", "1s", "--listen", "127.0.0.1:0"];
        let mut command = user.command(&[&base[..], args].concat());
        command.env("LOGCTL_TOKEN", variable);
        let output = command.output().unwrap();
        // The address is refused after the token is read and before anything is asked.
        (output.status.code(), crate::user::text(&output.stderr))
    };
    for (args, variable, seen) in [
        (&[text.as_str()][..], "", true),
        (&["--token-file", "t"], "", false),
        (&[], text.as_str(), false),
    ] {
        let (code, errors) = join(args, variable);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("port 0 gives another port"), "{errors}");
        assert_eq!(errors.contains("list of processes"), seen, "{args:?}: {errors}");
    }
    let (code, errors) = join(&[], "");
    assert!(code == Some(2) && errors.contains("LOGCTL_TOKEN=TOKEN"), "{errors}");
    let (code, errors) = join(&[], &text[..text.len() - 3]);
    assert_eq!(code, Some(2), "{errors}");
}

#[test]
fn a_second_cluster_gets_its_own_context() {
    let user = User::with_cluster();
    let made = json(&user.ok(&["cluster", "create", "other", "--json"]));
    let context = made["context"].as_str().unwrap();
    assert!(context.starts_with("admin-"), "{context}");
    assert_eq!(made["current"], false);
    let list = json(&user.ok(&["context", "list", "--json"]));
    assert_eq!(list.as_array().unwrap().len(), 2);
    user.ok(&["context", "use", context]);
    assert_eq!(json(&user.ok(&["context", "show", "--json"]))["name"], context);
    user.ok(&["context", "previous"]);
    assert_eq!(json(&user.ok(&["context", "show", "--json"]))["name"], "admin");
}

#[test]
fn contexts_are_added_shown_and_removed() {
    let user = User::with_cluster();
    let add = |name: &'static str, stem: &str, node: &'static str| {
        let file = |end: &str| format!("cluster/pki/{stem}.{end}");
        let words = ["context", "add", name, "--ca", "cluster/pki/ca.crt", "--node", node];
        let mut args: Vec<String> = words.map(str::to_owned).into();
        args.extend(["--cert".into(), file("crt"), "--key".into(), file("key")]);
        args
    };
    let run = |args: &[String], code: Option<i32>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match code {
            None => user.ok(&args),
            Some(code) => user.fails(&args, code),
        }
    };
    run(&add("ops", "admin", "n1=127.0.0.1:7101"), None);
    run(&add("ops", "admin", "n1=127.0.0.1:7101"), None);
    run(&add("ops", "admin", "n1=127.0.0.1:9"), Some(6));
    run(&add("ops2", "admin", "127.0.0.1:9"), Some(2));
    assert!(run(&add("ops2", "n1", "n1=127.0.0.1:7101"), Some(4)).contains("a node"));
    assert!(run(&add("ops2", "none", "n1=127.0.0.1:7101"), Some(4)).contains("none.crt"));
    let shown = json(&user.ok(&["context", "show", "ops", "--json"]));
    assert_eq!((&shown["role"], &shown["identity"]), (&"admin".into(), &"admin".into()));
    assert!(shown["expires"].is_string());
    user.ok(&["context", "remove", "ops"]);
    for gone in
        [&["context", "show", "ops"][..], &["context", "use", "ops"], &["status", "--as", "ops"]]
    {
        assert!(user.fails(gone, 5).contains("context list"));
    }
    user.fails(&["context", "remove", "ops"], 5);
    user.fails(&["context", "previous"], 5);
}

#[test]
fn without_a_context_every_verb_says_how_to_get_one() {
    let user = User::new();
    for args in [
        &["send", "--to", "bob", "hi"][..],
        &["read"],
        &["get", "x"],
        &["delete", "x", "-y"],
        &["clients"],
        &["nodes"],
        &["status"],
        &["health"],
        &["clock"],
        &["compact"],
        &["register", "alice"],
        &["context", "show"],
    ] {
        assert!(user.fails(args, 2).contains("logctl cluster create"), "{args:?}");
    }
    assert_eq!(user.ok(&["context", "list"]), "");
    assert_eq!(json(&user.ok(&["context", "list", "--json"])), serde_json::json!([]));
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() {
    // Nothing listens; a request that was sent would end with 3.
    let user = User::with_cluster();
    let long = "x".repeat(8 << 10);
    let header = format!("k={long}");
    let name = "x".repeat(64);
    for bad in [
        &["send", "hi"][..],
        &["send", "--to", "Bob", "hi"],
        &["send", "--to", &name, "hi"],
        &["send", "--to", "$events", "hi"],
        &["send", "--to", "$other", "hi"],
        &["send", "--to", "bob", "--id", "a b", "hi"],
        &["send", "--to", "bob", "--id", "", "hi"],
        &["send", "--to", "bob", "--header", "nonsense", "hi"],
        &["send", "--to", "bob", "--header", &header, "hi"],
        &["send", "--to", "bob", "hi", "--file", "x"],
        &["send", "--to", "bob", "hi", "there"],
        &["read", "--since", "soon"],
        &["read", "--until", "2026-11-21T01:30:45Z~xyz"],
        &["read", "--since", "2026-11-21", "--until", "2026-11-20"],
        &["read", "--since", "1m", "--until", "1h"],
        &["read", "--limit", "0"],
        &["read", "--limit", "-1"],
        &["read", "--cursor", "a/b"],
        &["read", "--from", "@ops"],
        &["get"],
        &["get", "a b"],
        &["delete", "x"],
        &["delete", "x", "-y", "--reason", &"r".repeat(513)],
        &["register", "Alice"],
        &["register", "admin"],
        &["status", "--timeout", "soon"],
        &["status", "--timeout", "1h"],
        &["status", "-o", "yaml"],
        &["status", "--via", "N1"],
        &["nonsense"],
        &["completions", "sh"],
        &[],
    ] {
        user.fails(bad, 2);
    }
    user.fails(&["send", "--to", "bob", "--file", "none"], 1);
    assert!(!user.home.path().join("keys").exists(), "a refused register left a key");
}

#[test]
fn a_body_over_the_limit_is_refused_from_every_source() {
    let user = User::with_cluster();
    let path = user.home.path().join("large");
    std::fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
    for args in [
        &["send", "--to", "bob", "--file", "large"][..],
        &["send", "--to", "bob", "-"],
        &["send", "--to", "bob"],
    ] {
        let mut command = user.command(args);
        command.stdin(std::fs::File::open(&path).unwrap());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains("1048576 bytes") && errors.contains("nothing was sent"));
    }
}

#[test]
fn nobody_reachable_is_code_3() {
    let user = User::new();
    let port = free_port();
    let port = port.to_string();
    user.ok(&["-q", "cluster", "create", "c", "--nodes", "1", "--base-port", &port]);
    assert!(user.fails(&["status"], 3).contains("n1"));
}

/// A port that was free a moment ago, and whose reuse by another test changes no answer here.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn a_damaged_context_names_the_file() {
    let user = User::with_cluster();
    let context = user.home.path().join("contexts/admin.toml");
    let good = std::fs::read_to_string(&context).unwrap();
    std::fs::write(&context, good.replace("role", "roll")).unwrap();
    assert!(user.fails(&["status"], 2).contains("contexts/admin.toml"));
    std::fs::write(&context, good.replace("admin.key", "gone.key")).unwrap();
    assert!(user.fails(&["status"], 4).contains("gone.key"));
    std::fs::write(&context, good.replace("admin.key", "n1.key")).unwrap();
    assert!(user.fails(&["status"], 4).contains("n1.key"));
}

#[test]
fn options_come_from_the_environment_too() {
    let user = User::with_cluster();
    let run = |args: &[&str], key: &str, value: &str| {
        user.command(args).env(key, value).output().unwrap()
    };
    let list = run(&["context", "list"], "LOGCTL_OUTPUT", "json");
    assert_eq!(json(&text(&list.stdout))[0]["name"], "admin");
    let list = run(&["context", "list"], "LOGCTL_JSON", "1");
    assert_eq!(json(&text(&list.stdout))[0]["name"], "admin");
    let list = run(&["context", "list"], "LOGCTL_JSON", "0");
    assert!(text(&list.stdout).starts_with("admin\t"));
    let none = run(&["status"], "LOGCTL_CONTEXT", "none");
    assert_eq!(none.status.code(), Some(5));
    let bad = run(&["status"], "LOGCTL_TIMEOUT", "soon");
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn colour_is_for_terminals_unless_forced() {
    let user = User::with_cluster();
    let args = ["context", "list", "-o", "table"];
    let coloured = |args: &[&str], set: &[(&str, &str)]| {
        let output = user.command(args).envs(set.iter().copied()).output().unwrap();
        text(&output.stdout).contains('\u{1b}')
    };
    assert!(!coloured(&args, &[]));
    assert!(coloured(&args, &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&args, &[("CLICOLOR_FORCE", "1"), ("LOGCTL_NO_COLOR", "1")]));
    assert!(!coloured(&[&args[..], &["--no-color"]].concat(), &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&args, &[("NO_COLOR", "1")]));
}

#[test]
fn a_closed_pipe_is_success() {
    let user = User::new();
    for args in
        [&["completions", "bash"][..], &["man"], &["--help"], &["context", "list", "--json"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = user.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
        let output = child.wait_with_output().unwrap();
        assert!(!text(&output.stderr).contains("error"), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let user = User::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = user.command(&["man"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write to standard output"));
}

#[test]
fn help_version_completion_and_pages() {
    let user = User::new();
    for args in [&["--help"][..], &["help"], &["help", "read"], &["read", "--help"], &["--version"]]
    {
        assert!(!user.ok(args).is_empty());
    }
    assert!(user.ok(&["--help"]).contains("Exit codes"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(user.ok(&["completions", shell]).contains("complete-line"), "{shell}");
    }
    assert!(user.ok(&["man"]).contains(".TH logctl 1"));
    user.ok(&["man", "pages"]);
    for page in ["logctl.1", "logctl-read.1", "logctl-cluster-create.1"] {
        assert!(user.home.path().join("pages").join(page).exists(), "{page}");
    }
    let hint = user.fails(&["read", "--nonsense"], 2);
    assert!(hint.ends_with("try: logctl read --help\n"), "{hint}");
}

#[test]
fn the_demo_names_a_missing_daemon() {
    let user = User::new();
    assert!(user.fails(&["demo", "--logd", "none"], 5).contains("none"));
    user.fails(&["demo", "--nodes", "2"], 2);
}

#[test]
fn the_demo_leaves_nothing_when_the_daemon_does_not_run() {
    let user = User::new();
    let logd = user.home.path().join("logd");
    let mut file = std::fs::File::create(&logd).unwrap();
    file.write_all(b"#!/bin/sh\necho no such luck >&2\nexit 9\n").unwrap();
    drop(file);
    std::fs::set_permissions(&logd, std::fs::Permissions::from_mode(0o700)).unwrap();
    let output = user
        .command(&["demo", "--logd", "./logd"])
        .env("TMPDIR", user.home.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no such luck"), "{}", text(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(user.home.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the script is left: {left:?}");
}
