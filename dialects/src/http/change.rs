//! Changes of groups, of the dictionary and of settings, and what a node is to find out of itself.

use proto::group::{GroupMembers, GroupName, GroupOp};
use proto::kv::KvChange;
use proto::limits::PLACES_MAX;
use proto::wire::{Configure, GroupChange, Verify};
use proto::{ErrorCode, Failure, MessageId, Name};
use views::setting::{Setting, SettingError, change};

use super::{Query, invalid};

/// What of a group is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPart {
    /// It is made.
    Create,
    /// It ends.
    Delete,
    /// A member comes.
    Add,
    /// A member goes.
    Remove,
}

impl GroupPart {
    /// The change. `drawn` is its id if the parameters name none; `member` is for members alone.
    ///
    /// # Errors
    /// When something is not understood.
    pub fn change(
        self,
        (group, member): (&str, &str),
        mut query: Query,
        drawn: String,
    ) -> Result<GroupChange, Failure> {
        let name = group.parse::<Name>().map_err(invalid)?.to_string();
        let id = query.parsed::<MessageId>("id")?.map_or(drawn, |id| id.to_string());
        let members = |history| -> Result<GroupMembers, Failure> {
            let member = member.parse::<Name>().map_err(invalid)?.to_string();
            Ok(GroupMembers { name: name.clone(), members: vec![member], history })
        };
        let op = match self {
            Self::Create => GroupOp::Create(GroupName { name }),
            Self::Delete => GroupOp::Delete(GroupName { name }),
            Self::Add => GroupOp::Add(members(query.flag("history")?)?),
            Self::Remove => GroupOp::Remove(members(false)?),
        };
        query.end()?;
        Ok(GroupChange { op: Some(op), id })
    }
}

/// A change of a key: its new value, or `None` if it goes. Parameters: `id`, and `shared_with` (`*`, `@group`,
/// or nothing for nobody).
///
/// # Errors
/// When something is not understood.
pub fn kv_change(
    key: String,
    value: Option<Vec<u8>>,
    if_match: Option<&str>,
    mut query: Query,
    drawn: String,
) -> Result<KvChange, Failure> {
    let id = query.parsed::<MessageId>("id")?.map_or(drawn, |id| id.to_string());
    let shared_with = query.one("shared_with")?;
    query.end()?;
    if shared_with.is_some() && value.is_none() {
        return Err(invalid("a key that goes is shared with nobody"));
    }
    let expect = if_match.map(version).transpose()?;
    Ok(KvChange { key, value, expect, id, shared_with })
}

/// A change of one setting of the cluster, whose value comes as people write it: `30d`, `none`.
///
/// # Errors
/// When there is no such setting, or the value is none of it.
pub fn setting(name: &str, value: &[u8], query: Query) -> Result<Configure, Failure> {
    query.end()?;
    let value = std::str::from_utf8(value).map_err(invalid)?.trim();
    let setting = format!("{name}={value}").parse::<Setting>().map_err(|error| match error {
        SettingError::Form => {
            Failure::new(ErrorCode::NotFound, format!("there is no setting '{name}': {error}"))
        }
        SettingError::MaxClockError
        | SettingError::OnLoss
        | SettingError::RetainAge
        | SettingError::RetainCount
        | SettingError::RetainBytes
        | SettingError::CertLife => invalid(error),
    })?;
    change(&[setting]).ok_or_else(|| invalid("one setting at a time"))
}

/// What a node is to find out of itself: `?deep`, `?place=7&place=9`.
///
/// # Errors
/// When something is not understood, or asks for too much.
pub fn verify(mut query: Query) -> Result<Verify, Failure> {
    let deep = query.flag("deep")?;
    let number = |text: String| {
        text.parse().map_err(|_| invalid(format!("place={text} is no index of the log")))
    };
    let places: Vec<u64> = query.all("place").into_iter().map(number).collect::<Result<_, _>>()?;
    query.end()?;
    if places.len() > PLACES_MAX {
        return Err(invalid(format!("more than {PLACES_MAX} places")));
    }
    Ok(Verify { deep, places })
}

/// What a change is bound to: an `If-Match`, or `If-None-Match: *`, which wants that there is no such key.
///
/// # Errors
/// When both are there, or the second wants something else.
pub fn precondition<'a>(
    if_match: Option<&'a str>,
    if_none_match: Option<&str>,
) -> Result<Option<&'a str>, Failure> {
    match (if_match, if_none_match.map(str::trim)) {
        (if_match, None) => Ok(if_match),
        (None, Some("*")) => Ok(Some("0")),
        (Some(_), Some(_)) => Err(invalid("If-Match and If-None-Match are not for one change")),
        (None, Some(_)) => Err(invalid("of If-None-Match only '*' is understood")),
    }
}

/// The version in an `If-Match`, in quotes or without; 0 is that of a key that is not there.
///
/// # Errors
/// When it is none.
pub fn version(text: &str) -> Result<u64, Failure> {
    let text = text.trim();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let digits = quoted.unwrap_or(text);
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number.ok_or_else(|| {
        invalid("If-Match wants the version of the key, as \"7\"; \"0\" if there is none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(Some(text)).unwrap()
    }

    #[test]
    fn groups_are_changed_by_name() {
        let change = |part: GroupPart, names, text| part.change(names, query(text), "drawn".into());
        let made = change(GroupPart::Create, ("ops", ""), "id=x").unwrap();
        assert_eq!(made.id, "x");
        let added = change(GroupPart::Add, ("ops", "bob"), "history").unwrap();
        let Some(GroupOp::Add(members)) = added.op else { panic!("{added:?}") };
        assert!(members.history && members.members == ["bob"] && added.id == "drawn");
        for (part, names, text) in [
            (GroupPart::Create, ("Ops!", ""), ""),
            (GroupPart::Create, ("ops", ""), "history"),
            (GroupPart::Add, ("ops", ""), ""),
            (GroupPart::Remove, ("ops", "bob"), "history"),
            (GroupPart::Delete, ("ops", ""), "id=a%20b"),
        ] {
            assert!(change(part, names, text).is_err(), "{part:?} {names:?} {text}");
        }
    }

    #[test]
    fn a_setting_is_changed_as_people_write_it() {
        let made = setting("retain-age", b" 30d\n", query("")).unwrap();
        assert_eq!(made.retain_age_ms, Some(30 * 86_400_000));
        assert_eq!(made, Configure { retain_age_ms: made.retain_age_ms, ..Configure::default() });
        let refused = |name: &str, value: &str, text: &str| {
            setting(name, value.as_bytes(), query(text)).unwrap_err().error_code()
        };
        assert_eq!(refused("colour", "blue", ""), ErrorCode::NotFound);
        for (name, value, text) in [
            ("retain-age", "", ""),
            ("retain-age", "soon", ""),
            ("on-loss=refuse", "", ""),
            ("on-loss", "refuse", "id=x"),
        ] {
            assert_eq!(refused(name, value, text), ErrorCode::Invalid, "{name} {value} {text}");
        }
        assert!(setting("on-loss", b"\xff", query("")).is_err());
    }

    #[test]
    fn a_node_is_asked_for_so_many_places() {
        let asked = verify(query("deep&place=1&place=9")).unwrap();
        assert!(asked.deep && asked.places == [1, 9]);
        for bad in ["deep=maybe", "place=-1", "place=x", "index=1"] {
            assert!(verify(query(bad)).is_err(), "{bad}");
        }
        assert!(verify(query(&"place=1&".repeat(PLACES_MAX + 1))).is_err());
    }

    #[test]
    fn a_change_is_bound_to_one_thing() {
        assert_eq!(precondition(Some("7"), None).unwrap(), Some("7"));
        assert_eq!(precondition(None, Some(" * ")).unwrap(), Some("0"));
        assert_eq!(precondition(None, None).unwrap(), None);
        precondition(Some("7"), Some("*")).unwrap_err();
        precondition(None, Some("\"7\"")).unwrap_err();
    }

    #[test]
    fn a_key_is_changed_at_a_version() {
        let change = |value, if_match, text| {
            kv_change("k".into(), value, if_match, query(text), "drawn".into())
        };
        let put = change(Some(vec![1]), Some("\"7\""), "shared_with=@ops").unwrap();
        assert_eq!((put.expect, put.shared_with.as_deref()), (Some(7), Some("@ops")));
        assert_eq!(change(None, Some("0"), "id=x").unwrap().expect, Some(0));
        for (value, if_match, text) in [
            (Some(vec![]), Some("*"), ""),
            (Some(vec![]), Some("\"\""), ""),
            (Some(vec![]), Some("W/\"1\""), ""),
            (None, None, "shared_with=*"),
            (None, None, "version=1"),
        ] {
            assert!(change(value, if_match, text).is_err(), "{if_match:?} {text}");
        }
    }
}
