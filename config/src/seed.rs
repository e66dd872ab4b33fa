//! The seed of a store: `init.toml` in the data directory, written by `logctl cluster create`
//! or by whoever joins, `logctl cluster join` or `logd` itself.
//!
//! It is the permission to create a store, and says what the store shall believe at its bootstrap: the
//! cluster, the node, and all first members with their raft ids and incarnations. It is equal on
//! all nodes but for `node`. A node without store and without seed is not admitted and starts
//! nothing: an empty data directory may be a wrong mount, and a store made anew would forget its
//! votes. Once the store is durable the seed is renamed, so that it can never create a second one.
//!
//! A node that joins later has a seed too, with `joined = true`: written when the cluster has admitted
//! it, with all members of that moment. It founds nothing; the log says who the members are.
//!
//! Not here: creating the store (`store`), joining (`join`).

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proto::address::advertised;
use proto::limits::{ADMINS_MAX, NODES_MAX, VOTERS_MAX};
use proto::member::MemberRow;
use proto::{ClusterId, Name};
use uuid::Uuid;

use crate::reader::{Notes, Section, Spot, table};
use crate::{ConfigError, Tls, read_bounded};

/// File name of a seed that waits to be used.
pub const SEED_FILE: &str = "init.toml";
/// File name of a seed whose store exists.
pub const USED_SEED_FILE: &str = "init.done.toml";

/// What a new store believes at its bootstrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node whose store this becomes; one of `members`.
    pub node: Name,
    /// Whether the cluster was there before: this node was admitted to it, and founds nothing.
    pub joined: bool,
    /// The first voters, or all members when the node was admitted; by name, never empty.
    pub members: Vec<Member>,
    /// The first administrators; none in a seed of an earlier release, and of a node that joined.
    pub admins: Vec<Admin>,
    /// How often stores of this node were started before this one; 0 for its first.
    pub starts: u64,
}

/// SHA-256 of a public key, in text 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TryFrom<&[u8]> for KeyHash {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl FromStr for KeyHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "64 hexadecimal digits are wanted: the SHA-256 of a public key";
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            let digits = text.get(at..at + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(hash))
    }
}

/// An administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: KeyHash,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Its raft id, from 1; no other store ever has it.
    pub raft_id: u64,
    /// The incarnation of its store.
    pub incarnation: Uuid,
    /// Where the others dial it, `host:port`.
    pub address: String,
    /// Its key; absent in a seed of an earlier release.
    pub key: Option<KeyHash>,
}

/// Why a seed could not be read, written or put away.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// What it says is wrong.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The disk refused.
    #[error("cannot {attempt} {}", file.display())]
    Io {
        /// What was attempted, for example `rename`.
        attempt: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Member {
    /// A row of the replicated table of members; `None` if it makes no sense.
    fn of_row(row: &MemberRow) -> Option<Self> {
        let key = match row.fingerprint.as_slice() {
            [] => None,
            hash => Some(KeyHash::try_from(hash).ok()?),
        };
        Some(Self {
            name: row.name.parse().ok()?,
            raft_id: row.raft_id,
            incarnation: Uuid::from_slice(&row.incarnation).ok()?,
            address: advertised(&row.address).ok()?,
            key,
        })
    }
}

impl Seed {
    /// What a node believes that a cluster has let in; `rows` are the members that it was told.
    /// `None` if they make no sense, or the node is not among them.
    #[must_use]
    pub fn of_admitted(cluster: ClusterId, node: Name, rows: &[MemberRow]) -> Option<Self> {
        let mut members: Vec<_> = rows.iter().map(Member::of_row).collect::<Option<_>>()?;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let seed = Self { cluster, node, joined: true, members, admins: Vec::new(), starts: 0 };
        seed.myself()?;
        Some(seed)
    }

    /// Reads the seed that waits in a data directory; `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or does not make sense.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, SeedError> {
        Self::read_file(data_dir.join(SEED_FILE))
    }

    /// Reads the seed that a store was created from; `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or does not make sense.
    pub fn read_used(data_dir: &Path) -> Result<Option<Self>, SeedError> {
        Self::read_file(data_dir.join(USED_SEED_FILE))
    }

    /// Reads what this node last wrote down of the members, beside its key; `None` if it never did.
    ///
    /// # Errors
    /// When it is there and cannot be read, or does not make sense.
    pub fn read_members(tls: &Tls) -> Result<Option<Self>, SeedError> {
        Self::read_file(tls.members_file())
    }

    /// Writes down who the members are, durably and as a whole.
    ///
    /// # Errors
    /// When the disk refuses; what was written before stays.
    pub fn write_members(&self, tls: &Tls) -> Result<(), SeedError> {
        let file = tls.members_file();
        let new = file.with_extension("toml.new");
        let text = self.to_text();
        let text = text.split_once('\n').map_or(text.as_str(), |(_, rest)| rest);
        let text = format!(
            "# The members of the cluster as {} knows them. It believes these keys where its store is \
             gone.\n{text}",
            self.node
        );
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut open| open.write_all(text.as_bytes()).map(|()| open))
            .and_then(|open| open.sync_all())
            .and_then(|()| fs::rename(&new, &file))
            .and_then(|()| file.parent().map_or(Ok(()), sync_folder));
        written.map_err(|source| SeedError::Io { attempt: "write", file, source })
    }

    fn read_file(file: PathBuf) -> Result<Option<Self>, SeedError> {
        match read_bounded(&file) {
            Ok(text) => Ok(Some(Self::parse(&text, &file)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SeedError::Io { attempt: "read", file, source }),
        }
    }

    /// Reads a text as if it stood in `file`.
    ///
    /// # Errors
    /// When it does not make sense; all problems at once.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let root = table(text).map_err(|note| ConfigError::invalid(file, text, vec![note]))?;
        let notes = Notes::default();
        let seed = read_top(&Section::top(&notes, root.get_ref()));
        let (wrong, _) = notes.finish();
        match seed {
            Some(seed) if wrong.is_empty() => Ok(seed),
            _ => Err(ConfigError::invalid(file, text, wrong)),
        }
    }

    /// The member that this node is.
    #[must_use]
    pub fn myself(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.name == self.node)
    }

    /// Writes the seed into a data directory, durably. Never overwrites one.
    ///
    /// # Errors
    /// When one is there already or the disk refuses.
    pub fn write(&self, data_dir: &Path) -> Result<(), SeedError> {
        let file = data_dir.join(SEED_FILE);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut open| open.write_all(self.to_text().as_bytes()).map(|()| open))
            .and_then(|open| open.sync_all())
            .and_then(|()| sync_folder(data_dir));
        written.map_err(|source| SeedError::Io { attempt: "write", file, source })
    }

    /// Puts the seed away, durably: its store exists and is on disk. Harmless if there is none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_away(data_dir: &Path) -> Result<(), SeedError> {
        let file = data_dir.join(SEED_FILE);
        match fs::rename(&file, data_dir.join(USED_SEED_FILE)).and_then(|()| sync_folder(data_dir))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(SeedError::Io { attempt: "rename", file, source }),
            Ok(()) => Ok(()),
        }
    }

    /// The text of the file. It can be read back whatever the fields hold.
    #[must_use]
    pub fn to_text(&self) -> String {
        let quoted = |text: &dyn fmt::Display| toml::Value::String(text.to_string());
        let mut out = format!(
            "# Seed of the store of {}. logd makes the store from it once and renames this file to \
             {USED_SEED_FILE}.\ncluster = {}\nnode = {}\n",
            self.node,
            quoted(&self.cluster),
            quoted(&self.node)
        );
        if self.joined {
            out.push_str("joined = true\n");
        }
        if self.starts > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "starts = {}", self.starts);
        }
        for Member { name, raft_id, incarnation, address, key } in &self.members {
            let _ = write!(
                out,
                "\n[[member]]\nname = {}\nraft_id = {raft_id}\nincarnation = {}\naddress = {}\n",
                quoted(name),
                quoted(incarnation),
                quoted(address)
            );
            if let Some(key) = key {
                let _ = writeln!(out, "key = {}", quoted(key));
            }
        }
        for Admin { name, key } in &self.admins {
            let _ = write!(out, "\n[[admin]]\nname = {}\nkey = {}\n", quoted(name), quoted(key));
        }
        out
    }
}

fn read_top(top: &Section<'_>) -> Option<Seed> {
    let cluster =
        top.need_as("cluster", "32 hexadecimal digits", str::parse::<ClusterId>).map(|c| c.value);
    let node = top.need_as("node", "n1", str::parse::<Name>);
    let joined = top.flag("joined", false);
    let starts = top.number("starts", "(a number of starts)", 0..=u64::MAX, 0).value;
    let most = if joined { NODES_MAX } else { VOTERS_MAX };
    let tables = top.tables("member");
    if tables.is_empty() || tables.len() > most {
        let text = format!("{} of them; 1 to {most} are allowed", tables.len());
        top.wrong(top.at(), "member", text);
    }
    let read: Vec<_> = tables.iter().map(read_member).collect();
    distinct(&tables, &read, "name", |member| member.name.to_string());
    distinct(&tables, &read, "raft_id", |member| member.raft_id.to_string());
    distinct(&tables, &read, "incarnation", |member| member.incarnation.to_string());
    distinct(&tables, &read, "address", |member| member.address.clone());
    let known =
        |member: &Member| member.key.map_or_else(|| member.name.to_string(), |k| k.to_string());
    distinct(&tables, &read, "key", known);
    let admins = top.tables("admin");
    if admins.len() > ADMINS_MAX {
        let text = format!("{} of them; at most {ADMINS_MAX} are allowed", admins.len());
        top.wrong(top.at(), "admin", text);
    }
    let admins: Vec<Admin> = admins.iter().map(read_admin).collect::<Option<_>>()?;
    let mut members: Vec<Member> = read.into_iter().collect::<Option<_>>()?;
    let Spot { at, value: node } = node?;
    if !members.iter().any(|member| member.name == node) {
        top.wrong(at, "node", format!("{node} is not among the members"));
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Seed { cluster: cluster?, node, joined, members, admins, starts })
}

fn read_admin(section: &Section<'_>) -> Option<Admin> {
    let name = section.need_as("name", "admin", str::parse::<Name>);
    let key = section.need_as("key", "64 hexadecimal digits", str::parse::<KeyHash>);
    Some(Admin { name: name?.value, key: key?.value })
}

fn read_member(section: &Section<'_>) -> Option<Member> {
    let name = section.need_as("name", "n1", str::parse::<Name>);
    // 0 is no raft id, so leaving the key out is noticed below.
    let raft_id = section.number("raft_id", "(a number of its own)", 0..=u64::MAX, 0);
    if raft_id.value == 0 {
        section.wrong(raft_id.at, "raft_id", "missing or 0; raft ids begin at 1");
    }
    let incarnation = section.need_as("incarnation", "a UUID", |text| Uuid::parse_str(text.trim()));
    let address = section.need_as("address", "127.0.0.1:7101", advertised);
    let key = section.text_as("key", "64 hexadecimal digits", str::parse::<KeyHash>);
    Some(Member {
        name: name?.value,
        raft_id: raft_id.value,
        incarnation: incarnation?.value,
        address: address?.value,
        key: key.map(|key| key.value),
    })
}

/// Two members with the same of something would be two nodes that take each other's messages.
fn distinct(
    tables: &[Section<'_>],
    members: &[Option<Member>],
    key: &'static str,
    of: impl Fn(&Member) -> String,
) {
    let mut seen = BTreeSet::new();
    for (section, member) in tables.iter().zip(members) {
        let Some(value) = member.as_ref().map(&of) else { continue };
        if !seen.insert(value.clone()) {
            section.wrong(section.at(), key, format!("{value} is given twice"));
        }
    }
}

/// A name in a folder is durable when the folder is synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        let member = |n: u64| Member {
            name: format!("n{n}").parse().unwrap(),
            raft_id: n,
            incarnation: Uuid::from_u128(u128::from(n)),
            address: format!("127.0.0.1:710{n}"),
            key: (n != 3).then(|| KeyHash([0xa0 + u8::try_from(n).unwrap(); 32])),
        };
        Seed {
            cluster: ClusterId::from_bytes([7; 16]),
            node: "n2".parse().unwrap(),
            joined: false,
            members: (1..=3).map(member).collect(),
            admins: vec![Admin { name: "admin".parse().unwrap(), key: KeyHash([0xad; 32]) }],
            starts: 0,
        }
    }

    #[test]
    fn a_seed_is_written_once_read_back_and_put_away() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Seed::read(folder.path()).unwrap(), None);
        seed().write(folder.path()).unwrap();
        assert!(seed().write(folder.path()).is_err(), "a seed was overwritten");
        let read = Seed::read(folder.path()).unwrap().unwrap();
        assert_eq!(read, seed());
        assert_eq!(read.myself().unwrap().raft_id, 2);
        Seed::put_away(folder.path()).unwrap();
        Seed::put_away(folder.path()).unwrap();
        assert_eq!(Seed::read(folder.path()).unwrap(), None);
        assert!(folder.path().join(USED_SEED_FILE).exists());
    }

    /// Seen to fail with the address between bare quotes.
    #[test]
    fn what_is_written_is_read_back_whatever_it_holds() {
        let mut odd = seed();
        odd.starts = 7;
        odd.members[0].address = "a\"\nraft_id = 9\n#".to_owned();
        let text = odd.to_text();
        assert!(text.starts_with("# Seed of the store of n2."), "{text}");
        let table: toml::Table = text.parse().unwrap();
        let members = table["member"].as_array().unwrap();
        assert_eq!(members[0]["address"].as_str(), Some(odd.members[0].address.as_str()));
        assert_eq!(members[0]["raft_id"].as_integer(), Some(1));
    }

    /// Seen to fail with the node not looked for, and with a short hash taken for none.
    #[test]
    fn an_admitted_node_believes_only_members_that_make_sense() {
        let row = |n: u8| MemberRow {
            name: format!("n{n}"),
            raft_id: u64::from(n),
            incarnation: vec![n; 16],
            address: format!("127.0.0.1:710{n}"),
            fingerprint: vec![n; 32],
            ..MemberRow::default()
        };
        let believed = |node: &str, rows: &[MemberRow]| {
            Seed::of_admitted(ClusterId::from_bytes([7; 16]), node.parse().unwrap(), rows)
        };
        let seed = believed("n2", &[row(2), row(1)]).unwrap();
        assert!(seed.joined);
        assert_eq!(seed.members[0].name.as_str(), "n1");
        assert_eq!(seed.members[1].key, Some(KeyHash([2; 32])));
        assert_eq!(Seed::parse(&seed.to_text(), Path::new("init.toml")).unwrap(), seed);
        assert_eq!(believed("n3", &[row(2), row(1)]), None);
        assert_eq!(believed("n2", &[MemberRow { fingerprint: vec![1; 31], ..row(2) }]), None);
        assert_eq!(believed("n2", &[MemberRow { incarnation: vec![], ..row(2) }]), None);
        assert_eq!(
            believed("n2", &[MemberRow { address: "0.0.0.0:1".to_owned(), ..row(2) }]),
            None
        );
    }

    #[test]
    fn a_seed_of_one_that_joined_says_so_and_may_name_more() {
        let member = |n: u64| Member {
            name: format!("n{n}").parse().unwrap(),
            raft_id: n,
            incarnation: Uuid::from_u128(u128::from(n)),
            address: format!("127.0.0.1:{}", 7100 + n),
            key: None,
        };
        let mut seed = Seed { joined: true, members: (1..=20).map(member).collect(), ..seed() };
        seed.members.sort_by(|a, b| a.name.cmp(&b.name));
        let text = seed.to_text();
        assert!(text.contains("\njoined = true\n"), "{text}");
        assert_eq!(Seed::parse(&text, Path::new("init.toml")).unwrap(), seed);
        let founding = text.replace("joined = true\n", "");
        let error = Seed::parse(&founding, Path::new("init.toml")).unwrap_err().to_string();
        assert!(error.contains("1 to 9"), "{error}");
    }

    #[test]
    fn seeds_that_make_no_sense_are_refused() {
        let good = seed().to_text();
        let file = Path::new("init.toml");
        assert_eq!(Seed::parse(&good, file).unwrap(), seed());
        for (from, to, part) in [
            ("node = \"n2\"", "node = \"n9\"", "n9 is not among the members"),
            ("raft_id = 3", "raft_id = 1", "raft_id': 1 is given twice"),
            ("raft_id = 3", "raft_id = 0", "begin at 1"),
            ("raft_id = 3\n", "", "begin at 1"),
            ("name = \"n3\"", "name = \"n1\"", "n1 is given twice"),
            ("127.0.0.1:7103", "127.0.0.1:7101", "given twice"),
            ("127.0.0.1:7103", "0.0.0.0:7103", "nobody can dial it"),
            ("-000000000003\"", "-000000000002\"", "given twice"),
            ("incarnation = \"0", "incarnation = \"x0", "incarnation"),
            ("key = \"adad", "key = \"xdad", "64 hexadecimal digits"),
            ("key = \"a1", "key = \"", "64 hexadecimal digits"),
            ("cluster = \"07", "cluster = \"7", "cluster"),
            ("raft_id = 3", "raftid = 3", "did you mean 'raft_id'"),
        ] {
            let error = Seed::parse(&good.replace(from, to), file).unwrap_err().to_string();
            assert!(error.contains(part), "{from} -> {to}: {error}");
        }
        let same = good.replace(&"a1".repeat(32), &"a2".repeat(32));
        let error = Seed::parse(&same, file).unwrap_err().to_string();
        assert!(error.contains("a2a2") && error.contains("given twice"), "{error}");
        let none = good.split("\n[[member]]").next().unwrap();
        let error = Seed::parse(none, file).unwrap_err().to_string();
        assert!(error.contains("1 to 9"), "{error}");
    }
}
