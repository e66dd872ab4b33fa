//! Access tokens: what the cluster remembers of what stands for a client's certificate. It holds a hash of
//! the secret, never the secret. Log time alone decides when a token expires, so that all replicas refuse
//! the same change of its client.

use bytes::Bytes;
use clock::Hlc;
use prost::Message;
use proto::access::{AccessView, CreateAccess};
use proto::event;
use proto::limits::{ACCESS_MAX, ACCESS_PER_CLIENT_MAX, ACCESS_TTL_MAX_NS};
use proto::token::{TokenId, TokenProof, TokenState, id_text};
use proto::wire::Tokens;
use proto::{Failure, Name};

use crate::rows::command::{ADMIN, Caller};
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::rows::keys;
use crate::rows::names::client_row;
use crate::rows::view::{Direction, Table, View};
use crate::rules::events::Event;
use crate::rules::input::{check_proof, no_token};
use crate::rules::machine::{Machine, Outcome, Place};

/// An access token.
#[derive(Clone, PartialEq, Message)]
struct AccessRow {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(uint64, tag = "3")]
    expires_ns: u64,
    #[prost(bool, tag = "4")]
    revoked: bool,
    #[prost(string, tag = "5")]
    by: String,
    #[prost(bytes = "bytes", tag = "6")]
    since: Bytes,
}

impl AccessRow {
    fn decode(bytes: Bytes) -> Result<Self, StateError> {
        Message::decode(bytes)
            .map_err(|_| StateError::corrupt(Table::Tokens, "an access token does not parse"))
    }

    fn state(&self, now: Hlc) -> TokenState {
        TokenState::at(now.ns, self.expires_ns, self.revoked, false)
    }

    fn is_live(&self, now: Hlc) -> bool {
        self.state(now) == TokenState::Live
    }

    /// Whether it may be used at an instant of log time.
    fn usable(&self, id: &[u8], now: Hlc) -> Result<(), Failure> {
        let why = match self.state(now) {
            TokenState::Live => return Ok(()),
            TokenState::Revoked => "was revoked",
            TokenState::Expired => "has expired",
            // It can be used as often as its holder likes.
            TokenState::UsedUp => "is used up",
        };
        let (id, client) = (id_text(id), &self.client);
        Err(denied(format!(
            "the access token {id} of '{client}' {why}: an admin makes another one with logctl access \
             create {client}"
        )))
    }

    fn view(self, id: &[u8], now: Hlc) -> AccessView {
        let state = self.state(now).label().to_owned();
        AccessView {
            id: id.to_vec(),
            client: self.client,
            expires_ns: self.expires_ns,
            state,
            by: self.by,
            since: self.since.to_vec(),
        }
    }
}

impl Machine<'_> {
    /// Remembers a token. The same one again is a retry.
    pub(crate) fn create_access(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        create: &CreateAccess,
    ) -> Result<Outcome, QueryError> {
        let proof = create.token.as_ref().ok_or_else(no_token)?;
        let (now, client) = (place.stamp.hlc, create.client.clone());
        let row = AccessRow {
            hash: Bytes::copy_from_slice(&proof.hash),
            client: client.clone(),
            expires_ns: now.ns.saturating_add(create.ttl_ns),
            revoked: false,
            by: caller.name.clone(),
            since: Bytes::copy_from_slice(&now.to_bytes()),
        };
        if let Some(before) = read(&self.rows, &proof.id)? {
            if (&before.hash, &before.client) != (&row.hash, &row.client) {
                return Err(conflict("another token has this id: take a new id").into());
            }
            return Ok(told(before.view(&proof.id, now)));
        }
        if self.client(&client)?.is_none() {
            return Err(not_found(format!("no client '{client}'")).into());
        }
        self.make_room_for_access(&client, now)?;
        self.put(Table::Tokens, keys::access(&proof.id), row.encode_to_vec());
        let text = format!("an access token for {client} was made");
        self.note(place, caller, vec![event(text, &proof.id, &client, "made")])?;
        Ok(told(row.view(&proof.id, now)))
    }

    /// Where no token fits any more, the oldest that nobody can use goes: of this client, or of all.
    fn make_room_for_access(&mut self, client: &str, now: Hlc) -> Result<(), QueryError> {
        let all = rows(&self.rows)?;
        let own = all.iter().filter(|(_, row)| row.client == client).count();
        let crowded = own >= ACCESS_PER_CLIENT_MAX;
        if !crowded && all.len() < ACCESS_MAX {
            return Ok(());
        }
        let dead = all.into_iter().filter(|(_, row)| !row.is_live(now));
        let dead = dead.filter(|(_, row)| !crowded || row.client == client);
        let Some((id, _)) = dead.min_by(|a, b| a.1.since.cmp(&b.1.since)) else {
            let (most, whose) = match crowded {
                true => (ACCESS_PER_CLIENT_MAX, format!(" of '{client}'")),
                false => (ACCESS_MAX, String::new()),
            };
            return Err(conflict(format!(
                "{most} access tokens{whose} are live, which is the limit: revoke some first"
            ))
            .into());
        };
        self.remove(Table::Tokens, keys::access(&id));
        Ok(())
    }

    pub(crate) fn revoke_access(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        id: &TokenId,
    ) -> Result<Outcome, QueryError> {
        let now = place.stamp.hlc;
        let Some(mut row) = read(&self.rows, &id.id)? else {
            let id = id_text(&id.id);
            return Err(
                not_found(format!("no access token {id}: logctl access list shows them")).into()
            );
        };
        if !row.revoked {
            row.revoked = true;
            self.put(Table::Tokens, keys::access(&id.id), row.encode_to_vec());
            let text = format!("an access token of {} was revoked", row.client);
            self.note(place, caller, vec![event(text, &id.id, &row.client, "revoked")])?;
        }
        Ok(told(row.view(&id.id, now)))
    }

    /// Revokes the live tokens that an administrator made. Returns how many.
    pub(crate) fn revoke_access_by(
        &mut self,
        place: &Place<'_>,
        admin: &str,
    ) -> Result<usize, QueryError> {
        let live = rows(&self.rows)?.into_iter();
        let live = live.filter(|(_, row)| row.by == admin && row.is_live(place.stamp.hlc));
        let mut count = 0;
        for (id, mut row) in live {
            row.revoked = true;
            self.put(Table::Tokens, keys::access(&id), row.encode_to_vec());
            count += 1;
        }
        Ok(count)
    }
}

fn told(view: AccessView) -> Outcome {
    Outcome::Tokens(Tokens { access: vec![view], ..Tokens::default() })
}

fn event(text: String, id: &[u8], client: &str, change: &str) -> Event {
    let event = Event::new(event::ACCESS, text).with("token", id_text(id));
    event.with("client", client).with("change", change)
}

fn read(view: &dyn View, id: &[u8]) -> Result<Option<AccessRow>, StateError> {
    view.get(Table::Tokens, &keys::access(id))?.map(AccessRow::decode).transpose()
}

/// All tokens with their ids, by id.
fn rows(view: &dyn View) -> Result<Vec<(Vec<u8>, AccessRow)>, StateError> {
    // Never more than may be remembered, so one scan holds them all.
    let found = view.scan(Table::Tokens, b"a", b"b", Direction::Forward, ACCESS_MAX + 1)?;
    let one = |(key, row): (Vec<u8>, Vec<u8>)| {
        Ok((key.get(1..).unwrap_or_default().to_vec(), AccessRow::decode(row.into())?))
    };
    found.into_iter().map(one).collect()
}

/// All access tokens, the newest last.
pub(crate) fn access_tokens(view: &dyn View, now: Hlc) -> Result<Vec<AccessView>, StateError> {
    let mut all = rows(view)?;
    all.sort_by(|a, b| a.1.since.cmp(&b.1.since));
    Ok(all.into_iter().map(|(id, row)| row.view(&id, now)).collect())
}

/// Refuses a client whose token is unknown, another client's, revoked, or expired at an instant of log time.
///
/// # Errors
/// `Denied` with the reason.
pub fn require_access(
    view: &dyn View,
    client: &str,
    id: &[u8],
    now: Hlc,
) -> Result<(), QueryError> {
    let row = read(view, id)?.ok_or_else(|| unknown(id))?;
    if row.client != client {
        return Err(denied(format!("the access token {} is another client's", id_text(id))).into());
    }
    Ok(row.usable(id, now)?)
}

/// The client that an access token stands for, whose secret somebody knows, at `now`, an instant of log time.
///
/// # Errors
/// `Denied` with the reason.
pub fn access(view: &dyn View, proof: &TokenProof, now: Hlc) -> Result<String, QueryError> {
    check_proof(proof)?;
    let row = read(view, &proof.id)?.ok_or_else(|| unknown(&proof.id))?;
    if !is_same(&row.hash, &proof.hash) {
        let id = id_text(&proof.id);
        return Err(denied(format!("the secret is not that of the access token {id}")).into());
    }
    row.usable(&proof.id, now)?;
    if client_row(view, &row.client)?.is_none() {
        return Err(denied(format!("the client '{}' is not registered", row.client)).into());
    }
    Ok(row.client)
}

fn unknown(id: &[u8]) -> Failure {
    let id = id_text(id);
    denied(format!(
        "this cluster does not know the access token {id}: it is another's, or was forgotten"
    ))
}

/// Compares hashes in a time that says nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let hash = |bytes: &[u8]| bytes.try_into().ok().map(blake3::Hash::from_bytes);
    hash(one).zip(hash(other)).is_some_and(|(one, other)| one == other)
}

/// What can be said of a new one without knowing any state.
pub(crate) fn check_create_access(create: &CreateAccess) -> Result<(), Failure> {
    check_proof(create.token.as_ref().ok_or_else(no_token)?)?;
    create.client.parse::<Name>().map_err(invalid)?;
    if create.client == ADMIN {
        return Err(invalid("an access token is for a client: an administrator has a certificate"));
    }
    if !(1..=ACCESS_TTL_MAX_NS).contains(&create.ttl_ns) {
        return Err(invalid("an access token lives for more than 0 and at most 90 days"));
    }
    Ok(())
}
