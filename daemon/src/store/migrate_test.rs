//! Stores as the earlier release leaves them, opened by this one: whole, interrupted anywhere, damaged.

use clock::Hlc;
use proto::attest::Life;
use rocksdb::{ColumnFamily, DB, Options};

use super::super::format::encode;
use super::super::keys::{META, RECORDS, STATE, STREAMS};
use super::super::watermark::{self, DamageKind, WatermarkFile};
use super::super::workers::Workers;
use super::super::{APPLIED_TABLE, Opened, Store};
use super::*;

const CLUSTER: &str = "0123456789abcdef0123456789abcdef";
const SLOT: usize = 4096;
/// Entries up to this one are purged, and up to the next applied.
const FLOOR: u64 = 9;
const APPLIED: u64 = 30;
const END: u64 = 40;
const VOTE: Vote = Vote { term: 4, node: 1, committed: true };
const CEILING: Hlc = Hlc { ns: 77, logical: 9 };

fn identity() -> Identity {
    Identity {
        format: FORMAT_LOG_IN_DB,
        cluster: CLUSTER.to_owned(),
        node: "n1".to_owned(),
        raft_id: 1,
        incarnation: vec![9; 16],
        nonce: vec![8; 16],
    }
}

fn entry(index: u64) -> LogEntry {
    LogEntry { index, term: 1 + index / 20, payload: format!("payload {index}").into() }
}

/// The places of all entries that there ever were.
fn places() -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for index in 0..END {
        places.push(Place::after(places.last(), &entry(index)));
    }
    places
}

fn place_of(index: u64) -> Place {
    places().into_iter().find(|place| place.index == index).unwrap()
}

fn life() -> Life {
    Life { starts: 5, life: vec![7; 16] }
}

/// A row of the old log, or of its places, if it has no payload.
fn row(place: &Place, payload: &[u8]) -> Vec<u8> {
    let rest = [&place.term.to_be_bytes()[..], &place.hash, payload].concat();
    [&crc32c::crc32c(&rest).to_be_bytes()[..], &rest].concat()
}

struct OldDb(DB);

impl OldDb {
    fn open(dir: &Path) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = [META, LOG_IN_DB, RECORDS, STREAMS, STATE];
        Self(DB::open_cf(&options, dir.join("store/db"), families).unwrap())
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.0.cf_handle(name).unwrap()
    }

    fn put(&self, family: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.put_cf(self.family(family), key, value).unwrap();
    }

    fn put_meta(&self, shard: u16, kind: MetaKind, value: impl AsRef<[u8]>) {
        self.put(META, keys::meta(shard, kind), value);
    }

    fn put_applied(&self, place: Place) {
        let applied = AppliedState { last: Some(place.into()), ..AppliedState::default() };
        let key = keys::state(keys::generation(SHARD, 0), APPLIED_TABLE, b"");
        self.put(STATE, key, encode(&applied));
    }
}

/// A store of format 1: half of it in tables, the other half in the database's own log.
fn old_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    let (db, places) = (OldDb::open(dir.path()), places());
    db.put_meta(0, MetaKind::Identity, encode(&identity()));
    db.put_meta(0, MetaKind::Starts, 5_u64.to_be_bytes());
    db.put_meta(0, MetaKind::Lives, encode(&Lives { lives: vec![life()] }));
    for place in &places {
        let index = place.index;
        db.put(LOG_IN_DB, keys::entry(SHARD, index), row(place, &entry(index).payload));
        db.put(LOG_IN_DB, keys::place_in_log(SHARD, index), row(place, b""));
        if index == 25 {
            db.0.flush_cf(db.family(LOG_IN_DB)).unwrap();
        }
    }
    let (from, to) = (keys::entry(SHARD, 0), keys::entry(SHARD, FLOOR + 1));
    db.0.delete_range_cf(db.family(LOG_IN_DB), from, to).unwrap();
    db.put_meta(SHARD, MetaKind::Floor, encode(&LogMark::from(place_of(FLOOR))));
    db.put_meta(SHARD, MetaKind::Vote, encode(&VOTE));
    db.put_meta(0, MetaKind::Ceiling, CEILING.to_bytes());
    db.put_applied(place_of(APPLIED));
    let last = places.last().map(|place| LogMark::from(*place));
    let shards = vec![ShardMark { shard: u32::from(SHARD), last, vote: Some(VOTE) }];
    let db_sequence = db.0.latest_sequence_number();
    write_watermark(
        dir.path(),
        Watermark { identity: Some(identity()), shards, db_sequence, ..Watermark::default() },
    );
    dir
}

/// Writes both slots, as of format 1.
fn write_watermark(dir: &Path, content: Watermark) {
    let mut file = WatermarkFile::create(&Folder::files(&dir.join("store")), &content).unwrap();
    file.write(content).unwrap();
    let mut bytes = fs::read(watermark_file(dir)).unwrap();
    for slot in bytes.chunks_mut(SLOT) {
        slot[8..12].copy_from_slice(&FORMAT_LOG_IN_DB.to_be_bytes());
        let len = u32::from_be_bytes(slot[12..16].try_into().unwrap()) as usize;
        let crc = crc32c::crc32c(&slot[..16 + len]).to_be_bytes();
        slot[16 + len..20 + len].copy_from_slice(&crc);
    }
    fs::write(watermark_file(dir), bytes).unwrap();
}

fn watermark_file(dir: &Path) -> std::path::PathBuf {
    dir.join("store").join(watermark::FILE)
}

fn repairing(dir: &Path) -> (DamageKind, String) {
    match Store::open(dir, CLUSTER, "n1").unwrap() {
        Opened::Repairing { damage, .. } => (damage.kind(), damage.found),
        Opened::Intact(_) => panic!("opened as intact"),
    }
}

/// Opens the store and looks whether all is there that was.
fn holds_all(dir: &Path, starts: u64, name: &str) {
    let opened = Store::open(dir, CLUSTER, "n1").unwrap();
    let Opened::Intact(store) = opened else { panic!("{name}: {opened:?}") };
    assert_eq!(store.range(), (FLOOR + 1, END), "{name}");
    let held = store.entries(0, u64::MAX, usize::MAX).unwrap();
    assert_eq!(held, (FLOOR + 1..END).map(entry).collect::<Vec<_>>(), "{name}");
    for place in places() {
        let index = place.index;
        assert_eq!(store.place_at(index).unwrap(), Some(place.into()), "{name}: entry {index}");
    }
    assert_eq!(store.applied().unwrap().last.unwrap().index, APPLIED, "{name}");
    assert_eq!(store.vote(), Some(VOTE), "{name}");
    assert_eq!(store.ceiling().unwrap(), CEILING, "{name}");
    assert_eq!(store.starts(), starts, "{name}");
    assert_eq!(store.lives().last(), Some(&life()), "{name}");
    assert_eq!(store.noted_committed().unwrap().index, APPLIED, "{name}");
    assert_eq!(*store.identity(), identity(), "{name}");
    store.close();
    drop(store);
    let families = DB::list_cf(&Options::default(), dir.join("store/db")).unwrap();
    assert!(families.iter().all(|family| family != LOG_IN_DB), "{name}: {families:?}");
    let slots = fs::read(watermark_file(dir)).unwrap();
    for slot in slots.chunks(SLOT) {
        assert_eq!(slot[8..12], super::super::format::FORMAT.to_be_bytes(), "{name}");
    }
    assert!(!dir.join("store/log.new").exists(), "{name}");
}

/// Seen to fail with starts that are not taken along, and with places that are not copied.
#[tokio::test]
async fn a_store_of_the_earlier_format_is_taken_over_whole() {
    let dir = old_store();
    holds_all(dir.path(), 6, "the first start");
    holds_all(dir.path(), 7, "the second");
}

/// A step of the way, after which the power is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Step {
    HalfWritten,
    Written,
    InPlace,
    OneSlot,
    BothSlots,
    FamilyMade,
    PlacesCopied,
}

/// Takes a store of format 1 as far as this.
fn go_to(dir: &Path, last: Step) {
    let store = dir.join("store");
    let slots = fs::read(watermark_file(dir)).unwrap();
    let (evidence, watermark) = Evidence::open(&Folder::files(&store), Workers::Threads).unwrap();
    let watermark = watermark.unwrap();
    let db = open(&store, &evidence).unwrap();
    let mark = write_log(&store, &db, &identity(), &watermark).unwrap();
    if last == Step::HalfWritten {
        let segment = store.join("log.new/0000000000000001.segment");
        let bytes = fs::read(&segment).unwrap();
        fs::write(&segment, &bytes[..1024]).unwrap();
    }
    if last <= Step::Written {
        return;
    }
    put_in_place(&store).unwrap();
    if last == Step::InPlace {
        return;
    }
    settle(&evidence, &db, &mark).unwrap();
    if last == Step::OneSlot {
        let mut half = fs::read(watermark_file(dir)).unwrap();
        let at = usize::try_from(watermark.sequence % 2).unwrap() * SLOT;
        half[at..at + SLOT].copy_from_slice(&slots[at..at + SLOT]);
        fs::write(watermark_file(dir), half).unwrap();
    }
    if last <= Step::BothSlots {
        return;
    }
    drop(db);
    let mut db = Database::open(&store.join("db"), &evidence).unwrap();
    db.make_family(PLACES).unwrap();
    if last == Step::PlacesCopied {
        copy_places(&db, APPLIED + 1).unwrap();
        db.flush().unwrap();
    }
}

/// Seen to fail with what was left of `log.new` or of `log` not removed, and with a family that is made
/// twice.
#[tokio::test]
async fn an_interrupted_taking_over_begins_anew_or_ends() {
    for step in [
        Step::HalfWritten,
        Step::Written,
        Step::InPlace,
        Step::OneSlot,
        Step::BothSlots,
        Step::FamilyMade,
        Step::PlacesCopied,
    ] {
        let dir = old_store();
        go_to(dir.path(), step);
        holds_all(dir.path(), 6, &format!("{step:?}"));
    }
}

/// Each damage is found, told by its kind, and remembered; the log in the database stays. Seen to fail
/// with each check left out.
#[tokio::test]
async fn a_damaged_store_of_the_earlier_format_is_not_taken_over() {
    type Break = fn(&OldDb, &[Place]);
    let breaks: [(&str, DamageKind, Break); 7] = [
        ("entry 20 is missing", DamageKind::Lost, |db, _| {
            db.0.delete_cf(db.family(LOG_IN_DB), keys::entry(SHARD, 20)).unwrap();
        }),
        ("entry 39 was durable", DamageKind::Lost, |db, _| {
            db.0.delete_cf(db.family(LOG_IN_DB), keys::entry(SHARD, 39)).unwrap();
        }),
        ("chain breaks at log entry 20", DamageKind::Corrupt, |db, places| {
            db.put(LOG_IN_DB, keys::entry(SHARD, 20), row(&places[20], b"another payload"));
        }),
        ("entry 20 is not what was written", DamageKind::Corrupt, |db, _| {
            db.put(LOG_IN_DB, keys::entry(SHARD, 20), b"no row");
        }),
        ("was durable, but the log holds", DamageKind::Lost, |db, _| {
            db.put_meta(SHARD, MetaKind::Vote, encode(&Vote { term: 3, ..VOTE }));
        }),
        ("made with another entry 30", DamageKind::Contradicted, |db, places| {
            db.put_applied(Place { hash: [1; 32], ..places[30] });
        }),
        ("the state holds entries up to 3", DamageKind::Contradicted, |db, places| {
            db.put_applied(places[3]);
        }),
    ];
    for (part, kind, broken) in breaks {
        let dir = old_store();
        broken(&OldDb::open(dir.path()), &places());
        for _ in 0..2 {
            let (found, reason) = repairing(dir.path());
            assert!(reason.contains(part), "{part}: {reason}");
            assert_eq!(found, kind, "{part}");
        }
        let families = DB::list_cf(&Options::default(), dir.path().join("store/db")).unwrap();
        assert!(families.iter().any(|family| family == LOG_IN_DB), "{part}: {families:?}");
    }
}

/// The watermark file of long ago, put back: what lies in `log` is then all that there is. Seen to fail
/// with a database that is taken to hold an empty log.
#[tokio::test]
async fn a_log_is_not_removed_for_a_watermark_that_was_set_back() {
    let dir = old_store();
    let slots = fs::read(watermark_file(dir.path())).unwrap();
    holds_all(dir.path(), 6, "taken over");
    fs::write(watermark_file(dir.path()), slots).unwrap();
    let (kind, reason) = repairing(dir.path());
    assert!(kind == DamageKind::Lost && reason.contains("holds no log"), "{reason}");
    assert!(dir.path().join("store/log/0000000000000001.segment").exists());
}

/// What the end of the database's own log means, the earlier release knows. Seen to fail with damage that
/// is marked.
#[tokio::test]
async fn a_broken_end_of_the_earlier_log_is_left_to_the_earlier_release() {
    let dir = old_store();
    let logs = fs::read_dir(dir.path().join("store/db")).unwrap();
    let logs = logs.map(|file| file.unwrap().path());
    let wal = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log")).max().unwrap();
    let mut bytes = fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wal, &bytes).unwrap();
    let slots = fs::read(watermark_file(dir.path())).unwrap();
    let refused = Store::open(dir.path(), CLUSTER, "n1");
    let Err(StoreError::Environment { trouble, what }) = refused else { panic!("{refused:?}") };
    assert!(trouble == Trouble::EarlierFormat && what.contains("format 1"), "{what}");
    assert_eq!(fs::read(watermark_file(dir.path())).unwrap(), slots, "nothing is marked");
    assert_eq!(fs::read(&wal).unwrap(), bytes);
}
