//! Who is at the other end: cluster, role and name, as the certificate's one synthetic DNS name
//! carries them, for example `bob.client.<cluster-id>.logd.internal`.

use std::fmt;
use std::str::FromStr;

use crate::name::{Name, NameError};

/// The domain that all synthetic names lie in; `.internal` is reserved for private use.
pub const DOMAIN: &str = "logd.internal";

/// Id of a cluster: 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(String);

impl ClusterId {
    /// Makes an id of 16 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentityError::Cluster)
        }
    }
}

/// What a certificate lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A daemon: opens the peer protocol.
    Node,
    /// A client: sends and reads its own messages.
    Client,
    /// An operator: registers clients, reads and deletes everything.
    Admin,
}

impl Role {
    /// The label in the synthetic name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "node" => Ok(Self::Node),
            "client" => Ok(Self::Client),
            "admin" => Ok(Self::Admin),
            _ => Err(IdentityError::Role),
        }
    }
}

/// Why a name in a certificate is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It does not lie in our domain.
    #[error("the name does not end in .{DOMAIN}")]
    Domain,
    /// The cluster label is not 32 hexadecimal digits.
    #[error("the name carries no cluster id")]
    Cluster,
    /// The role label is not node, client or admin.
    #[error("the name carries no role")]
    Role,
    /// The rest is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The proven identity of a connection's other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cluster whose authority signed the certificate.
    pub cluster: ClusterId,
    /// What it may do.
    pub role: Role,
    /// Who it is.
    pub name: Name,
}

impl Identity {
    /// The DNS name that stands for this identity in a certificate.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{}.{DOMAIN}", self.name, self.role.label(), self.cluster)
    }

    /// Reads an identity back from its DNS name.
    ///
    /// # Errors
    /// When the text is not a name that [`Identity::dns_name`] could have made.
    pub fn from_dns_name(text: &str) -> Result<Self, IdentityError> {
        let rest = text
            .strip_suffix(DOMAIN)
            .and_then(|rest| rest.strip_suffix('.'))
            .ok_or(IdentityError::Domain)?;
        let (rest, cluster) = rest.rsplit_once('.').ok_or(IdentityError::Cluster)?;
        let (name, role) = rest.rsplit_once('.').ok_or(IdentityError::Role)?;
        Ok(Self { cluster: cluster.parse()?, role: role.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role.label(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_round_trip() {
        let cluster = ClusterId::from_bytes([7; 16]);
        for (role, name) in [(Role::Node, "n1"), (Role::Client, "a.b_c"), (Role::Admin, "admin")] {
            let identity = Identity { cluster: cluster.clone(), role, name: name.parse().unwrap() };
            assert_eq!(Identity::from_dns_name(&identity.dns_name()), Ok(identity));
        }
    }

    #[test]
    fn foreign_names_are_refused_with_the_reason() {
        let id = "07".repeat(16);
        for (text, error) in [
            ("example.com".to_owned(), IdentityError::Domain),
            (format!("bob.client.{id}.logd.internal.evil"), IdentityError::Domain),
            ("bob.client.xyz.logd.internal".to_owned(), IdentityError::Cluster),
            (format!("bob.root.{id}.logd.internal"), IdentityError::Role),
            (format!("{id}.logd.internal"), IdentityError::Cluster),
        ] {
            assert_eq!(Identity::from_dns_name(&text), Err(error), "{text}");
        }
        assert!(Identity::from_dns_name(&format!("B.client.{id}.logd.internal")).is_err());
    }
}
