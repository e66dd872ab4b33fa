//! What can be said of one field, or of a few, without knowing any state: what requests have in common.
//!
//! Not here: which request is checked by what (`check`).

use bytes::Bytes;
use proto::group::{TYPE, TYPE_GROUP};
use proto::life::{LIFE_MAX_S, LIFE_MIN_S};
use proto::limits::{
    BODY_BYTES_MAX, CLOCK_ERROR_MAX_US, CLOCK_ERROR_MIN_US, HEADER_BYTES_MAX, HEADERS_MAX,
    NAME_BYTES_MAX, REASON_BYTES_MAX, RETAIN_AGE_MIN_MS,
};
use proto::token::{ID_BYTES, TokenProof};
use proto::wire::{Configure, OnLoss, Position};
use proto::{Failure, Header, MessageId, Name, Stream};

use crate::SHARD;
use crate::rows::command::ADMIN;
use crate::rows::error::{denied, invalid};

pub(crate) fn check_send(
    to: &str,
    id: &str,
    headers: &[Header],
    body: &Bytes,
) -> Result<Stream, Failure> {
    let stream: Stream = to.parse().map_err(invalid)?;
    MessageId::check(id).map_err(invalid)?;
    if stream == Stream::Events {
        return Err(denied("'$events' is written by the cluster alone"));
    }
    if matches!(stream, Stream::Group(_)) && says_change(headers) {
        return Err(denied("the header type=group marks what the cluster itself says in a group"));
    }
    check_content(headers, body)?;
    Ok(stream)
}

/// Whether headers are those of a record that says how a group changed.
pub(crate) fn says_change(headers: &[Header]) -> bool {
    headers.iter().any(|header| header.key == TYPE && header.value == TYPE_GROUP)
}

pub(crate) fn check_event(id: &str, headers: &[Header], body: &Bytes) -> Result<(), Failure> {
    MessageId::check(id).map_err(invalid)?;
    check_content(headers, body)
}

fn check_content(headers: &[Header], body: &Bytes) -> Result<(), Failure> {
    if body.len() > BODY_BYTES_MAX {
        let len = body.len();
        return Err(invalid(format!(
            "a body of {len} bytes; at most {BODY_BYTES_MAX} are allowed"
        )));
    }
    if headers.len() > HEADERS_MAX {
        let n = headers.len();
        return Err(invalid(format!("{n} headers; at most {HEADERS_MAX} are allowed")));
    }
    let bytes: usize = headers.iter().map(|h| h.key.len() + h.value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(invalid(format!(
            "headers of {bytes} bytes together; at most {HEADER_BYTES_MAX} are allowed"
        )));
    }
    let fits =
        |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    match headers.iter().position(|h| !fits(&h.key)) {
        Some(i) => Err(invalid(format!(
            "header {}: a key is 1 or more printable ASCII characters, no space and no '='",
            i + 1
        ))),
        None => Ok(()),
    }
}

pub(crate) fn check_delete(id: &str, from: &str, reason: &str) -> Result<(), Failure> {
    MessageId::check(id).map_err(invalid)?;
    check_optional_name(from)?;
    if reason.len() > REASON_BYTES_MAX {
        let len = reason.len();
        return Err(invalid(format!(
            "a reason of {len} bytes; at most {REASON_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

pub(crate) fn check_register(name: &str, home: &str) -> Result<(), Failure> {
    name.parse::<Name>().map_err(invalid)?;
    check_optional_name(home)?;
    if name == ADMIN {
        return Err(invalid(format!("the name '{ADMIN}' is reserved")));
    }
    Ok(())
}

pub(crate) fn check_cursor(name: &str, positions: &[Position]) -> Result<(), Failure> {
    if name.parse::<Name>().is_err() {
        return Err(invalid(format!(
            "a cursor's name is 1 to {NAME_BYTES_MAX} of a-z 0-9 . _ -, the first and last a \
             letter or digit"
        )));
    }
    match positions {
        [Position { shard, .. }] if *shard == u32::from(SHARD) => Ok(()),
        [Position { shard, .. }] => Err(invalid(format!("there is no shard {shard}"))),
        _ => Err(invalid("a cursor takes exactly one position per shard")),
    }
}

pub(crate) fn check_settings(change: &Configure) -> Result<(), Failure> {
    let &Configure { max_clock_error_us, on_loss, retain_age_ms, cert_life_s, .. } = change;
    if *change == Configure::default() {
        return Err(invalid("no setting is given: there is nothing to change"));
    }
    let allowed = CLOCK_ERROR_MIN_US..=CLOCK_ERROR_MAX_US;
    if let Some(us) = max_clock_error_us.filter(|us| !allowed.contains(us)) {
        return Err(invalid(format!(
            "a largest clock error of {us} us; {CLOCK_ERROR_MIN_US} to {CLOCK_ERROR_MAX_US} are \
             allowed"
        )));
    }
    if let Some(ms) = retain_age_ms.filter(|ms| (1..RETAIN_AGE_MIN_MS).contains(ms)) {
        return Err(invalid(format!(
            "messages that stay for {ms} ms; {RETAIN_AGE_MIN_MS} is the least, 0 says for ever"
        )));
    }
    if let Some(s) = cert_life_s.filter(|s| !(LIFE_MIN_S..=LIFE_MAX_S).contains(s)) {
        return Err(invalid(format!(
            "certificates that live for {s} s; {LIFE_MIN_S} to {LIFE_MAX_S} are allowed"
        )));
    }
    match on_loss.map(OnLoss::try_from) {
        Some(Err(_)) => Err(invalid("on_loss is neither degrade nor refuse")),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn check_optional_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() { Ok(()) } else { name.parse::<Name>().map(|_| ()).map_err(invalid) }
}

/// The refusal of a change that a newer release asks for.
pub(crate) fn unknown_change() -> Failure {
    invalid("a change that this release does not know")
}

pub(crate) fn check_proof(proof: &TokenProof) -> Result<(), Failure> {
    if proof.id.len() != ID_BYTES || proof.hash.len() != 32 {
        return Err(invalid(format!("a token has an id of {ID_BYTES} bytes and a hash of 32")));
    }
    Ok(())
}

/// The refusal of somebody who comes without a token.
pub(crate) fn no_token() -> Failure {
    invalid("nobody is admitted without a token")
}
