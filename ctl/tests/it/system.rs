//! A machine's own node, as the packaged service wants it, below a folder that stands for `/`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::user::{User, json, text};

/// A root with the package's user: anybody where root tests, and oneself otherwise, for only root can
/// give files away.
fn machine(user: &User) -> (PathBuf, u32, u32) {
    let root = user.home.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    let own = std::fs::metadata(&root).unwrap();
    let (uid, gid) = if own.uid() == 0 { (4711, 4712) } else { (own.uid(), own.gid()) };
    let passwd =
        format!("root:x:0:0:root:/root:/bin/sh\nlogd:x:{uid}:{gid}::/var/lib/logd:/bin/false\n");
    std::fs::write(root.join("etc/passwd"), passwd).unwrap();
    (root, uid, gid)
}

fn create(user: &User, args: &[&str]) -> std::process::Output {
    let create = ["cluster", "create", "--system", "--root", "root", "--host", "10.0.0.1"];
    user.run(&[&create[..], args].concat())
}

/// Owner, group and mode.
fn standing(path: &Path) -> (u32, u32, u32) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

/// Meant to catch: nothing handed over, and the administrator's key beside the daemon's.
#[test]
fn create_writes_what_the_service_needs_and_no_more_is_the_daemons() {
    let user = User::new();
    let (root, uid, gid) = machine(&user);
    let own = std::fs::metadata(&root).unwrap().uid();
    let made = create(&user, &["--json"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let view = json(&text(&made.stdout));
    assert_eq!(view["nodes"].as_array().unwrap().len(), 1, "{view}");
    assert_eq!(view["nodes"][0]["config"], "root/etc/logd/node.toml");
    assert!(text(&made.stderr).contains("  systemctl enable --now logd\n"));

    let conf = root.join("etc/logd");
    assert_eq!(standing(&conf), (own, gid, 0o750));
    assert_eq!(standing(&conf.join("node.toml")), (own, gid, 0o640));
    assert_eq!(standing(&conf.join("pki")), (uid, gid, 0o700));
    for (key, mode) in [("ca.key", 0o600), ("n1.key", 0o600), ("n1.crt", 0o644), ("ca.crt", 0o644)]
    {
        assert_eq!(standing(&conf.join("pki").join(key)), (uid, gid, mode), "{key}");
    }
    assert!(!conf.join("pki/admin.key").exists());
    let admin = standing(&conf.join("admin"));
    assert_eq!((admin.0, admin.2), (own, 0o700));
    assert_eq!(standing(&conf.join("admin/admin.key")).0, own);
    let data = root.join("var/lib/logd");
    assert_eq!(standing(&data), (uid, gid, 0o700));
    assert_eq!(standing(&data.join("n1")), (uid, gid, 0o700));
    // Seen to fail: where /var/lib was not there, only root could go through it.
    assert_eq!(standing(data.parent().unwrap()).2 & 0o055, 0o055);
    assert_eq!(standing(&data.join("n1/init.toml")).0, uid);
    let config = std::fs::read_to_string(conf.join("node.toml")).unwrap();
    for line in ["data_dir = \"/var/lib/logd/n1\"", "cert = \"pki/n1.crt\""] {
        assert!(config.lines().any(|has| has == line), "{line}: {config}");
    }
    let context = std::fs::read_to_string(user.home.path().join("contexts/admin.toml")).unwrap();
    assert!(context.contains("/etc/logd/admin/admin.key"), "{context}");
    assert!(context.contains("/etc/logd/admin/ca.crt"), "{context}");

    let again = create(&user, &[]);
    assert!(text(&again.stderr).contains("nothing was changed"), "{}", text(&again.stderr));
    assert_eq!(again.status.code(), Some(0));
    // Another machine's node: neither is touched.
    let other = ["cluster", "create", "--system", "--root", "root", "--host", "10.0.0.2"];
    user.fails(&other, 6);
}

#[test]
fn what_is_in_the_way_stays_and_is_named() {
    let user = User::new();
    let (root, ..) = machine(&user);
    let data = root.join("var/lib/logd");
    // A disk of its own is no node.
    std::fs::create_dir_all(data.join("lost+found")).unwrap();
    std::fs::create_dir_all(data.join("n7")).unwrap();
    let args = ["cluster", "create", "--system", "--root", "root"];
    let errors = user.fails(&args, 6);
    assert!(errors.contains("var/lib/logd/n7"), "{errors}");
    assert!(!root.join("etc/logd").exists());
    std::fs::remove_dir(data.join("n7")).unwrap();
    std::fs::create_dir_all(root.join("etc/logd")).unwrap();
    std::fs::write(root.join("etc/logd/node.toml"), "node = \"n9\"\n").unwrap();
    let errors = user.fails(&args, 6);
    assert!(errors.contains("node.toml is another configuration"), "{errors}");
    std::fs::remove_file(root.join("etc/logd/node.toml")).unwrap();
    user.ok(&args);
}

#[test]
fn who_may_not_and_what_does_not_fit_is_refused() {
    let user = User::new();
    let (root, ..) = machine(&user);
    let system = ["cluster", "create", "--system"];
    for bad in [
        &["--root", "root", "--nodes", "3"][..],
        &["--root", "root", "folder"],
        &["--root", "root", "--start"],
    ] {
        user.fails(&[&system[..], bad].concat(), 2);
    }
    user.fails(&["cluster", "create", "--root", "root"], 2);
    // Seen to fail: where a folder is given, nobody asked for --system, and --root was passed over.
    user.fails(&["cluster", "create", "folder", "--root", "root"], 2);
    user.fails(&["cluster", "join", "x", "--root", "root", "--dir", "d"], 2);
    assert!(!user.home.path().join("folder").exists());
    user.fails(&["cluster", "join", "x", "--system", "--dir", "d"], 2);
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    let errors = user.fails(&[&system[..], &["--root", "root"]].concat(), 5);
    assert!(errors.contains("no user 'logd'"), "{errors}");
    assert!(!root.join("etc/logd").exists());
    if std::fs::metadata(&root).unwrap().uid() != 0 {
        let errors = user.fails(&system, 4);
        assert!(errors.contains("only root may") && errors.contains("sudo"), "{errors}");
    }
}
