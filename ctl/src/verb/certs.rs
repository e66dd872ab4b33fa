//! `logctl certs`: until when certificates are valid, and new ones for the same names and keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::{Credentials, Date, IssueOptions};
use proto::ExitCode;
use proto::life::{LIFE_DEFAULT_S, Life, Validity, left_text};
use serde::Serialize;

use crate::cli::{Certs, CertsRenew, Globals};
use crate::context;
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show, Tone};
use crate::renewal::{Files, now_s};
use crate::session::Session;

/// A certificate.
#[derive(Debug, Serialize)]
struct CertView {
    name: String,
    role: String,
    not_after: String,
    not_after_unix_s: i64,
    left_s: i64,
    /// `fine`, `late` or `expired`.
    state: &'static str,
    /// Whether it holds the authority's key.
    signs: bool,
    file: Option<String>,
    /// SHA-256 of the certificate, as openssl prints it; not of those that only a node has.
    fingerprint: Option<String>,
}

pub(crate) async fn run(args: Certs, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match args {
        Certs::Show => show(globals, out).await,
        Certs::Renew(CertsRenew { ca_key: Some(ca_key), ca, certs, life }) => {
            let life = life.unwrap_or(Duration::from_secs(LIFE_DEFAULT_S));
            let ca = ca.unwrap_or_else(|| ca_key.with_file_name("ca.crt"));
            let certs = if certs.is_empty() { beside(&ca_key)? } else { certs };
            let signed = sign(&ca, &ca_key, &certs, life)?;
            signed.iter().for_each(|cert| out.did(cert.renewed()));
            out.list(&signed)
        }
        Certs::Renew(CertsRenew { ca_key: None, .. }) => renew(globals, out).await,
    }
}

/// Has the certificate of the context in use renewed.
async fn renew(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    let (name, context) = context::choose(&home, globals.context.as_ref())?;
    let files = Files::of(&home, &name, &context);
    let before = files.load_any_age()?;
    // Beginning a conversation renews what is over.
    let session = Session::with(globals, &home, &name, context, globals.via.as_ref())?;
    let now = files.load_any_age()?;
    let renewed =
        if now.not_after_unix() > before.not_after_unix() { Ok(()) } else { session.renew().await };
    session.close().await;
    renewed?;
    let view = CertView::own(&files.load_any_age()?, &files.cert);
    out.did(view.renewed());
    out.one(&view)
}

async fn show(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    let (name, context) = context::choose(&home, globals.context.as_ref())?;
    let files = Files::of(&home, &name, &context);
    let own = files.load_any_age()?;
    let mut views = vec![CertView::own(&own, &files.cert)];
    let authority = certs::authority_life(own.ca_pem())?;
    let ca = Some(files.ca.display().to_string());
    views.push(CertView::of("authority", "authority", authority, false, ca));
    match nodes(globals, &home).await {
        Ok(nodes) => views.extend(nodes),
        // A mistyped --via is no node that is down.
        Err(error) if error.exit_code() == ExitCode::NotFound => return Err(error),
        Err(error) => out.warn(&format!("no node answers about the others: {}", error.line())),
    }
    out.list(&views)?;
    let wrong = views.iter().filter(|view| view.state != "fine");
    let wrong: Vec<_> = wrong
        .map(|view| match view.state {
            "expired" => format!("{} {} has expired", view.role, view.name),
            _ => {
                format!("{} {} is valid for {} more", view.role, view.name, left_text(view.left_s))
            }
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let what = format!("certificates are due: {}", wrong.join("; "));
    Err(CtlError::refused(ExitCode::Degraded, what, crate::renewal::HINT))
}

async fn nodes(globals: &Globals, home: &Home) -> Result<Vec<CertView>, CtlError> {
    let session = Session::open(globals, home)?;
    let rows = session.nodes().await;
    session.close().await;
    let known = rows?.into_iter().filter(|row| row.not_after_unix_s != 0);
    let view = |row: proto::wire::NodeRow| {
        let (from_unix_s, until_unix_s) = (row.not_before_unix_s, row.not_after_unix_s);
        CertView::of(&row.name, "node", Life { from_unix_s, until_unix_s }, row.signs, None)
    };
    Ok(known.map(view).collect())
}

/// Certificates in the folder of the authority's key whose own keys are there.
fn beside(ca_key: &Path) -> Result<Vec<PathBuf>, CtlError> {
    let folder = ca_key.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let entries = std::fs::read_dir(folder).map_err(CtlError::file("list", folder))?;
    let mut certs = Vec::new();
    for entry in entries {
        let path = entry.map_err(CtlError::file("list", folder))?.path();
        if path.extension().is_some_and(|end| end == "crt") && path.with_extension("key").exists() {
            certs.push(path);
        }
    }
    certs.retain(|path| path.file_stem() != ca_key.file_stem());
    certs.sort();
    if certs.is_empty() {
        let what = format!("{} holds no certificate with its key", folder.display());
        return Err(CtlError::not_found(what, "give --cert FILE"));
    }
    Ok(certs)
}

/// For so long, with the host names that the old one has.
fn again(own: &Credentials, life: Duration) -> IssueOptions {
    IssueOptions { alt_names: own.hosts(), ..IssueOptions::living(life) }
}

/// Signs certificates anew, here. All are looked at before the first is written.
fn sign(
    ca: &Path,
    ca_key: &Path,
    certs: &[PathBuf],
    life: Duration,
) -> Result<Vec<CertView>, CtlError> {
    let authority = crate::renewal::authority(ca, ca_key)?;
    let mut signed = Vec::new();
    for cert in certs {
        let key = cert.with_extension("key");
        let own = Credentials::load_any_age(ca, cert, &key)?;
        let csr = certs::request_for_key_file(&key)?;
        let fresh = authority.sign_csr(&csr, own.identity(), &again(&own, life))?;
        signed.push((cert, key, fresh.cert_pem));
    }
    let mut views = Vec::new();
    for (cert, key, pem) in signed {
        certs::write_public(cert, &pem)?;
        views.push(CertView::own(&Credentials::load(ca, cert, &key)?, cert));
    }
    Ok(views)
}

impl CertView {
    fn of(name: &str, role: &str, life: Life, signs: bool, file: Option<String>) -> Self {
        let now = now_s();
        Self {
            name: name.to_owned(),
            role: role.to_owned(),
            not_after: Date(life.until_unix_s).to_string(),
            not_after_unix_s: life.until_unix_s,
            left_s: life.until_unix_s.saturating_sub(now).max(0),
            state: match life.standing(now) {
                Validity::Fine => "fine",
                Validity::Late => "late",
                Validity::Expired => "expired",
            },
            signs,
            file,
            fingerprint: None,
        }
    }

    /// What was done, where the answer is lost.
    fn renewed(&self) -> String {
        format!("the certificate of {} {} is valid until {}", self.role, self.name, self.not_after)
    }

    fn own(credentials: &Credentials, file: &Path) -> Self {
        let identity = credentials.identity();
        let (name, role) = (identity.name.as_str(), identity.role.label());
        let file = Some(file.display().to_string());
        let fingerprint = Some(credentials.cert_sha256_text());
        Self { fingerprint, ..Self::of(name, role, credentials.life(), false, file) }
    }
}

impl Show for CertView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "ROLE", "VALID UNTIL", "LEFT", "STATE", "SIGNS", "FILE"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = match self.state {
            "fine" => Tone::Good,
            "late" => Tone::Warning,
            _ => Tone::Bad,
        };
        vec![
            self.name.as_str().into(),
            self.role.as_str().into(),
            self.not_after.as_str().into(),
            left_text(self.left_s).into(),
            Cell::toned(self.state, tone),
            if self.signs { "yes" } else { "no" }.into(),
            self.file.as_deref().unwrap_or("-").into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.role.clone(),
            self.not_after.clone(),
            self.left_s.to_string(),
            self.state.to_owned(),
            self.signs.to_string(),
            self.file.clone().unwrap_or_default(),
            self.fingerprint.clone().unwrap_or_default(),
        ]
    }
}
