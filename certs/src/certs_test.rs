//! What certificates prove and what is refused, on real files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::{ClusterId, Identity, Role};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use x509_parser::prelude::FromDer;

use crate::*;

fn cluster(byte: u8) -> ClusterId {
    ClusterId::from_bytes([byte; 16])
}

fn identity(role: Role, name: &str) -> Identity {
    Identity { cluster: cluster(7), role, name: name.parse().unwrap() }
}

fn days_ago(days: u64) -> UnixTime {
    let now = UnixTime::now().as_secs();
    UnixTime::since_unix_epoch(Duration::from_secs(now - days * 24 * 3600))
}

fn parse(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// One member's three files.
struct Files {
    _folder: TempDir,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(ca_pem: &str, issued: &Issued) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (ca, cert, key) = (path("ca.crt"), path("m.crt"), path("m.key"));
        write_public(&ca, ca_pem).unwrap();
        write_public(&cert, &issued.cert_pem).unwrap();
        write_private(&key, &issued.key_pem).unwrap();
        Self { _folder: folder, ca, cert, key }
    }

    fn load(&self) -> Result<Credentials, CertError> {
        Credentials::load(&self.ca, &self.cert, &self.key)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_authority_survives_its_files() {
    let made = Authority::create(&cluster(7)).unwrap();
    let read = Authority::load(made.cert_pem(), &made.key_pem()).unwrap();
    assert_eq!(read.cluster(), &cluster(7));
    let issued = read.issue(&identity(Role::Node, "n1"), &IssueOptions::default()).unwrap();
    let files = Files::new(made.cert_pem(), &issued);
    let credentials = files.load().unwrap();
    assert_eq!(credentials.identity(), &identity(Role::Node, "n1"));
    assert!(credentials.server_config(&[b"x"]).is_ok());
    assert!(credentials.client_config(&[b"x"]).is_ok());
}

#[test]
fn an_authority_is_refused_with_another_key_or_as_a_member() {
    let one = Authority::create(&cluster(7)).unwrap();
    let two = Authority::create(&cluster(8)).unwrap();
    let error = Authority::load(one.cert_pem(), &two.key_pem()).err().unwrap();
    assert!(error.to_string().contains("does not belong"), "{error}");
    let member = one.issue(&identity(Role::Node, "n1"), &IssueOptions::default()).unwrap();
    let error = Authority::load(&member.cert_pem, &member.key_pem).err().unwrap();
    assert!(error.to_string().contains("not that of an authority"), "{error}");
    assert!(Authority::load("", &one.key_pem()).is_err());
    assert!(Authority::load(one.cert_pem(), "").is_err());
}

#[test]
fn a_certificate_says_role_uses_and_dates() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let opts =
        IssueOptions { alt_names: vec!["localhost".into(), "::1".into()], ..Default::default() };
    for (role, server) in [(Role::Node, true), (Role::Client, false), (Role::Admin, false)] {
        let issued = authority.issue(&identity(role, "m"), &opts).unwrap();
        let der = parse(&issued.cert_pem);
        let peer = peer_of(std::slice::from_ref(&der)).unwrap();
        assert_eq!(peer.identity, identity(role, "m"));
        assert_eq!(peer.not_after_unix - peer.not_before_unix, 90 * 24 * 3600 + 3600);
        let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
        let uses = cert.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((uses.client_auth, uses.server_auth), (true, server));
        assert!(!cert.is_ca());
    }
}

/// Meant to catch: no host of its own, and a second name of ours, which made it nobody's.
#[test]
fn a_node_is_known_by_its_hosts_and_nobody_else_is() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let ours = "x.node.logd.internal";
    let hosts = ["db1.example.org.", "10.0.0.1", "::1", "0.0.0.0", ours, "10.0.0.1"];
    let opts = IssueOptions::default().reached_at(hosts);
    let own = |role| {
        let issued = authority.issue(&identity(role, "m"), &opts).unwrap();
        Files::new(authority.cert_pem(), &issued).load().unwrap()
    };
    let want = ["localhost", "127.0.0.1", "::1", "db1.example.org", "10.0.0.1"];
    assert_eq!(own(Role::Node).hosts(), want);
    assert_eq!(own(Role::Node).identity().role, Role::Node);
    let plain = authority.issue(&identity(Role::Client, "m"), &IssueOptions::default()).unwrap();
    let plain = Files::new(authority.cert_pem(), &plain).load().unwrap();
    assert_eq!(plain.hosts(), Vec::<String>::new());
}

#[test]
fn an_authority_signs_for_its_own_cluster_only() {
    let authority = Authority::create(&cluster(8)).unwrap();
    let error = authority.issue(&identity(Role::Node, "n1"), &IssueOptions::default());
    assert!(matches!(error.err(), Some(CertError::Identity(_))));
}

#[test]
fn two_certificates_of_one_key_have_two_serials() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let (key, csr) = new_request().unwrap();
    let opts = IssueOptions::default();
    let bob = identity(Role::Client, "bob");
    let one = authority.sign_csr(&csr, &bob, &opts).unwrap();
    let two = authority.sign_csr(&request_for_key(&key).unwrap(), &bob, &opts).unwrap();
    assert_eq!(one.fingerprint, two.fingerprint);
    let serial = |pem: &str| peer_of(&[parse(pem)]).unwrap().serial;
    assert_ne!(serial(&one.cert_pem), serial(&two.cert_pem));
    let issued = Issued { cert_pem: one.cert_pem, key_pem: key };
    let credentials = Files::new(authority.cert_pem(), &issued).load().unwrap();
    assert_eq!(credentials.fingerprint(), one.fingerprint);
}

#[test]
fn names_in_a_request_are_ignored() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(vec![identity(Role::Admin, "admin").dns_name()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap();
    let bob = identity(Role::Client, "bob");
    let signed = authority.sign_csr(csr.der(), &bob, &IssueOptions::default()).unwrap();
    let der = parse(&signed.cert_pem);
    assert_eq!(peer_of(std::slice::from_ref(&der)).unwrap().identity, bob);
    let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!cert.is_ca());
    assert_eq!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let (_, mut csr) = new_request().unwrap();
    let bob = identity(Role::Client, "bob");
    *csr.last_mut().unwrap() ^= 1;
    let opts = IssueOptions::default();
    assert!(matches!(authority.sign_csr(&csr, &bob, &opts), Err(CertError::Request(_))));
    for garbage in [vec![], vec![0x30], vec![0xff; 100], vec![0x30; 1 << 20]] {
        assert!(matches!(authority.sign_csr(&garbage, &bob, &opts), Err(CertError::Request(_))));
    }
    // Well-formed and signed, but of a kind of key that we do not use.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let error = authority.sign_csr(csr.der(), &bob, &opts).unwrap_err();
    assert!(error.to_string().contains("P-256"), "{error}");
}

#[test]
fn a_request_carries_no_name() {
    let (_, csr) = new_request().unwrap();
    let (_, csr) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&csr).unwrap();
    assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
    assert!(csr.requested_extensions().is_none_or(|mut all| all.next().is_none()));
}

#[test]
fn exactly_one_name_of_ours_is_required() {
    let key = KeyPair::generate().unwrap();
    let bob = identity(Role::Client, "bob").dns_name();
    let admin = identity(Role::Admin, "admin").dns_name();
    for (names, wrong) in [
        (vec![], "no name under"),
        (vec!["localhost".to_owned()], "no name under"),
        (vec![bob.clone(), admin], "more than one name"),
        (vec![bob.to_ascii_uppercase()], "names no member"),
        (vec!["logd.internal".to_owned()], "names no member"),
    ] {
        let cert = CertificateParams::new(names.clone()).unwrap().self_signed(&key).unwrap();
        let error = peer_of(&[cert.der().clone()]).unwrap_err().to_string();
        assert!(error.contains(wrong), "{names:?}: {error}");
    }
    assert!(peer_of(&[]).is_err());
    assert!(peer_of(&[CertificateDer::from(vec![1, 2, 3])]).is_err());
}

#[test]
fn each_wrong_file_is_named() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let opts = IssueOptions::default();
    let issue = || authority.issue(&identity(Role::Client, "bob"), &opts).unwrap();
    let wrong = |spoil: &dyn Fn(&Files), file: fn(&Files) -> &PathBuf, reason: &str| {
        let files = Files::new(authority.cert_pem(), &issue());
        spoil(&files);
        let error = files.load().unwrap_err().to_string();
        let path = file(&files).display().to_string();
        assert!(error.contains(&path) && error.contains(reason), "{error}");
    };
    wrong(&|f| fs::remove_file(&f.ca).unwrap(), |f| &f.ca, "cannot read");
    wrong(&|f| fs::remove_file(&f.cert).unwrap(), |f| &f.cert, "cannot read");
    wrong(&|f| fs::remove_file(&f.key).unwrap(), |f| &f.key, "cannot read");
    wrong(&|f| fs::write(&f.ca, "x").unwrap(), |f| &f.ca, "no certificate in PEM");
    wrong(&|f| fs::write(&f.cert, "x").unwrap(), |f| &f.cert, "no certificate in PEM");
    wrong(&|f| fs::write(&f.key, "x").unwrap(), |f| &f.key, "no private key in PEM");
    wrong(&|f| fs::write(&f.key, issue().key_pem).unwrap(), |f| &f.key, "does not belong");
    wrong(&|f| fs::write(&f.ca, vec![b'x'; 2 << 20]).unwrap(), |f| &f.ca, "too large");
    wrong(
        &|f| fs::set_permissions(&f.key, fs::Permissions::from_mode(0o644)).unwrap(),
        |f| &f.key,
        "chmod 600",
    );
    let other = Authority::create(&cluster(7)).unwrap();
    wrong(&|f| fs::write(&f.ca, other.cert_pem()).unwrap(), |f| &f.cert, "not signed by");
}

#[test]
fn age_is_checked_unless_left_to_the_other_side() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let bob = identity(Role::Client, "bob");
    let old = IssueOptions { now: days_ago(1), life: Duration::ZERO, ..Default::default() };
    let files = Files::new(authority.cert_pem(), &authority.issue(&bob, &old).unwrap());
    let error = files.load().unwrap_err();
    assert!(matches!(error, CertError::Expired { .. }), "{error}");
    assert!(error.to_string().contains(&files.cert.display().to_string()), "{error}");
    assert!(Credentials::load_any_age(&files.ca, &files.cert, &files.key).is_ok());
    let later = UnixTime::since_unix_epoch(Duration::from_secs(days_ago(0).as_secs() + 7200));
    let young = IssueOptions { now: later, ..Default::default() };
    let files = Files::new(authority.cert_pem(), &authority.issue(&bob, &young).unwrap());
    assert!(matches!(files.load(), Err(CertError::NotYetValid { .. })));
}

#[test]
fn two_authorities_are_trusted_while_one_replaces_the_other() {
    let (old, new) =
        (Authority::create(&cluster(7)).unwrap(), Authority::create(&cluster(7)).unwrap());
    let both = format!("{}{}", old.cert_pem(), new.cert_pem());
    for authority in [&old, &new] {
        let issued = authority.issue(&identity(Role::Node, "n1"), &IssueOptions::default());
        Files::new(&both, &issued.unwrap()).load().unwrap();
    }
}

/// Seen to fail with: the first certificate of the file taken for the authority.
#[test]
fn a_bundle_of_authorities_works_in_any_order() {
    let (old, new) =
        (Authority::create(&cluster(7)).unwrap(), Authority::create(&cluster(7)).unwrap());
    let issued = old.issue(&identity(Role::Node, "n1"), &IssueOptions::default()).unwrap();
    let wanted = pin::spki_sha256(old.cert_pem()).unwrap();
    for bundle in [[&old, &new], [&new, &old]] {
        let text: String = bundle.iter().map(|authority| authority.cert_pem()).collect();
        let files = Files::new(&text, &issued);
        assert_eq!(files.load().unwrap().authority_sha256().unwrap(), wanted);
        for (authority, signs) in [(&old, true), (&new, false)] {
            let loaded = Authority::load(&text, &authority.key_pem()).unwrap();
            let next = loaded.issue(&identity(Role::Node, "n2"), &IssueOptions::default()).unwrap();
            // What it signs is trusted by those who trust it alone.
            assert_eq!(Files::new(old.cert_pem(), &next).load().is_ok(), signs);
        }
    }
    let third = Authority::create(&cluster(7)).unwrap().key_pem();
    let both = format!("{}{}", old.cert_pem(), new.cert_pem());
    let error = Authority::load(&both, &third).map(drop).unwrap_err();
    assert!(error.to_string().contains("none of the certificates"), "{error}");
}

#[test]
fn a_private_key_is_private_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    write_private(&path, "one").unwrap();
    assert_eq!(mode(&path), 0o600);
    let error = write_private(&path, "two").unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    let public = folder.path().join("c");
    write_public(&public, "one").unwrap();
    write_public(&public, "two").unwrap();
    assert_eq!((mode(&public), fs::read_to_string(&public).unwrap()), (0o644, "two".to_owned()));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 2, "a draft was left behind");
}

#[test]
fn secrets_hang_on_key_and_label() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let load = || {
        let issued = authority.issue(&identity(Role::Node, "n1"), &IssueOptions::default());
        Files::new(authority.cert_pem(), &issued.unwrap())
    };
    let (one, two) = (load(), load());
    let secret = |files: &Files, label: &str| files.load().unwrap().secret(label);
    assert_eq!(secret(&one, "a"), secret(&one, "a"));
    assert_ne!(secret(&one, "a"), secret(&one, "b"));
    assert_ne!(secret(&one, "a"), secret(&two, "a"));
}

/// Seen to fail with the hash, then with the signature not looked at.
#[test]
fn an_offer_is_that_of_the_cluster_or_refused() {
    let (own, other) =
        (Authority::create(&cluster(7)).unwrap(), Authority::create(&cluster(7)).unwrap());
    let hash = pin::spki_sha256(own.cert_pem()).unwrap();
    let leaf = |authority: &Authority, role, opts: &IssueOptions| {
        vec![parse(&authority.issue(&identity(role, "n1"), opts).unwrap().cert_pem)]
    };
    let now = IssueOptions::default();
    let node = leaf(&own, Role::Node, &now);
    let checked = |chain: &[CertificateDer<'_>], ca: &str, byte| {
        pin::check_offer(chain, ca, &hash, &cluster(byte))
    };
    assert_eq!(checked(&node, own.cert_pem(), 7).unwrap().identity, identity(Role::Node, "n1"));
    // Two authorities are trusted while one takes over from the other.
    let both = format!("{}{}", other.cert_pem(), own.cert_pem());
    checked(&node, &both, 7).unwrap();
    let foreign = |answer: Result<Peer, pin::OfferError>| {
        assert!(matches!(answer, Err(pin::OfferError::Foreign(_))), "{answer:?}");
    };
    foreign(checked(&node, other.cert_pem(), 7));
    foreign(checked(&leaf(&other, Role::Node, &now), own.cert_pem(), 7));
    foreign(checked(&leaf(&own, Role::Client, &now), own.cert_pem(), 7));
    foreign(checked(&node, own.cert_pem(), 8));
    foreign(checked(&node, "", 7));
    foreign(checked(&[], own.cert_pem(), 7));
    let old = IssueOptions {
        now: days_ago(3),
        life: Duration::from_secs(24 * 3600),
        ..IssueOptions::default()
    };
    let answer = checked(&leaf(&own, Role::Node, &old), own.cert_pem(), 7);
    assert!(matches!(answer, Err(pin::OfferError::Time(_))), "{answer:?}");
}

#[test]
fn a_request_tells_the_key_that_it_is_for() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let (_, csr) = new_request().unwrap();
    let signed =
        authority.sign_csr(&csr, &identity(Role::Node, "n1"), &IssueOptions::default()).unwrap();
    assert_eq!(request_fingerprint(&csr).unwrap(), signed.fingerprint);
    let mut damaged = csr;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert!(request_fingerprint(&damaged).is_err());
}

/// Seen to fail with: each of the seven checks left out in turn.
#[test]
fn a_renewal_is_for_the_same_name_and_key_or_refused() {
    let authority = Authority::create(&cluster(7)).unwrap();
    let n1 = identity(Role::Node, "n1");
    let issue = |who: &Identity, age: u64, life: u64| {
        let life = Duration::from_secs(life * 24 * 3600);
        let opts = IssueOptions { now: days_ago(age), life, ..IssueOptions::default() };
        Files::new(authority.cert_pem(), &authority.issue(who, &opts).unwrap())
    };
    let load =
        |files: &Files| Credentials::load_any_age(&files.ca, &files.cert, &files.key).unwrap();
    let signer = issue(&identity(Role::Node, "n2"), 0, 90).load().unwrap();
    let now = i64::try_from(days_ago(0).as_secs()).unwrap();
    let ask = |files: &Files, csr: &[u8]| {
        let asked = signer.check_renewal(&load(files).cert_der(), csr, now);
        asked.map(|peer| peer.identity).map_err(|error| error.to_string())
    };
    let csr = |files: &Files| request_for_key_file(&files.key).unwrap();
    let (fresh, over, long_over) = (issue(&n1, 0, 90), issue(&n1, 100, 90), issue(&n1, 200, 90));
    assert_eq!(ask(&fresh, &csr(&fresh)), Ok(n1.clone()));
    assert_eq!(ask(&over, &csr(&over)), Ok(n1.clone()));
    assert!(ask(&long_over, &csr(&long_over)).unwrap_err().contains("more than 90 days ago"));
    assert!(ask(&fresh, &csr(&over)).unwrap_err().contains("another key"));
    let rogue = Authority::create(&cluster(7)).unwrap();
    let forged = Files::new(rogue.cert_pem(), &rogue.issue(&n1, &IssueOptions::default()).unwrap());
    assert!(ask(&forged, &csr(&forged)).unwrap_err().contains("not signed by this cluster's"));
    let other = Authority::create(&cluster(8)).unwrap();
    let who = Identity { cluster: cluster(8), ..n1.clone() };
    let forged =
        Files::new(other.cert_pem(), &other.issue(&who, &IssueOptions::default()).unwrap());
    assert!(ask(&forged, &csr(&forged)).unwrap_err().contains("is of cluster"));

    let own = load(&over);
    let renewed = authority.sign_csr(&csr(&over), &n1, &IssueOptions::default()).unwrap().cert_pem;
    let peer = own.check_renewed(&renewed).unwrap();
    assert_eq!((peer.identity, peer.fingerprint), (n1.clone(), own.fingerprint()));
    let wrong = |pem: &str| own.check_renewed(pem).unwrap_err().to_string();
    assert!(wrong("").contains("no certificate"));
    let another = authority.sign_csr(&csr(&fresh), &n1, &IssueOptions::default()).unwrap();
    assert!(wrong(&another.cert_pem).contains("another key"));
    let shorter =
        IssueOptions { life: Duration::from_secs(60), now: days_ago(50), alt_names: vec![] };
    let shorter = authority.sign_csr(&csr(&over), &n1, &shorter).unwrap();
    assert!(wrong(&shorter.cert_pem).contains("ends earlier"));
    assert!(load(&fresh).check_renewed(&renewed).is_err());
    let forged = rogue.sign_csr(&csr(&over), &n1, &IssueOptions::default()).unwrap();
    assert!(own.check_renewed(&forged.cert_pem).is_err());
}

/// Seen to fail with: an hour whatever the life. Much of a short one would be over at its beginning.
#[test]
fn a_short_life_begins_shortly_before() {
    let authority = Authority::create(&cluster(7)).unwrap();
    for (life_s, before_s) in [(60, 6), (7200, 720), (90 * 24 * 3600, 3600)] {
        let opts = IssueOptions::living(Duration::from_secs(life_s));
        let issued = authority.issue(&identity(Role::Node, "n1"), &opts).unwrap();
        let life = Files::new(authority.cert_pem(), &issued).load().unwrap().life();
        assert_eq!(life.length_s(), i64::try_from(life_s + before_s).unwrap());
    }
}
