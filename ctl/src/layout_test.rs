use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use proto::ExitCode;

use super::*;

fn plan(dir: &Path, count: u16, base_port: u16) -> Plan {
    let node = |n: u16| PlannedNode {
        name: format!("n{n}").parse().unwrap(),
        address: format!("127.0.0.1:{}", base_port + n - 1),
        config: format!("node{n}.toml"),
    };
    Plan {
        dir: dir.to_owned(),
        nodes: (1..=count).map(node).collect(),
        time_servers: Vec::new(),
        cert_life: None,
        system: None,
    }
}

/// Every file below a folder with its content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                all.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

fn made() -> (tempfile::TempDir, Plan, ClusterId) {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 3, 7101);
    let outcome = create(&plan, false).unwrap();
    (dir, plan, outcome.cluster.unwrap())
}

fn refused(plan: &Plan) -> String {
    let before = files(&plan.dir);
    let error = create(plan, false).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Conflict, "{}", error.line());
    assert_eq!(files(&plan.dir), before, "something was changed by a refused command");
    error.line()
}

#[test]
fn the_admins_name_follows_the_rule() {
    assert!(ADMIN.parse::<Name>().is_ok());
}

#[test]
fn everything_is_there_and_keys_are_private() {
    let (dir, plan, cluster) = made();
    let names: Vec<String> = files(dir.path()).into_keys().collect();
    assert_eq!(
        names,
        [
            "data/.gitignore",
            "data/n1/init.toml",
            "data/n2/init.toml",
            "data/n3/init.toml",
            "node1.toml",
            "node2.toml",
            "node3.toml",
            "pki/.gitignore",
            "pki/admin.crt",
            "pki/admin.key",
            "pki/ca.crt",
            "pki/ca.key",
            "pki/n1.crt",
            "pki/n1.key",
            "pki/n2.crt",
            "pki/n2.key",
            "pki/n3.crt",
            "pki/n3.key",
        ]
    );
    for name in names.iter().filter(|name| name.ends_with(".key")) {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    for (role, name) in [(Role::Node, "n2"), (Role::Admin, "admin")] {
        let (cert, key) = plan.pair(&name.parse().unwrap());
        let credentials = Credentials::load(&plan.ca_cert(), &cert, &key).unwrap();
        let identity = credentials.identity();
        assert_eq!((identity.role, identity.name.as_str()), (role, name));
        assert_eq!(identity.cluster, cluster);
    }
}

#[test]
fn seeds_name_the_same_members_on_every_node() {
    let (dir, _, cluster) = made();
    let seed =
        |node: &str| -> Seed { Seed::read(&dir.path().join("data").join(node)).unwrap().unwrap() };
    let first = seed("n1");
    assert_eq!(first.cluster, cluster);
    assert_eq!(first.node.as_str(), "n1");
    for node in ["n2", "n3"] {
        assert_eq!(seed(node).node.as_str(), node);
        assert_eq!(seed(node).members, first.members);
    }
    let ids: Vec<u64> = first.members.iter().map(|member| member.raft_id).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_ne!(first.members[1].incarnation, first.members[0].incarnation);
    assert_eq!(first.members[2].address, "127.0.0.1:7103");
}

#[test]
fn the_shipped_configurations_are_what_is_written() {
    let (dir, ..) = made();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for name in ["node1.toml", "node2.toml", "node3.toml"] {
        let written = std::fs::read_to_string(dir.path().join(name)).unwrap();
        let kept = std::fs::read_to_string(shipped.join(name)).unwrap();
        assert_eq!(kept, written, "config/{name}: run `logctl cluster create` for it again");
    }
}

#[test]
fn the_shipped_configurations_do_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 3, 7101);
    for node in &plan.nodes {
        std::fs::write(dir.path().join(&node.config), plan.config_text(node)).unwrap();
    }
    std::fs::write(dir.path().join("logd.service"), "[Unit]").unwrap();
    let outcome = create(&plan, false).unwrap();
    assert!(!outcome.written.iter().any(|path| path.ends_with("node1.toml")));
}

#[test]
fn again_changes_nothing() {
    let (dir, plan, cluster) = made();
    let before = files(dir.path());
    let outcome = create(&plan, false).unwrap();
    assert_eq!(outcome.cluster, Some(cluster));
    assert_eq!(outcome.written, [] as [PathBuf; 0]);
    assert_eq!(files(dir.path()), before);
}

#[test]
fn again_adds_what_is_missing() {
    let (dir, plan, cluster) = made();
    let before = files(dir.path());
    for name in ["pki/n2.crt", "node3.toml", "data/n1/init.toml"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    let outcome = create(&plan, false).unwrap();
    assert_eq!(outcome.cluster, Some(cluster));
    let after = files(dir.path());
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (name, content) in before.iter().filter(|(name, _)| *name != "pki/n2.crt") {
        assert_eq!(after.get(name), Some(content), "{name}");
    }
    let (cert, key) = plan.pair(&"n2".parse().unwrap());
    assert!(Credentials::load(&plan.ca_cert(), &cert, &key).is_ok());
}

#[test]
fn an_interrupted_first_run_is_finished() {
    let (dir, plan, _) = made();
    let all: Vec<String> = files(dir.path()).into_keys().collect();
    for name in all.iter().filter(|name| *name != "pki/ca.crt") {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    create(&plan, false).unwrap();
    assert_eq!(files(dir.path()).into_keys().collect::<Vec<_>>(), all);
}

#[test]
fn edited_configurations_are_kept() {
    let (dir, plan, _) = made();
    let path = dir.path().join("node1.toml");
    std::fs::write(&path, "node = \"n1\"\n").unwrap();
    let outcome = create(&plan, false).unwrap();
    assert_eq!(outcome.edited, std::slice::from_ref(&path));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "node = \"n1\"\n");
}

#[test]
fn a_lost_store_is_never_seeded_again() {
    let (dir, plan, _) = made();
    for node in ["n1", "n2", "n3"] {
        let seed = dir.path().join("data").join(node).join("init.toml");
        std::fs::rename(&seed, seed.with_file_name("init.done.toml")).unwrap();
    }
    assert_eq!(create(&plan, false).unwrap().lost, []);
    std::fs::remove_dir_all(dir.path().join("data/n2")).unwrap();
    let outcome = create(&plan, false).unwrap();
    assert_eq!(outcome.lost, ["n2".parse().unwrap()]);
    assert!(!dir.path().join("data/n2").exists());
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new");
    let plan = plan(&target, 3, 7101);
    let dry = create(&plan, true).unwrap();
    assert!(!target.exists());
    assert_eq!(dry.cluster, None);
    let wet = create(&plan, false).unwrap();
    assert_eq!(dry.written, wet.written);
    let said: std::collections::BTreeSet<String> = wet
        .written
        .iter()
        .map(|path| path.strip_prefix(&target).unwrap().display().to_string())
        .collect();
    assert_eq!(said, files(&target).into_keys().collect());
}

#[test]
fn other_numbers_are_refused() {
    let (dir, ..) = made();
    let line = refused(&plan(dir.path(), 5, 7101));
    assert!(line.contains("n3 127.0.0.1:7103"), "{line}");
    refused(&plan(dir.path(), 2, 7101));
    refused(&plan(dir.path(), 3, 8101));
}

#[test]
fn a_folder_of_another_cluster_is_refused() {
    let (dir, plan, _) = made();
    let (other, ..) = made();
    // The stores of another cluster under this authority.
    std::fs::copy(other.path().join("data/n1/init.toml"), dir.path().join("data/n1/init.toml"))
        .unwrap();
    assert!(refused(&plan).contains("is of cluster"));
    // A certificate of another cluster: certs says what does not fit.
    let (dir, plan, _) = made();
    for end in ["crt", "key"] {
        let name = format!("pki/n1.{end}");
        std::fs::remove_file(dir.path().join(&name)).unwrap();
        std::fs::copy(other.path().join(&name), dir.path().join(&name)).unwrap();
    }
    let error = create(&plan, false).unwrap_err();
    assert!(error.line().contains("n1.crt"), "{}", error.line());
    // Another member's certificate.
    let (dir, plan, _) = made();
    for end in ["crt", "key"] {
        std::fs::remove_file(dir.path().join(format!("pki/n1.{end}"))).unwrap();
        std::fs::copy(
            dir.path().join(format!("pki/n2.{end}")),
            dir.path().join(format!("pki/n1.{end}")),
        )
        .unwrap();
    }
    assert!(refused(&plan).contains("node n2"));
}

#[test]
fn data_without_authority_is_refused() {
    let (dir, plan, _) = made();
    std::fs::remove_dir_all(dir.path().join("pki")).unwrap();
    refused(&plan);
    let (dir, plan, _) = made();
    std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    assert!(refused(&plan).contains("ca.key"));
    let (dir, plan, _) = made();
    std::fs::remove_file(dir.path().join("pki/ca.crt")).unwrap();
    assert!(refused(&plan).contains("ca.key"));
}

#[test]
fn a_store_without_anything_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("data/n1/db")).unwrap();
    refused(&plan(dir.path(), 3, 7101));
}

#[test]
fn a_configuration_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("node1.toml"), "listen = 1").unwrap();
    assert!(refused(&plan(dir.path(), 3, 7101)).contains("node1.toml"));
}
