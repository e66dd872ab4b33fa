//! The folder of a cluster: authority, certificates, configurations, seeds of the stores.
//!
//! Making it is idempotent. What exists is checked and kept, what is missing is added, and a
//! folder that belongs to anything else is refused before the first byte is written.
//!
//! Not here: the admin's context (`verb/cluster`), opening a store (`logd`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::{Authority, Credentials, Date, IssueOptions};
use config::seed::{Admin, KeyHash, Member, SEED_FILE, Seed, USED_SEED_FILE};
use config::template::NodeConfig;
use proto::address::host;
use proto::life::{LIFE_DEFAULT_S, Validity};
use proto::{ClusterId, Identity, Name, Role};
use uuid::Uuid;

use crate::error::CtlError;
use crate::home::{make_private_dir, refuse_shared, write_atomic};
use crate::renewal::now_s;
use crate::system::{self, System};

/// Name of the identity that may do everything; nobody can register it.
pub(crate) const ADMIN: &str = "admin";
/// What keeps keys and data out of a repository.
pub(crate) const IGNORE: &[u8] = b"# Keys and data never belong into git.\n*\n";

/// A cluster to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Its nodes, in the order of their raft ids from 1.
    pub(crate) nodes: Vec<PlannedNode>,
    /// Its time servers, `host:port`.
    pub(crate) time_servers: Vec<String>,
    /// How long its certificates live, if not for the default.
    pub(crate) cert_life: Option<Duration>,
    /// Where its only node is this machine's, and a service: the files go where that looks for them.
    pub(crate) system: Option<System>,
}

/// A node to be made.
#[derive(Debug, Clone)]
pub(crate) struct PlannedNode {
    /// Its name.
    pub(crate) name: Name,
    /// `ip:port`.
    pub(crate) address: String,
    /// File name of its configuration.
    pub(crate) config: String,
}

/// What was made, or would be.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The cluster; `None` if it was not made yet.
    pub(crate) cluster: Option<ClusterId>,
    /// Files that were written, or would be.
    pub(crate) written: Vec<PathBuf>,
    /// Configurations that differ from what would be written; they were left alone.
    pub(crate) edited: Vec<PathBuf>,
    /// Certificates that are there and should have been renewed, with when they end.
    pub(crate) overdue: Vec<(PathBuf, Validity, Date)>,
    /// Nodes without seed and without store in a cluster that has been started: lost, not new.
    pub(crate) lost: Vec<Name>,
}

/// One thing that is missing.
enum Piece<'a> {
    Authority,
    Pair(Role, Name),
    Config(&'a PlannedNode),
    Seed(&'a PlannedNode),
    Ignore(PathBuf),
}

/// What lies in the folder already.
struct Found {
    authority: Option<Authority>,
    members: Option<Vec<Member>>,
    /// Whether a node has made its store.
    started: bool,
}

/// Makes the cluster, or with `dry_run` says what would be made.
///
/// # Errors
/// Exit code 6 when the folder holds something else.
pub(crate) fn create(plan: &Plan, dry_run: bool) -> Result<Outcome, CtlError> {
    let mut found = look(plan)?;
    let mut outcome = Outcome {
        cluster: found.authority.as_ref().map(|authority| authority.cluster().clone()),
        written: Vec::new(),
        edited: Vec::new(),
        overdue: Vec::new(),
        lost: Vec::new(),
    };
    let missing = missing(plan, &found, &mut outcome)?;
    outcome.written = missing.iter().flat_map(|piece| piece.paths(plan)).collect();
    if dry_run {
        return Ok(outcome);
    }
    if let Some(system) = &plan.system {
        system.make_parents()?;
    }
    std::fs::create_dir_all(&plan.dir).map_err(CtlError::file("make the folder", &plan.dir))?;
    for folder in plan.private() {
        make_private_dir(&folder)?;
    }
    let authority = match found.authority.take() {
        Some(authority) => authority,
        None => make_authority(plan)?,
    };
    let members = found.members.take().unwrap_or_else(|| plan.draw_members());
    let (seeds, others): (Vec<_>, Vec<_>) =
        missing.iter().partition(|piece| matches!(piece, Piece::Seed(_)));
    for piece in others {
        make(plan, piece, &authority, &[], &[])?;
    }
    // Now every key is there: the seeds bind them to their owners.
    let (bound, admins) = plan.bind(&members)?;
    for piece in &seeds {
        make(plan, piece, &authority, &bound, &admins)?;
    }
    plan.renew_seeds(&authority, &members, &bound, &admins)?;
    if let Some(system) = &plan.system {
        certs::write_public(&plan.admin_ca(), authority.cert_pem())?;
        plan.nodes.iter().try_for_each(|node| system.hand_over(&node.name))?;
    }
    outcome.cluster = Some(authority.cluster().clone());
    Ok(outcome)
}

fn make(
    plan: &Plan,
    piece: &Piece<'_>,
    authority: &Authority,
    members: &[Member],
    admins: &[Admin],
) -> Result<(), CtlError> {
    match piece {
        Piece::Authority => Ok(()),
        Piece::Pair(role, name) => make_pair(plan, authority, *role, name),
        Piece::Config(node) => {
            write_atomic(&plan.dir.join(&node.config), plan.config_text(node).as_bytes())
        }
        Piece::Seed(node) => plan.write_seed(&node.name, authority, members, admins),
        Piece::Ignore(path) => write_atomic(path, IGNORE),
    }
}

/// The certificate goes first: a certificate without key is what an interrupted run leaves behind,
/// and it can be made again as long as nothing was signed.
fn make_authority(plan: &Plan) -> Result<Authority, CtlError> {
    let cluster = ClusterId::from_bytes(Uuid::new_v4().into_bytes());
    let authority = Authority::create(&cluster)?;
    certs::write_public(&plan.ca_cert(), authority.cert_pem())?;
    certs::write_private(&plan.ca_key(), &authority.key_pem())?;
    Ok(authority)
}

/// The key goes first, so that an interrupted run leaves a key that gets its certificate later.
fn make_pair(plan: &Plan, authority: &Authority, role: Role, name: &Name) -> Result<(), CtlError> {
    let (cert, key) = plan.pair(name);
    let identity = Identity { cluster: authority.cluster().clone(), role, name: name.clone() };
    let request = match read_if_there(&key)? {
        Some(pem) => certs::request_for_key(&pem)?,
        None => {
            let (pem, request) = certs::new_request()?;
            certs::write_private(&key, &pem)?;
            request
        }
    };
    let life = plan.cert_life.unwrap_or(Duration::from_secs(LIFE_DEFAULT_S));
    let node = plan.nodes.iter().filter(|node| role == Role::Node && node.name == *name);
    let hosts = node.filter_map(|node| host(&node.address));
    let opts = IssueOptions::living(life).reached_at(hosts);
    let signed = authority.sign_csr(&request, &identity, &opts)?;
    Ok(certs::write_public(&cert, &signed.cert_pem)?)
}

/// Reads and checks what lies in the folder.
fn look(plan: &Plan) -> Result<Found, CtlError> {
    for folder in plan.private() {
        refuse_shared(&folder, plan.system.as_ref().map(System::uid))?;
    }
    let authority = look_for_authority(plan)?;
    let mut found = Found { authority, members: None, started: false };
    for node in &plan.nodes {
        look_for_seed(plan, node, &mut found)?;
    }
    if found.authority.is_none() {
        for folder in plan.private() {
            if let Some(first) = first_foreign_entry(&folder)? {
                return Err(foreign(plan, &format!("it holds {first} and no authority")));
            }
        }
    }
    Ok(found)
}

fn look_for_authority(plan: &Plan) -> Result<Option<Authority>, CtlError> {
    let (cert, key) = (read_if_there(&plan.ca_cert())?, read_if_there(&plan.ca_key())?);
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(Authority::load(&cert, &key)?)),
        (None, None) => Ok(None),
        (Some(_), None) if !plan.pair(&plan.admin()).0.exists() => Ok(None),
        (Some(_), None) => Err(foreign(plan, "the authority's key, pki/ca.key, is not here")),
        (None, Some(_)) => Err(foreign(plan, "pki/ca.key is here without pki/ca.crt")),
    }
}

fn look_for_seed(plan: &Plan, node: &PlannedNode, found: &mut Found) -> Result<(), CtlError> {
    for (path, done) in [(plan.seed(&node.name), false), (plan.done_seed(&node.name), true)] {
        let Some(text) = read_if_there(&path)? else { continue };
        found.started |= done;
        let seed = Seed::parse(&text, &path).map_err(|error| foreign(plan, &error.to_string()))?;
        let owner = found.authority.as_ref().map(Authority::cluster);
        if owner != Some(&seed.cluster) {
            let owner =
                owner.map_or_else(|| "no authority".to_owned(), |id| format!("cluster {id}"));
            return Err(foreign(
                plan,
                &format!("{} is of cluster {}, pki/ of {owner}", path.display(), seed.cluster),
            ));
        }
        let planned = |member: &Member| {
            plan.numbered().any(|(node, raft_id)| {
                (&member.name, &member.address, member.raft_id)
                    == (&node.name, &node.address, raft_id)
            })
        };
        let fits = seed.members.len() == plan.nodes.len() && seed.members.iter().all(planned);
        if !fits {
            let there: Vec<String> =
                seed.members.iter().map(|m| format!("{} {}", m.name, m.address)).collect();
            return Err(CtlError::conflict(
                format!(
                    "{} holds a cluster of other nodes: {}",
                    plan.dir.display(),
                    there.join(", ")
                ),
                "the same --nodes, --host and --base-port as at first, or another folder",
            ));
        }
        if found.members.as_ref().is_some_and(|members| members != &seed.members) {
            return Err(foreign(plan, &format!("{} names other members", path.display())));
        }
        found.members = Some(seed.members);
    }
    Ok(())
}

/// What has to be written, in the order of writing.
fn missing<'a>(
    plan: &'a Plan,
    found: &Found,
    outcome: &mut Outcome,
) -> Result<Vec<Piece<'a>>, CtlError> {
    let mut pieces = Vec::new();
    // Nobody keeps a machine's folders in a repository.
    let kept = [plan.pki(), plan.data()].into_iter().filter(|_| plan.system.is_none());
    for folder in kept {
        let ignore = folder.join(".gitignore");
        if !ignore.exists() {
            pieces.push(Piece::Ignore(ignore));
        }
    }
    if found.authority.is_none() {
        pieces.push(Piece::Authority);
    }
    let nodes = plan.nodes.iter().map(|node| (Role::Node, node.name.clone()));
    for (role, name) in nodes.chain([(Role::Admin, plan.admin())]) {
        match pair(plan, found, role, &name)? {
            None => pieces.push(Piece::Pair(role, name)),
            Some(there) => {
                let standing = there.life().standing(now_s());
                if standing != Validity::Fine {
                    let at = Date(there.not_after_unix());
                    outcome.overdue.push((plan.pair(&name).0, standing, at));
                }
            }
        }
    }
    for node in &plan.nodes {
        let path = plan.dir.join(&node.config);
        match read_if_there(&path)? {
            None => pieces.push(Piece::Config(node)),
            Some(text) if text == plan.config_text(node) => {}
            Some(_) if found.authority.is_some() => outcome.edited.push(path),
            Some(_) => {
                return Err(foreign(plan, &format!("{} is another configuration", node.config)));
            }
        }
    }
    for node in &plan.nodes {
        if plan.seed(&node.name).exists() || plan.done_seed(&node.name).exists() {
            continue;
        }
        // A seed would let a node that lost its store come back as if it had never voted.
        if found.started {
            outcome.lost.push(node.name.clone());
        } else {
            pieces.push(Piece::Seed(node));
        }
    }
    Ok(pieces)
}

/// The certificate and key that are there already; `None` if they are to be made.
fn pair(
    plan: &Plan,
    found: &Found,
    role: Role,
    name: &Name,
) -> Result<Option<Credentials>, CtlError> {
    let (cert, key) = plan.pair(name);
    let Some(authority) = &found.authority else { return Ok(None) };
    if !cert.exists() || !key.exists() {
        return Ok(None);
    }
    // An old certificate is still of this cluster; renewing it is another command's work.
    let credentials = Credentials::load_any_age(&plan.ca_cert(), &cert, &key)?;
    let wanted = Identity { cluster: authority.cluster().clone(), role, name: name.clone() };
    if credentials.identity() != &wanted {
        return Err(foreign(
            plan,
            &format!("{} is that of {}", cert.display(), credentials.identity()),
        ));
    }
    Ok(Some(credentials))
}

impl Plan {
    fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    fn data(&self) -> PathBuf {
        self.system.as_ref().map_or_else(|| self.dir.join("data"), System::data)
    }

    /// The folders that nobody else may write.
    fn private(&self) -> Vec<PathBuf> {
        let admin = self.system.as_ref().map(System::admin);
        [self.data(), self.pki()].into_iter().chain(admin).collect()
    }

    /// Certificate of the authority.
    pub(crate) fn ca_cert(&self) -> PathBuf {
        self.pki().join("ca.crt")
    }

    /// Key of the authority.
    pub(crate) fn ca_key(&self) -> PathBuf {
        self.pki().join("ca.key")
    }

    /// The authority's certificate for the administrator: the daemon can replace its own.
    pub(crate) fn admin_ca(&self) -> PathBuf {
        let admin = self.system.as_ref().map(System::admin);
        admin.map_or_else(|| self.ca_cert(), |folder| folder.join("ca.crt"))
    }

    /// Certificate and key of a member.
    pub(crate) fn pair(&self, name: &Name) -> (PathBuf, PathBuf) {
        let apart = self.system.as_ref().filter(|_| name.as_str() == ADMIN).map(System::admin);
        let folder = apart.unwrap_or_else(|| self.pki());
        (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")))
    }

    /// The admin's name.
    #[expect(clippy::expect_used, reason = "a constant that a test parses")]
    pub(crate) fn admin(&self) -> Name {
        ADMIN.parse().expect("the admin's name follows the rule")
    }

    fn seed(&self, node: &Name) -> PathBuf {
        self.data().join(node.as_str()).join(SEED_FILE)
    }

    fn done_seed(&self, node: &Name) -> PathBuf {
        self.data().join(node.as_str()).join(USED_SEED_FILE)
    }

    fn config_text(&self, node: &PlannedNode) -> String {
        let apart = self.system.as_ref().map(|_| System::data_dir(&node.name));
        let config = NodeConfig {
            name: &node.name,
            address: &node.address,
            data_dir: apart.as_deref(),
            advertise: None,
            time_servers: &self.time_servers,
            file: &node.config,
            signs: true,
            cert_life: self.cert_life,
        };
        config.text()
    }

    fn write_seed(
        &self,
        node: &Name,
        authority: &Authority,
        members: &[Member],
        admins: &[Admin],
    ) -> Result<(), CtlError> {
        let seed = Seed {
            cluster: authority.cluster().clone(),
            node: node.clone(),
            joined: false,
            members: members.to_vec(),
            admins: admins.to_vec(),
            starts: 0,
        };
        write_atomic(&self.seed(node), seed.to_text().as_bytes())
    }

    /// The members and the administrator with the keys that lie in the folder.
    fn bind(&self, members: &[Member]) -> Result<(Vec<Member>, Vec<Admin>), CtlError> {
        let key = |name: &Name| -> Result<KeyHash, CtlError> {
            let (cert, key) = self.pair(name);
            let credentials = Credentials::load_any_age(&self.ca_cert(), &cert, &key)?;
            Ok(KeyHash(credentials.fingerprint()))
        };
        let mut bound = members.to_vec();
        for member in &mut bound {
            member.key = Some(key(&member.name)?);
        }
        let admin = Admin { name: self.admin(), key: key(&self.admin())? };
        Ok((bound, vec![admin]))
    }

    /// A key that was made anew before anything was started stands in the seeds that wait, too.
    fn renew_seeds(
        &self,
        authority: &Authority,
        members: &[Member],
        bound: &[Member],
        admins: &[Admin],
    ) -> Result<(), CtlError> {
        if members == bound || self.nodes.iter().any(|node| self.done_seed(&node.name).exists()) {
            return Ok(());
        }
        for node in &self.nodes {
            self.write_seed(&node.name, authority, bound, admins)?;
        }
        Ok(())
    }

    /// The nodes with their raft ids.
    fn numbered(&self) -> impl Iterator<Item = (&PlannedNode, u64)> {
        self.nodes.iter().zip(1..)
    }

    fn draw_members(&self) -> Vec<Member> {
        let members = self.numbered().map(|(node, raft_id)| Member {
            name: node.name.clone(),
            raft_id,
            incarnation: Uuid::new_v4(),
            address: node.address.clone(),
            key: None,
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }
}

impl Piece<'_> {
    fn paths(&self, plan: &Plan) -> Vec<PathBuf> {
        match self {
            Self::Authority => vec![plan.ca_cert(), plan.ca_key()],
            Self::Pair(_, name) => {
                let (cert, key) = plan.pair(name);
                vec![cert, key]
            }
            Self::Config(node) => vec![plan.dir.join(&node.config)],
            Self::Seed(node) => vec![plan.seed(&node.name)],
            Self::Ignore(path) => vec![path.clone()],
        }
    }
}

fn foreign(plan: &Plan, reason: &str) -> CtlError {
    let hint = match plan.system {
        None => "another folder; nothing was changed in this one",
        Some(_) => system::IN_THE_WAY,
    };
    let what = format!("{} does not belong to this cluster: {reason}", plan.dir.display());
    CtlError::conflict(what, hint)
}

/// The first thing in a folder that `create` did not put there before the authority.
fn first_foreign_entry(folder: &Path) -> Result<Option<String>, CtlError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CtlError::file("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(CtlError::file("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !System::is_no_sign(&name)
            && name != ".gitignore"
            && name != "ca.crt"
            && !name.ends_with(".new")
        {
            return Ok(Some(path.display().to_string()));
        }
    }
    Ok(None)
}

fn read_if_there(path: &Path) -> Result<Option<String>, CtlError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CtlError::file("read", path)(error)),
    }
}

#[cfg(test)]
#[path = "layout_test.rs"]
mod tests;
