//! Join tokens: what the cluster remembers of each, and who came in with it. It holds a hash of the
//! secret, never the secret. Log time alone decides when a token expires.

use bytes::Bytes;
use clock::Hlc;
use planted::Bug;
use prost::Message;
use proto::admin::AdminKey;
use proto::limits::{TOKEN_TTL_MAX_NS, TOKEN_USERS_SHOWN_MAX, TOKEN_USES_MAX, TOKENS_MAX};
use proto::token::{
    AdmitClient, CreateToken, ID_BYTES, TokenId, TokenOp, TokenProof, TokenState, TokenView,
    id_text,
};
use proto::wire::{TokenChange, Tokens};
use proto::{Failure, Name, Role};

use crate::rows::command::{ADMIN, Caller};
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::rows::keys;
use crate::rows::member_rows::node;
use crate::rows::names::{admin_row, client_row, require_free, require_nobodys};
use crate::rows::values::ClientRow;
use crate::rows::view::{Direction, Table, View};
use crate::rules::access::{access_tokens, check_create_access};
use crate::rules::input::{check_proof, check_register, no_token, unknown_change};
use crate::rules::machine::{Machine, Outcome, Place};

/// A token.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TokenRow {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    #[prost(string, tag = "2")]
    role: String,
    #[prost(uint32, tag = "3")]
    uses: u32,
    #[prost(uint32, tag = "4")]
    used: u32,
    #[prost(uint64, tag = "5")]
    expires_ns: u64,
    #[prost(bool, tag = "6")]
    revoked: bool,
    #[prost(string, tag = "7")]
    name: String,
    #[prost(string, tag = "8")]
    by: String,
    #[prost(bytes = "bytes", tag = "9")]
    since: Bytes,
}

impl TokenRow {
    fn decode(bytes: Bytes) -> Result<Self, StateError> {
        Message::decode(bytes)
            .map_err(|_| StateError::corrupt(Table::Tokens, "a token does not parse"))
    }

    fn state(&self, now: Hlc) -> TokenState {
        TokenState::at(now.ns, self.expires_ns, self.revoked, self.used >= self.uses)
    }

    /// Whether somebody may come in with it now, who is not in yet.
    pub(crate) fn usable(
        &self,
        id: &[u8],
        role: Role,
        name: &str,
        now: Hlc,
    ) -> Result<(), Failure> {
        let id = id_text(id);
        if self.role != role.label() {
            let (own, other) = (&self.role, role.label());
            return Err(denied(format!("the join token {id} is for a {own}, not for a {other}")));
        }
        if !self.name.is_empty() && self.name != name {
            let own = &self.name;
            return Err(denied(format!("the join token {id} is for the name '{own}' alone")));
        }
        let why = match self.state(now) {
            TokenState::Live => return Ok(()),
            TokenState::Revoked => "was revoked".to_owned(),
            TokenState::Expired => "has expired".to_owned(),
            TokenState::UsedUp => format!("is used up ({} of {} uses)", self.used, self.uses),
        };
        Err(denied(format!(
            "the join token {id} {why}: an admin makes another one with logctl cluster token create"
        )))
    }

    /// The token as it is shown, but for who used it.
    fn view(self, id: &[u8], now: Hlc) -> TokenView {
        let state = self.state(now).label().to_owned();
        TokenView {
            id: id.to_vec(),
            role: self.role,
            uses: self.uses,
            used_by: Vec::new(),
            expires_ns: self.expires_ns,
            revoked: self.revoked,
            name: self.name,
            by: self.by,
            since: self.since.to_vec(),
            state,
            used: self.used,
        }
    }
}

impl Machine<'_> {
    pub(crate) fn change_tokens(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        change: &TokenChange,
    ) -> Result<Outcome, QueryError> {
        check(change)?;
        match change.op.as_ref().ok_or_else(unknown_change)? {
            TokenOp::AdmitClient(_) if !caller.is_node() => {
                Err(denied("only the nodes themselves may do that").into())
            }
            TokenOp::Create(_) | TokenOp::Revoke(_) if !caller.admin => {
                Err(denied("only an admin can make or revoke join tokens").into())
            }
            TokenOp::CreateAccess(_) | TokenOp::RevokeAccess(_) if !caller.admin => {
                Err(denied("only an admin can make or revoke access tokens").into())
            }
            TokenOp::Create(create) => self.create_token(place, caller, create),
            TokenOp::Revoke(id) => self.revoke_token(place, id),
            TokenOp::AdmitClient(ask) => self.admit_client(place, ask),
            TokenOp::CreateAccess(create) => self.create_access(place, caller, create),
            TokenOp::RevokeAccess(id) => self.revoke_access(place, caller, id),
        }
    }

    /// Remembers a token. The same one again is a retry.
    fn create_token(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        create: &CreateToken,
    ) -> Result<Outcome, QueryError> {
        let proof = create.token.as_ref().ok_or_else(no_token)?;
        let now = place.stamp.hlc;
        let token = TokenRow {
            hash: Bytes::copy_from_slice(&proof.hash),
            role: create.role.clone(),
            uses: create.uses,
            used: 0,
            expires_ns: now.ns.saturating_add(create.ttl_ns),
            revoked: false,
            name: create.name.clone(),
            by: caller.name.clone(),
            since: Bytes::copy_from_slice(&now.to_bytes()),
        };
        if let Some(before) = row(&self.rows, &proof.id)? {
            let same = |t: &TokenRow| (t.hash.clone(), t.role.clone(), t.uses, t.name.clone());
            if same(&before) != same(&token) {
                return Err(conflict("another token has this id: take a new id").into());
            }
            return self.answer(proof.id.as_slice(), before, now);
        }
        assert!(token.expires_ns >= now.ns, "a token lives from now on");
        self.require_of_use(create)?;
        self.make_room(now)?;
        self.put(Table::Tokens, keys::token(&proof.id), token.encode_to_vec());
        self.answer(proof.id.as_slice(), token, now)
    }

    /// Refuses a token for a name that nobody could come in under. A client or a node of that name may:
    /// the one with the key that it has, the other once its predecessor is removed.
    fn require_of_use(&self, create: &CreateToken) -> Result<(), QueryError> {
        let name = create.name.as_str();
        match create.role.parse() {
            Ok(Role::Node) if !name.is_empty() => require_nobodys(&self.rows, name),
            Ok(Role::Client) if !name.is_empty() => require_free(&self.rows, name),
            Ok(Role::Admin) => {
                require_free(&self.rows, name)?;
                require_nobodys(&self.rows, name)
            }
            Ok(Role::Node | Role::Client) | Err(_) => Ok(()),
        }
    }

    /// Where no token fits any more, the oldest one that nobody can use goes.
    fn make_room(&mut self, now: Hlc) -> Result<(), QueryError> {
        let all = rows(&self.rows)?;
        if all.len() < TOKENS_MAX {
            return Ok(());
        }
        let dead = all.into_iter().filter(|(_, token)| token.state(now) != TokenState::Live);
        let Some((id, token)) = dead.min_by(|a, b| a.1.since.cmp(&b.1.since)) else {
            return Err(conflict(format!(
                "{TOKENS_MAX} join tokens are live, which is the limit: revoke some first"
            ))
            .into());
        };
        assert_ne!(token.state(now), TokenState::Live, "no token goes that could be used");
        for number in 0..token.used {
            self.remove(Table::Tokens, keys::token_use(&id, number));
        }
        self.remove(Table::Tokens, keys::token(&id));
        Ok(())
    }

    fn revoke_token(&mut self, place: &Place<'_>, id: &TokenId) -> Result<Outcome, QueryError> {
        let Some(mut token) = row(&self.rows, &id.id)? else {
            let id = id_text(&id.id);
            let message = format!("no join token {id}: logctl cluster token list shows them");
            return Err(not_found(message).into());
        };
        if !token.revoked {
            token.revoked = true;
            self.put(Table::Tokens, keys::token(&id.id), token.encode_to_vec());
        }
        self.answer(id.id.as_slice(), token, place.stamp.hlc)
    }

    /// Revokes the tokens of both kinds that an administrator made and that somebody could still use: it may
    /// have kept one for itself. Returns how many.
    pub(crate) fn revoke_tokens_of(
        &mut self,
        place: &Place<'_>,
        admin: &str,
    ) -> Result<usize, QueryError> {
        let access = self.revoke_access_by(place, admin)?;
        Ok(access + self.revoke_tokens(place, |row| row.by == admin)?)
    }

    /// Revokes the tokens with which somebody could still become the administrator of this name.
    pub(crate) fn revoke_tokens_for(
        &mut self,
        place: &Place<'_>,
        admin: &str,
    ) -> Result<usize, QueryError> {
        self.revoke_tokens(place, |row| row.role == Role::Admin.label() && row.name == admin)
    }

    fn revoke_tokens(
        &mut self,
        place: &Place<'_>,
        which: impl Fn(&TokenRow) -> bool,
    ) -> Result<usize, QueryError> {
        let live = rows(&self.rows)?.into_iter();
        let live =
            live.filter(|(_, row)| which(row) && row.state(place.stamp.hlc) == TokenState::Live);
        let mut count = 0;
        for (id, mut token) in live {
            token.revoked = true;
            self.put(Table::Tokens, keys::token(&id), token.encode_to_vec());
            count += 1;
        }
        Ok(count)
    }

    fn answer(&self, id: &[u8], token: TokenRow, now: Hlc) -> Result<Outcome, QueryError> {
        let tokens =
            vec![TokenView { used_by: users(&self.rows, id, token.used)?, ..token.view(id, now) }];
        Ok(Outcome::Tokens(Tokens { tokens, ..Tokens::default() }))
    }

    /// Registers a client that brought a token. Who is registered with this key costs no use.
    fn admit_client(
        &mut self,
        place: &Place<'_>,
        ask: &AdmitClient,
    ) -> Result<Outcome, QueryError> {
        let before = self.client(&ask.name)?.cloned();
        let is_in = client_admission(&self.rows, before, ask, place.stamp.hlc)?;
        if let Some(home) = is_in {
            return Ok(Outcome::Registered { home });
        }
        if ask.admin {
            return self.admit_admin(place, ask);
        }
        let proof = ask.token.as_ref().ok_or_else(no_token)?;
        let fingerprint = ask.fingerprint.as_slice().try_into();
        let fingerprint = fingerprint.map_err(|_| invalid("a fingerprint has 32 bytes"))?;
        let mut row = self.new_client(place, fingerprint)?;
        row.home.clone_from(&ask.home);
        row.token = Bytes::copy_from_slice(&proof.id);
        use_up(self, &row.token, &ask.name)?;
        self.put_client(&ask.name, row);
        Ok(Outcome::Registered { home: ask.home.clone() })
    }
}

impl Machine<'_> {
    /// Enters an administrator that brought a token and may come in.
    fn admit_admin(&mut self, place: &Place<'_>, ask: &AdmitClient) -> Result<Outcome, QueryError> {
        let proof = ask.token.as_ref().ok_or_else(no_token)?;
        let token = known(&self.rows, proof)?;
        let (name, fingerprint) = (ask.name.clone(), ask.fingerprint.clone());
        // Whoever made the token has entered it.
        let by = Caller { name: token.by, admin: true, fingerprint: [0; 32] };
        self.add_admin(place, &by, &AdminKey { name, fingerprint })?;
        use_up(self, &proof.id, &ask.name)?;
        Ok(Outcome::Registered { home: String::new() })
    }
}

/// Counts one use of a token that was found usable.
pub(crate) fn use_up(machine: &mut Machine<'_>, id: &[u8], name: &str) -> Result<(), StateError> {
    let corrupt = || StateError::corrupt(Table::Tokens, "a token that was there is gone");
    let mut token = row(&machine.rows, id)?.ok_or_else(corrupt)?;
    machine.put(Table::Tokens, keys::token_use(id, token.used), name.as_bytes().to_vec());
    if !planted::is(Bug::TokenUsesUncounted) {
        token.used += 1;
    }
    assert!(token.used <= token.uses, "no token is used more often than it may be");
    machine.put(Table::Tokens, keys::token(id), token.encode_to_vec());
    Ok(())
}

/// The token that somebody knows the secret of.
pub(crate) fn known(view: &dyn View, proof: &TokenProof) -> Result<TokenRow, QueryError> {
    let id = id_text(&proof.id);
    let token = row(view, &proof.id)?.ok_or_else(|| {
        denied(format!(
            "this cluster does not know the join token {id}: it is another cluster's, or was \
             forgotten"
        ))
    })?;
    if token.hash[..] != proof.hash[..] {
        return Err(denied(format!("the secret is not that of the join token {id}")).into());
    }
    Ok(token)
}

fn row(view: &dyn View, id: &[u8]) -> Result<Option<TokenRow>, StateError> {
    view.get(Table::Tokens, &keys::token(id))?.map(TokenRow::decode).transpose()
}

/// All tokens with their ids, by id.
fn rows(view: &dyn View) -> Result<Vec<(Vec<u8>, TokenRow)>, StateError> {
    // Never more than may be remembered, so one scan holds them all.
    let limit = TOKENS_MAX + 1;
    let found = view.scan(Table::Tokens, b"t", b"u", Direction::Forward, limit)?;
    let one = |(key, row): (Vec<u8>, Vec<u8>)| {
        Ok((key.get(1..).unwrap_or_default().to_vec(), TokenRow::decode(row.into())?))
    };
    found.into_iter().map(one).collect()
}

/// Who came in last with a token.
fn users(view: &dyn View, id: &[u8], used: u32) -> Result<Vec<String>, StateError> {
    let first = used.saturating_sub(u32::try_from(TOKEN_USERS_SHOWN_MAX).unwrap_or(0));
    let (from, to) = (keys::token_use(id, first), keys::token_use(id, used));
    let found = view.scan(Table::Tokens, &from, &to, Direction::Forward, TOKEN_USERS_SHOWN_MAX)?;
    Ok(found.into_iter().map(|(_, name)| String::from_utf8_lossy(&name).into_owned()).collect())
}

/// All tokens of both kinds, the newest last; their states are those at `now`, an instant of log time.
///
/// # Errors
/// When the state cannot be read.
pub fn tokens(view: &dyn View, now: Hlc) -> Result<Tokens, StateError> {
    let mut all = rows(view)?;
    all.sort_by(|a, b| a.1.since.cmp(&b.1.since));
    let mut tokens = Vec::with_capacity(all.len());
    for (id, token) in all {
        let used_by = users(view, &id, token.used)?;
        tokens.push(TokenView { used_by, ..token.view(&id, now) });
    }
    Ok(Tokens { tokens, access: access_tokens(view, now)? })
}

/// Whether a client may come in with a token at `now`, an instant of log time: the rule that apply goes
/// by, for a gateway to ask of its own state first, so that who is refused costs no entry of the log.
/// Returns the home of one that is in already.
///
/// # Errors
/// `Denied` where the token does not allow it, `Conflict` where the name is another's, `NotFound` for
/// a home that is no node.
pub fn check_client_admission(
    view: &dyn View,
    ask: &AdmitClient,
    now: Hlc,
) -> Result<Option<String>, QueryError> {
    check_admit_client(ask)?;
    client_admission(view, client_row(view, &ask.name)?, ask, now)
}

/// The home of a client that is in already, `None` for one that may come in.
fn client_admission(
    view: &dyn View,
    before: Option<ClientRow>,
    ask: &AdmitClient,
    now: Hlc,
) -> Result<Option<String>, QueryError> {
    let proof = ask.token.as_ref().ok_or_else(no_token)?;
    let token = known(view, proof)?;
    if ask.admin {
        return admin_admission(view, &token, ask, now);
    }
    let taken = before.is_some();
    let same = before.filter(|row| row.fingerprint[..] == ask.fingerprint[..]);
    if let Some(row) = same.as_ref().filter(|row| row.token[..] == proof.id[..]) {
        return Ok(Some(row.home.clone()));
    }
    token.usable(&proof.id, Role::Client, &ask.name, now)?;
    if let Some(row) = same {
        return Ok(Some(row.home));
    }
    if taken {
        let name = &ask.name;
        return Err(conflict(format!("the name '{name}' is taken by another key")).into());
    }
    require_free(view, &ask.name)?;
    if !ask.home.is_empty() && node(view, &ask.home)?.is_none_or(|n| n.is_removed()) {
        return Err(not_found(format!("no node '{}' to be a home", ask.home)).into());
    }
    Ok(None)
}

/// An empty home for an administrator that is entered already, `None` for one that may be.
fn admin_admission(
    view: &dyn View,
    token: &TokenRow,
    ask: &AdmitClient,
    now: Hlc,
) -> Result<Option<String>, QueryError> {
    let before = admin_row(view, &ask.name)?;
    if before.is_some_and(|row| row.fingerprint == ask.fingerprint) {
        return Ok(Some(String::new()));
    }
    let id = ask.token.as_ref().ok_or_else(no_token)?.id.as_slice();
    token.usable(id, Role::Admin, &ask.name, now)?;
    require_free(view, &ask.name)?;
    require_nobodys(view, &ask.name)?;
    Ok(None)
}

/// Whether somebody may come in with a token at `now`, an instant of log time: the rule that apply
/// goes by, for a gateway to ask of its own state first. Who came in with it under this name
/// before passes, since an answer may have been lost; apply then looks at the key.
///
/// # Errors
/// `Denied` with the reason.
pub fn check_token(
    view: &dyn View,
    proof: &TokenProof,
    role: Role,
    name: &str,
    now: Hlc,
) -> Result<(), QueryError> {
    check_proof(proof)?;
    let token = known(view, proof)?;
    let came_with = match role {
        Role::Node => node(view, name)?.filter(|node| !node.is_removed()).map(|node| node.token),
        Role::Client => client_row(view, name)?.map(|row| row.token),
        Role::Admin => None,
    };
    if came_with.is_some_and(|id| id[..] == proof.id[..]) {
        return Ok(());
    }
    Ok(token.usable(&proof.id, role, name, now)?)
}

/// SHA-256 of the key that a name was admitted with; `None` for a name that is not admitted, was
/// removed, or whose key nobody noted (first members). A signer signs no other key.
///
/// # Errors
/// When the state cannot be read.
pub fn admitted_key(
    view: &dyn View,
    role: Role,
    name: &str,
) -> Result<Option<[u8; 32]>, StateError> {
    let key = match role {
        Role::Node => {
            let node = node(view, name)?.filter(|node| !node.is_removed());
            node.map(|node| Bytes::from(node.row.fingerprint))
        }
        Role::Client => client_row(view, name)?.map(|row| row.fingerprint),
        Role::Admin => admin_row(view, name)?.map(|row| Bytes::from(row.fingerprint)),
    };
    Ok(key.and_then(|key| key[..].try_into().ok()))
}

/// Why the holder of a key may have no further certificate under a name; `None` if it may. The
/// authority has signed an earlier one for this name, role and key.
///
/// # Errors
/// When the state cannot be read.
pub fn renewal_refusal(
    view: &dyn View,
    role: Role,
    name: &str,
    fingerprint: &[u8; 32],
) -> Result<Option<String>, StateError> {
    let another = |known: &[u8]| !known.is_empty() && known != fingerprint;
    Ok(match role {
        Role::Node => match node(view, name)? {
            None => Some(format!("{name} is not a node of this cluster")),
            Some(node) if node.revokes(Some(fingerprint), node.row.raft_id) => {
                Some(format!("{name} was removed from the cluster and its key with it"))
            }
            Some(node) if another(&node.row.fingerprint) => {
                Some(format!("the node {name} was admitted with another key"))
            }
            Some(_) => None,
        },
        Role::Client => match client_row(view, name)? {
            None => Some(format!("the client '{name}' is not registered")),
            Some(row) if another(&row.fingerprint) => {
                Some(format!("the client '{name}' is registered with another key"))
            }
            Some(_) => None,
        },
        Role::Admin => match crate::rules::admins::require_admin(view, name, fingerprint) {
            Ok(()) => None,
            Err(QueryError::Refused(failure)) => Some(failure.message),
            Err(QueryError::State(error)) => return Err(error),
        },
    })
}

/// What can be said of a change without knowing any state.
pub(crate) fn check(change: &TokenChange) -> Result<(), Failure> {
    match change.op.as_ref().ok_or_else(unknown_change)? {
        TokenOp::Create(create) => check_create(create),
        TokenOp::Revoke(id) | TokenOp::RevokeAccess(id) if id.id.len() != ID_BYTES => {
            Err(invalid(format!("the id of a token has {ID_BYTES} bytes")))
        }
        TokenOp::Revoke(_) | TokenOp::RevokeAccess(_) => Ok(()),
        TokenOp::CreateAccess(create) => check_create_access(create),
        TokenOp::AdmitClient(ask) => check_admit_client(ask),
    }
}

fn check_admit_client(ask: &AdmitClient) -> Result<(), Failure> {
    check_proof(ask.token.as_ref().ok_or_else(no_token)?)?;
    if ask.fingerprint.len() != 32 {
        return Err(invalid("a fingerprint has 32 bytes"));
    }
    check_register(&ask.name, &ask.home)
}

fn check_create(create: &CreateToken) -> Result<(), Failure> {
    check_proof(create.token.as_ref().ok_or_else(no_token)?)?;
    let Ok(role) = create.role.parse::<Role>() else {
        return Err(invalid("a join token is for a node, a client or an administrator"));
    };
    if role == Role::Admin && (create.name.is_empty() || create.uses != 1) {
        return Err(invalid("a token for an administrator is for one name, and can be used once"));
    }
    if !(1..=TOKEN_USES_MAX).contains(&create.uses) {
        return Err(invalid(format!(
            "{} uses of a join token; 1 to {TOKEN_USES_MAX} are allowed",
            create.uses
        )));
    }
    if !(1..=TOKEN_TTL_MAX_NS).contains(&create.ttl_ns) {
        return Err(invalid("a join token lives for more than 0 and at most 30 days"));
    }
    if create.name.is_empty() {
        return Ok(());
    }
    create.name.parse::<Name>().map_err(invalid)?;
    if role == Role::Client && create.name == ADMIN {
        return Err(invalid(format!("the name '{ADMIN}' is reserved")));
    }
    Ok(())
}
