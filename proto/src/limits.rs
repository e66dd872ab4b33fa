//! Every limit of the product, each with its reason. A limit that nothing enforces does not belong
//! here.

/// Largest body of one message, in bytes. One record must fit a batch with room for its headers.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Most headers of one message. A message is not a database row.
pub const HEADERS_MAX: usize = 64;
/// Headers of one message together, keys and values, in bytes.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// Longest client, node, group or cursor name. One DNS label, since names stand in certificates.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest message id. A UUID takes 36; people's own ids are rarely longer than a path segment.
pub const ID_BYTES_MAX: usize = 128;
/// Longest reason of a delete. A sentence.
pub const REASON_BYTES_MAX: usize = 512;
/// Largest frame on any stream. Checked before anything is allocated.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Most commands in one log entry. Bounds the time that one apply holds the machine.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// Commands of one log entry together, in bytes: an entry must fit a frame several times, so that
/// a lagging backup is fed in few requests without one of them holding up the stream. One command
/// of the largest size is always let through.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Entries in one append request between nodes, in bytes; at least one entry is always sent.
pub const APPEND_BYTES_MAX: usize = 2 << 20;
/// Records in one page of a read.
pub const PAGE_RECORDS_MAX: usize = 1000;
/// Records in one page of a read together, in bytes; at least one record is always returned.
pub const PAGE_BYTES_MAX: usize = 2 << 20;
/// Requests that wait for the proposer, fairly shared (see [`crate::share`]). Beyond its share a
/// client is told to come back, see `Busy`.
pub const PROPOSER_QUEUE_MAX: usize = 8192;
/// Of them, for admins and the nodes' own.
pub const PROPOSER_QUEUE_KEPT: usize = 512;
/// Bytes that wait for the proposer or sit in entries that are not yet committed, fairly shared.
pub const PROPOSER_BYTES_MAX: usize = 32 << 20;
/// Of them, for admins and the nodes' own.
pub const PROPOSER_BYTES_KEPT: usize = 4 << 20;
/// Entries that the proposer has handed to the engine and that are not yet committed: two keep disk
/// and network busy. With more, whoever comes last waits behind all of what the others have queued,
/// and no order of turns before the engine helps.
pub const PROPOSER_ENTRIES_MAX: usize = 2;
/// Entries beyond them, of callers alone that have nothing in flight: whoever asks for one thing after
/// the other waits for no entry of others.
pub const PROPOSER_ENTRIES_FRESH: usize = 2;
/// Commands in one entry of the proposer.
pub const ENTRY_COMMANDS_MAX: usize = 256;
/// Commands of one caller in one entry of the proposer while several ask. Whoever has little to say
/// waits for the entries in flight and its own: on a machine with no time to spare, that is what it
/// feels.
pub const ENTRY_COMMANDS_SHARED: usize = 8;
/// Bytes that wait for the disk before a backup stops reading its append stream.
pub const WRITER_BYTES_MAX: usize = 64 << 20;
/// Connections that one node serves to clients at a time, fairly shared between them.
pub const CLIENT_CONNECTIONS_MAX: usize = 1024;
/// Of them, for admins: who is called when nobody else gets in.
pub const CLIENT_CONNECTIONS_KEPT: usize = 64;
/// HTTPS connections at a time that show no certificate of a client, handshakes under way among them.
/// Beyond it the one that came first is let go, of the address that has most of them.
pub const HTTP_STRANGERS_MAX: usize = 256;
/// Requests that one HTTP/2 connection may have open: a browser's page and its followed reads.
pub const HTTP_STREAMS_MAX: u32 = 64;
/// The headers of one HTTP request together, in bytes: those of a message, as base64 at worst, and the
/// usual ones.
pub const HTTP_HEADER_BYTES_MAX: usize = 32 << 10;
/// Requests that one client connection may have open: each costs a stream and a task.
pub const CLIENT_STREAMS_MAX: u32 = 256;
/// Requests that one client connection may have open on its long stream: each costs a place in a table.
/// What is beyond them waits on the client's side.
pub const CLIENT_NUMBERED_MAX: usize = 1024;
/// Largest request on the long stream of a connection. Larger ones have a stream each, so that no
/// small one waits for their bytes.
pub const NUMBERED_BYTES_MAX: usize = 16 << 10;
/// Requests that are read of a long stream at once, and that a gateway hands over at once: few, since each
/// may be answered at once.
pub const FORWARDS_MAX: usize = 256;
/// Bytes of requests that a gateway hands over at once: one frame, with room for who asks.
pub const FORWARDS_BYTES_MAX: usize = 1 << 20;
/// Bytes of answers on the long stream of a connection that its client has not taken. Beyond it no
/// request is read there.
pub const NUMBERED_UNREAD_MAX: usize = 256 << 10;
/// Requests that one node has open for clients at a time, waiting, in flight or being answered,
/// fairly shared. Each may take memory that is not counted, see [`CLIENT_BYTES_FREE`].
pub const CLIENT_REQUESTS_MAX: usize = 4096;
/// Of them, for admins.
pub const CLIENT_REQUESTS_KEPT: usize = 256;
/// Requests that one node works on at a time, fairly shared; the others wait in turn, client by
/// client. More of them would only wait for the processor together, and everybody with them.
pub const CLIENT_TURNS_MAX: usize = 512;
/// Of them, for admins.
pub const CLIENT_TURNS_KEPT: usize = 64;
/// Pages that one node reads from its disk at a time, fairly shared: a full one takes many
/// milliseconds of a processor. One more than there are processors, and no fewer than this: of three,
/// two are read for two clients, and one is left for an admin.
pub const PAGE_TURNS_MIN: usize = 3;
/// Bytes of clients that one node holds: requests as far as they have arrived, and answers that are
/// not yet taken. Fairly shared.
pub const CLIENT_BYTES_MAX: usize = 128 << 20;
/// Of them, for admins.
pub const CLIENT_BYTES_KEPT: usize = 16 << 20;
/// Bytes of one request that are not counted, nor of one answer: the number of requests bounds them.
pub const CLIENT_BYTES_FREE: usize = 4 << 10;
/// Windows of QUIC for all clients together in each direction, before the smallest of them is
/// reached: the first connections get large ones, the hundredth a small one.
pub const CLIENT_WINDOWS_BYTES: usize = 16 << 20;
/// Refusals of one client's requests in a tenth of a second. Then its connections are not listened
/// to for the rest of it: a refusal costs as much as a small request.
pub const REFUSALS_MAX: u32 = 64;
/// Handshakes in progress at a time; beyond it new ones must prove their address (Retry).
pub const HANDSHAKES_MAX: usize = 64;
/// Handshakes under way at a time although they proved their address; beyond it the one that takes
/// longest is let go, of the address that has most of them.
pub const HANDSHAKES_PROVEN_MAX: usize = 256;
/// Requests between two nodes that are no client's, so that a full house of clients leaves them room.
pub const PEER_REQUESTS_KEPT: u32 = 1024;
/// Longest time a client may ask the cluster to work on one request, in milliseconds.
pub const DEADLINE_MAX_MS: u32 = 600_000;
/// One chunk of a snapshot, in bytes. Memory of a transfer is a small multiple of it.
pub const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;
/// Registered clients in one cluster. The registry is small rows, but it is listed whole.
pub const CLIENTS_MAX: usize = 100_000;
/// Named cursors that one client may own.
pub const CURSORS_PER_CLIENT_MAX: usize = 256;
/// Records that one expiry command removes. Bounds the time that one apply holds the machine.
pub const EXPIRE_RECORDS_MAX: usize = 1000;
/// Dedup entries that one applied batch retires per command it holds, so the table drains faster
/// than it fills.
pub const DEDUP_RETIRE_PER_COMMAND: usize = 2;
/// How long a (sender, id) is remembered, in nanoseconds of log time: 24 h.
pub const DEDUP_WINDOW_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Least free space on the data disk for new sends. Below it only votes, snapshots and purges go
/// on, so the node can still free what it holds.
pub const DISK_RESERVE_BYTES: u64 = 128 << 20;
/// Smallest error bound that may be asked of a primary's clock, in microseconds. Below it the drift
/// between two polls alone would make every clock unfit.
pub const CLOCK_ERROR_MIN_US: u64 = 1_000;
/// Largest error bound that may be asked of a primary's clock, in microseconds. A stamp may lie twice
/// that far ahead of true time.
pub const CLOCK_ERROR_MAX_US: u64 = 10_000_000;
/// Least time that messages stay where they do not stay for ever, in milliseconds: expiry looks once a
/// second.
pub const RETAIN_AGE_MIN_MS: u64 = 1_000;
/// Events that wait on a node until a primary has stored them. Beyond it the oldest are dropped and
/// counted: an event is worth less than the node's memory.
pub const EVENTS_WAITING_MAX: usize = 256;
/// Steps that one page of a read takes at most, shown or not: rows looked at, blocks passed over.
/// Bounds the time of one page; the next one goes on where it stopped.
pub const PAGE_STEPS_MAX: usize = 8192;
/// Rows that one page of a read looks at together, in bytes, shown or not.
pub const PAGE_LOOKED_BYTES_MAX: usize = 16 << 20;
/// Time servers that one node asks. Of five, two that lie are outvoted already.
pub const TIME_SERVERS_MAX: usize = 16;
/// Members of the cluster, learners included: every node exchanges its state with every other.
pub const NODES_MAX: usize = 64;
/// Names that nodes ever had. The rows of removed ones stay, and the table is listed whole.
pub const NODE_NAMES_MAX: usize = 1024;
/// Stores that nodes of one name had one after the other: each of their keys is remembered.
pub const NODE_STORES_MAX: usize = 64;
/// How often a node is taken back with a new store within [`REPAIRS_WITHIN_NS`]. After that its disk is
/// what is damaged.
pub const REPAIRS_MAX: usize = 3;
/// The time that [`REPAIRS_MAX`] counts in, nanoseconds of log time: an hour.
pub const REPAIRS_WITHIN_NS: u64 = 3_600_000_000_000;
/// First raft id that a node that joins gets; the first members have smaller ones, from the seed.
pub const RAFT_ID_JOINED_MIN: u64 = 16;
/// Longest address of a node, in bytes: a domain name of 253 and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Longest time that a node can be kept from being primary, in nanoseconds: a day. For longer than
/// that one gives it a lower priority.
pub const STEP_DOWN_MAX_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Voters: more cost latency and bring nothing.
pub const VOTERS_MAX: usize = 9;
/// Administrators of one cluster: they are listed whole, and every node holds their keys.
pub const ADMINS_MAX: usize = 64;
/// Join tokens that are remembered; the oldest dead ones make room.
pub const TOKENS_MAX: usize = 1024;
/// Names of those who came in with one token that a list shows: the last ones.
pub const TOKEN_USERS_SHOWN_MAX: usize = 32;
/// Uses of one join token.
pub const TOKEN_USES_MAX: u32 = 10_000;
/// Longest life of a join token, in nanoseconds: 30 days. A secret in a shell's history should not
/// outlive the reason it was made for.
pub const TOKEN_TTL_MAX_NS: u64 = 30 * 24 * 3600 * 1_000_000_000;
/// Access tokens of one client: one for each program that uses it, and some that are being replaced.
pub const ACCESS_PER_CLIENT_MAX: usize = 16;
/// Access tokens of one cluster that are remembered; the oldest dead ones make room.
pub const ACCESS_MAX: usize = 4096;
/// Longest life of an access token, in nanoseconds: 90 days, as a certificate's.
pub const ACCESS_TTL_MAX_NS: u64 = 90 * 24 * 3600 * 1_000_000_000;
/// Groups of one cluster.
pub const GROUPS_MAX: usize = 10_000;
/// Members of one group: it is listed whole, and each of them costs its readers nothing.
pub const GROUP_MEMBERS_MAX: usize = 10_000;
/// Groups that one client is or was in: an inbox merges the streams of all of them.
pub const GROUPS_PER_CLIENT_MAX: usize = 128;
/// Groups that one client may own, so that one alone cannot take the names of all, nor with its own
/// fill more than a quarter of what another may be in. A deleted one counts until its last message is
/// gone. An admin's are not counted.
pub const GROUPS_PER_OWNER_MAX: usize = 32;
/// Times that a client may come into and go out of one group. Beyond it, a new group.
pub const GROUP_STAYS_MAX: usize = 64;
/// Names in one change of a group: they stand in one header of its record.
pub const GROUP_CHANGE_NAMES_MAX: usize = 100;
/// Longest key of the dictionary, in bytes.
pub const KV_KEY_BYTES_MAX: usize = 512;
/// Largest value of the dictionary, in bytes. Larger things are messages.
pub const KV_VALUE_BYTES_MAX: usize = 256 << 10;
/// Keys of the dictionary.
pub const KV_KEYS_MAX: usize = 100_000;
/// Keys of the dictionary that one client may own, so that one alone cannot fill it. An admin's are
/// not counted.
pub const KV_KEYS_PER_CLIENT_MAX: usize = 10_000;
/// Rows of the dictionary in one answer, and their bytes together.
pub const KV_PAGE_ROWS: usize = 1000;
/// See `KV_PAGE_ROWS`; at least one row is always returned.
pub const KV_PAGE_BYTES: usize = 2 << 20;
/// Connections without a certificate at a time, each of which wants to join. Beyond it the one that
/// has been silent longest is let go, of the address that has most of them.
pub const JOINS_MAX: usize = 16;
/// How far a joiner's clock may be off, in nanoseconds: beyond it certificates and stamps would be
/// wrong, and the person who joins it should know at once.
pub const JOIN_CLOCK_MAX_NS: u64 = 60 * 1_000_000_000;
/// Slots of the placement table: many more than nodes, so that shares come out even.
pub const SLOTS: usize = 4096;

const _: () = assert!(CLIENT_BYTES_FREE <= NUMBERED_BYTES_MAX);
const _: () =
    assert!(FORWARDS_BYTES_MAX + NUMBERED_BYTES_MAX + FORWARDS_MAX * 512 < FRAME_BYTES_MAX);
const _: () = assert!(CLIENT_NUMBERED_MAX < (CLIENT_REQUESTS_MAX - CLIENT_REQUESTS_KEPT) / 2);
const _: () = assert!(BODY_BYTES_MAX + HEADER_BYTES_MAX + (64 << 10) < FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + BODY_BYTES_MAX + (64 << 10) < FRAME_BYTES_MAX);
const _: () = assert!(APPEND_BYTES_MAX <= FRAME_BYTES_MAX / 2);
const _: () = assert!(PAGE_BYTES_MAX + BODY_BYTES_MAX + (64 << 10) < FRAME_BYTES_MAX);
const _: () = assert!(GROUP_CHANGE_NAMES_MAX * (NAME_BYTES_MAX + 1) + 128 < HEADER_BYTES_MAX);
const _: () = assert!(GROUPS_PER_OWNER_MAX * 4 <= GROUPS_PER_CLIENT_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES < FRAME_BYTES_MAX);
const _: () = assert!(ENTRY_COMMANDS_SHARED <= ENTRY_COMMANDS_MAX);
const _: () = assert!(ENTRY_COMMANDS_MAX < BATCH_COMMANDS_MAX);
const _: () = assert!(HANDSHAKES_MAX < HANDSHAKES_PROVEN_MAX);
// What a node holds for clients, windows and all, is far less than 512 MiB.
const _: () = assert!(
    CLIENT_BYTES_MAX + CLIENT_REQUESTS_MAX * CLIENT_BYTES_FREE + PROPOSER_BYTES_MAX < 192 << 20
);
// The largest request is less than half of what one client alone may have.
const _: () = assert!(4 * (BODY_BYTES_MAX + (64 << 10)) < CLIENT_BYTES_MAX - CLIENT_BYTES_KEPT);
const _: () = assert!(4 * (BODY_BYTES_MAX + (64 << 10)) < PROPOSER_BYTES_MAX - PROPOSER_BYTES_KEPT);
/// Places in the log that one question to verify may ask for.
pub const PLACES_MAX: usize = 64;
/// Digests of its state that a node remembers, one an entry. Two nodes are compared at an entry that
/// both remember: far more than a follower is behind while anything works.
pub const DIGESTS_KEPT: usize = 1024;

/// Replicas compare the digests of their histories behind every entry whose index is a multiple of this:
/// seldom beside what an entry costs, and soon after they have gone different ways.
pub const STATES_COMPARED_EVERY: u64 = 256;
/// Places at which a node remembers what its state was like, of each kind: a node that is so many times
/// behind is compared later.
pub const STATES_KEPT: usize = 16;
