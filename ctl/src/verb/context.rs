//! `logctl context`: which cluster, as whom.

use std::path::Path;

use certs::Credentials;
use proto::{ExitCode, Name, Role};
use serde::Serialize;

use crate::cli::{self, ContextAdd, Globals};
use crate::context::{self, Context, parse_node};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show, Tone};

/// A context in a list.
#[derive(Debug, Serialize)]
struct ListView {
    name: String,
    current: bool,
    identity: String,
    role: &'static str,
    cluster: String,
    home: Option<String>,
}

/// A context by itself.
#[derive(Debug, Serialize)]
struct ContextView {
    #[serde(flatten)]
    head: ListView,
    ca: String,
    cert: String,
    key: String,
    expires: Option<String>,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
struct NodeView {
    name: String,
    address: String,
}

pub(crate) fn run(args: cli::Context, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    match args {
        cli::Context::List => list(&home, out),
        cli::Context::Use { name } => choose(&home, &name, out),
        cli::Context::Show { name } => {
            let (name, context) =
                context::choose(&home, name.as_ref().or(globals.context.as_ref()))?;
            show(&home, &name, &context, out)
        }
        cli::Context::Add(args) => add(&args, &home, out),
        cli::Context::Remove { name } => {
            context::choose(&home, Some(&name))?;
            home.remove(&name)?;
            out.note(&format!("context '{name}' is forgotten; its key stays where it is"));
            Ok(())
        }
        cli::Context::Previous => match home.previous()? {
            Some(name) => choose(&home, &name, out),
            None => Err(CtlError::not_found("there was no context before", "logctl context list")),
        },
    }
}

fn list(home: &Home, out: &mut Out) -> Result<(), CtlError> {
    let current = home.current()?;
    let mut rows = Vec::new();
    for name in home.contexts()? {
        // One damaged file must not hide the others.
        match home.load(&name) {
            Ok(Some(context)) => rows.push(head(&name, &context, current.as_ref())),
            Ok(None) => {}
            Err(error) => out.warn(&error.line()),
        }
    }
    if rows.is_empty() {
        out.note("no contexts; logctl demo or logctl cluster create DIR makes the first");
    }
    out.list(&rows)
}

fn choose(home: &Home, name: &Name, out: &Out) -> Result<(), CtlError> {
    let (_, context) = context::choose(home, Some(name))?;
    home.set_current(name)?;
    out.note(&format!(
        "now {} {} of cluster {}",
        context.role.label(),
        context.name,
        context.cluster
    ));
    Ok(())
}

fn show(home: &Home, name: &Name, context: &Context, out: &mut Out) -> Result<(), CtlError> {
    let full = |path: &Path| home.folder().join(path);
    let (ca, cert, key) = (full(&context.ca), full(&context.cert), full(&context.key));
    let expires = match Credentials::load_any_age(&ca, &cert, &key) {
        Ok(credentials) => Some(certs::Date(credentials.not_after_unix()).to_string()),
        Err(error) => {
            out.warn(&error.to_string());
            None
        }
    };
    let view = ContextView {
        head: head(name, context, home.current()?.as_ref()),
        ca: ca.display().to_string(),
        cert: cert.display().to_string(),
        key: key.display().to_string(),
        expires,
        nodes: context
            .nodes
            .iter()
            .map(|node| NodeView { name: node.name.to_string(), address: node.address.clone() })
            .collect(),
    };
    out.one(&view)
}

fn add(args: &ContextAdd, home: &Home, out: &Out) -> Result<(), CtlError> {
    let nodes = args.nodes.iter().map(|text| parse_node(text)).collect::<Result<Vec<_>, _>>();
    let nodes = nodes.map_err(|what| CtlError::usage(what, "write --node n1=127.0.0.1:7101"))?;
    let full = |path: &Path| std::path::absolute(path).map_err(CtlError::file("find", path));
    let (ca, cert, key) = (full(&args.ca)?, full(&args.cert)?, full(&args.key)?);
    let credentials = Credentials::load(&ca, &cert, &key)?;
    let identity = credentials.identity().clone();
    if identity.role == Role::Node {
        return Err(CtlError::refused(
            ExitCode::Denied,
            format!("{} is the certificate of a node; nodes do not use logctl", cert.display()),
            "give the certificate of a client or an admin",
        ));
    }
    let context = Context {
        cluster: identity.cluster,
        name: identity.name,
        role: identity.role,
        ca,
        cert,
        key,
        home: args.home.clone(),
        nodes,
    };
    if home.load(&args.name)?.is_some_and(|there| there != context) {
        return Err(CtlError::conflict(
            format!("there is another context '{}' already", args.name),
            format!("choose another name, or logctl context remove {}", args.name),
        ));
    }
    home.store(&args.name, &context)?;
    if home.current()?.is_none() {
        home.set_current(&args.name)?;
    }
    out.note(&format!("context '{}' is written; logctl context use {}", args.name, args.name));
    Ok(())
}

fn head(name: &Name, context: &Context, current: Option<&Name>) -> ListView {
    ListView {
        name: name.to_string(),
        current: current == Some(name),
        identity: context.name.to_string(),
        role: context.role.label(),
        cluster: context.cluster.to_string(),
        home: context.home.as_ref().map(Name::to_string),
    }
}

impl Show for ListView {
    fn headings() -> &'static [&'static str] {
        &["CONTEXT", "CURRENT", "IDENTITY", "ROLE", "HOME", "CLUSTER"]
    }

    fn row(&self) -> Vec<Cell> {
        let (mark, tone) = if self.current { ("yes", Tone::Good) } else { ("", Tone::Neutral) };
        vec![
            self.name.as_str().into(),
            Cell::toned(mark, tone),
            self.identity.as_str().into(),
            self.role.into(),
            self.home.as_deref().unwrap_or("-").into(),
            self.cluster.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.current.to_string(),
            self.identity.clone(),
            self.role.to_owned(),
            self.home.clone().unwrap_or_default(),
            self.cluster.clone(),
        ]
    }
}

impl Show for ContextView {
    fn headings() -> &'static [&'static str] {
        &["CONTEXT", "IDENTITY", "ROLE", "HOME", "EXPIRES", "NODES", "CERTIFICATE", "CLUSTER"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        let nodes: Vec<String> =
            self.nodes.iter().map(|node| format!("{}={}", node.name, node.address)).collect();
        vec![
            self.head.name.clone(),
            self.head.identity.clone(),
            self.head.role.to_owned(),
            self.head.home.clone().unwrap_or_default(),
            self.expires.clone().unwrap_or_default(),
            nodes.join(","),
            self.cert.clone(),
            self.head.cluster.clone(),
        ]
    }
}
