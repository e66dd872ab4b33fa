//! `logctl admin recover`: an administrator by the authority's key, where no other has a key any more.
//!
//! The key is always a new one, and takes the place of a former one under that name only once the cluster
//! has entered it: a refusal leaves everything as it was.

use std::path::PathBuf;

use certs::IssueOptions;
use proto::admin::{AdminChange, AdminOp, AdminRecovery};
use proto::wire::{Op, Reply};
use proto::{ClusterId, Identity, Name, Role};
use serde::Serialize;

use crate::cli::{AdminRecover, Globals};
use crate::context::{Context, Node};
use crate::error::CtlError;
use crate::home::{Home, make_private_dir};
use crate::out::{Cell, Out, Show};
use crate::session::Session;

use super::register::refuse_other;

/// Who was entered.
#[derive(Debug, Serialize)]
struct RecoveredView {
    name: String,
    context: String,
    /// First bytes of the hash of its key.
    key: String,
}

/// The three files of an identity, by what their names end with.
struct Files([PathBuf; 3]);

impl Files {
    fn new(home: &Home, name: &Name, mark: &str) -> Self {
        Self(["ca.crt", "crt", "key"].map(|end| home.key_file(name, &format!("{mark}{end}"))))
    }

    fn context(&self, home: &Home, identity: &Identity, nodes: &[Node]) -> Context {
        let [ca, cert, key] =
            self.0.each_ref().map(|path| path.strip_prefix(home.folder()).unwrap_or(path).into());
        let Identity { cluster, name, role } = identity.clone();
        Context { cluster, name, role, ca, cert, key, home: None, nodes: nodes.to_vec() }
    }
}

pub(super) async fn run(
    args: AdminRecover,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let AdminRecover { name, ca_key, ca, nodes } = args;
    let home = Home::from_env()?;
    let ca = ca.unwrap_or_else(|| ca_key.with_file_name("ca.crt"));
    let authority = crate::renewal::authority(&ca, &ca_key)?;
    let cluster = authority.cluster().clone();
    refuse_other(&name, (&cluster, Role::Admin), &home)?;
    let nodes = if nodes.is_empty() { known_nodes(&home, &cluster)? } else { nodes };
    let identity = Identity { cluster, role: Role::Admin, name: name.clone() };

    let (key_pem, csr) = certs::new_request()?;
    let signed = authority.sign_csr(&csr, &identity, &IssueOptions::default())?;
    let said = AdminRecovery {
        name: name.to_string(),
        fingerprint: signed.fingerprint.to_vec(),
        signature: authority.sign_recovery(&name, &signed.fingerprint)?,
    };
    let (trial, kept) = (Files::new(&home, &name, "new."), Files::new(&home, &name, ""));
    let [trial_ca, trial_cert, trial_key] = &trial.0;
    make_private_dir(trial_key.parent().unwrap_or_else(|| home.folder()))?;
    certs::write_private(trial_key, &key_pem)?;
    certs::write_public(trial_cert, &signed.cert_pem)?;
    certs::write_public(trial_ca, authority.cert_pem())?;
    let entered = enter(globals, &home, &name, trial.context(&home, &identity, &nodes), said).await;
    if let Err(error) = entered {
        for path in &trial.0 {
            std::fs::remove_file(path).map_err(CtlError::file("remove", path))?;
        }
        return Err(error);
    }
    out.did(format!("{name} is an administrator, as the context of that name"));
    for (from, to) in trial.0.iter().zip(&kept.0) {
        std::fs::rename(from, to).map_err(CtlError::file("rename", from))?;
    }
    home.store(&name, &kept.context(&home, &identity, &nodes))?;
    if home.current()?.is_none() {
        home.set_current(&name)?;
    }
    out.one(&RecoveredView {
        name: name.to_string(),
        context: name.to_string(),
        key: signed.fingerprint.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
    })?;
    out.hand_over();
    out.note("the cluster has noted it, for all to see: logctl events --types admin");
    out.note(&format!("next: logctl --as {name} admin list, and admin remove whose key is lost"));
    Ok(())
}

async fn enter(
    globals: &Globals,
    home: &Home,
    name: &Name,
    context: Context,
    said: AdminRecovery,
) -> Result<(), CtlError> {
    let session = Session::with(globals, home, name, context, globals.via.as_ref())?;
    let change = AdminChange { op: Some(AdminOp::Recover(said)) };
    let answer = session.call(Op::Admin(change)).await;
    session.close().await;
    match answer? {
        (_, Reply::Admins(_)) => Ok(()),
        _ => Err(CtlError::unexpected("no administrators")),
    }
}

/// Nodes of the cluster that some context here knows.
fn known_nodes(home: &Home, cluster: &ClusterId) -> Result<Vec<Node>, CtlError> {
    for name in home.contexts()? {
        match home.load(&name)? {
            Some(context) if context.cluster == *cluster && !context.nodes.is_empty() => {
                return Ok(context.nodes);
            }
            _ => {}
        }
    }
    Err(CtlError::usage("no context here knows a node of this cluster", "give --node n1=HOST:PORT"))
}

impl Show for RecoveredView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "CONTEXT", "KEY"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), self.context.clone(), self.key.clone()]
    }
}
