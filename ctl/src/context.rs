//! A context: which cluster, as whom, with which key, and where its nodes are.

use std::path::{Path, PathBuf};

use proto::{ClusterId, Name, Role};
use serde::{Deserialize, Serialize};

use crate::error::CtlError;
use crate::home::Home;

/// One context, as the file `contexts/NAME.toml` holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// Name in the certificate.
    pub(crate) name: Name,
    /// Role in the certificate.
    pub(crate) role: Role,
    /// Certificate of the cluster's authority.
    pub(crate) ca: PathBuf,
    /// Certificate.
    pub(crate) cert: PathBuf,
    /// Private key.
    pub(crate) key: PathBuf,
    /// Preferred gateway.
    pub(crate) home: Option<Name>,
    /// Nodes known when the context was made; the live list is learned from them.
    pub(crate) nodes: Vec<Node>,
}

/// A node that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: Name,
    /// `host:port`.
    pub(crate) address: String,
}

/// The file's own form: text where the types above have rules.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: String,
    name: String,
    role: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    #[serde(default, rename = "node")]
    nodes: Vec<NodeEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: String,
    address: String,
}

impl Context {
    /// Reads a context file.
    ///
    /// # Errors
    /// Exit code 2, with the file and what is wrong in it.
    pub(crate) fn from_toml(text: &str, path: &Path) -> Result<Self, CtlError> {
        let bad = |reason: String| {
            CtlError::usage(
                format!("{}: {}", path.display(), reason.trim_end()),
                "correct the file, or make the context again: logctl context add --help",
            )
        };
        let file: File = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        let name = |text: &str| text.parse::<Name>().map_err(|error| bad(error.to_string()));
        let nodes = file.nodes.iter().map(|node| {
            check_address(&node.address).map_err(bad)?;
            Ok(Node { name: name(&node.name)?, address: node.address.clone() })
        });
        Ok(Self {
            cluster: file.cluster.parse().map_err(|_| bad("cluster: not a cluster id".into()))?,
            name: name(&file.name)?,
            role: file.role.parse().map_err(|_| bad("role: not node, client or admin".into()))?,
            ca: file.ca,
            cert: file.cert,
            key: file.key,
            home: file.home.as_deref().map(name).transpose()?,
            nodes: nodes.collect::<Result<_, CtlError>>()?,
        })
    }

    /// The text of the file.
    pub(crate) fn to_toml(&self) -> String {
        let file = File {
            cluster: self.cluster.to_string(),
            name: self.name.to_string(),
            role: self.role.label().to_owned(),
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            home: self.home.as_ref().map(Name::to_string),
            nodes: self
                .nodes
                .iter()
                .map(|node| NodeEntry {
                    name: node.name.to_string(),
                    address: node.address.clone(),
                })
                .collect(),
        };
        // Tables of strings always serialize; an empty file would be refused when read.
        toml::to_string(&file).unwrap_or_default()
    }
}

/// Chooses the context of a command: the one named, else the current one.
///
/// # Errors
/// Exit code 5 when there is no such context, 2 when none is chosen at all.
pub(crate) fn choose(home: &Home, wanted: Option<&Name>) -> Result<(Name, Context), CtlError> {
    let name = match wanted {
        Some(name) => name.clone(),
        None => home.current()?.ok_or_else(|| none_chosen(home))?,
    };
    match home.load(&name)? {
        Some(context) => Ok((name, context)),
        None => Err(CtlError::not_found(
            format!("there is no context '{name}' in {}", home.folder().display()),
            "logctl context list",
        )),
    }
}

fn none_chosen(home: &Home) -> CtlError {
    let hint = match home.contexts() {
        Ok(names) if !names.is_empty() => "logctl context use NAME, or --as NAME",
        _ => "logctl demo, or logctl cluster create DIR",
    };
    CtlError::usage("no context is chosen: which cluster, and as whom?", hint)
}

/// Reads `n1=host:port`.
///
/// # Errors
/// With what was expected.
pub(crate) fn parse_node(text: &str) -> Result<Node, String> {
    let (name, address) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not of the form n1=host:port"))?;
    check_address(address)?;
    let name = name.parse().map_err(|error: proto::name::NameError| error.to_string())?;
    Ok(Node { name, address: address.to_owned() })
}

/// Whether a text is `host:port`, by the rule of every address.
///
/// # Errors
/// With what was expected.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    match proto::address::host_port(text, None) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("'{text}' is not an address of the form host:port: {why}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proto::ExitCode;

    use super::*;

    /// A context of a client with two nodes.
    pub(crate) fn sample(name: &str) -> Context {
        Context {
            cluster: ClusterId::from_bytes([7; 16]),
            name: name.parse().unwrap(),
            role: Role::Client,
            ca: format!("keys/{name}.ca.crt").into(),
            cert: format!("keys/{name}.crt").into(),
            key: format!("keys/{name}.key").into(),
            home: Some("n2".parse().unwrap()),
            nodes: ["n1=127.0.0.1:7101", "n2=[::1]:7102"].map(|n| parse_node(n).unwrap()).into(),
        }
    }

    #[test]
    fn the_file_is_readable_and_round_trips() {
        let text = sample("alice").to_toml();
        assert_eq!(
            text,
            r#"cluster = "07070707070707070707070707070707"
name = "alice"
role = "client"
ca = "keys/alice.ca.crt"
cert = "keys/alice.crt"
key = "keys/alice.key"
home = "n2"

[[node]]
name = "n1"
address = "127.0.0.1:7101"

[[node]]
name = "n2"
address = "[::1]:7102"
"#
        );
        assert_eq!(Context::from_toml(&text, Path::new("alice.toml")).unwrap(), sample("alice"));
    }

    #[test]
    fn errors_name_the_file_and_the_fault() {
        let good = sample("alice").to_toml();
        for (from, to, fault) in [
            ("role = ", "roll = ", "roll"),
            ("\"client\"", "\"root\"", "role"),
            ("0707", "07", "cluster"),
            ("[::1]:7102", "::1:7102", "::1:7102"),
            ("\"alice\"", "\"Alice\"", "Alice"),
        ] {
            let text = good.replacen(from, to, 1);
            let error = Context::from_toml(&text, Path::new("x/alice.toml")).unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Usage);
            let line = error.line();
            assert!(line.contains("x/alice.toml") && line.contains(fault), "{line}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:1", "n1.example:7101", "[::1]:7101"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in ["", "n1", ":7101", "n1:", "n1:0", "n1:70000", "::1:7101", "a b:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
