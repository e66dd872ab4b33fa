//! What the verbs do: one file each.

mod access;
mod admin;
mod bench;
mod certs;
mod chart;
mod chat;
mod clients;
mod clock;
mod cluster;
mod compact;
mod context;
mod delete;
mod demo;
mod dev;
mod doctor;
mod events;
mod generate;
mod get;
mod group;
mod histories;
mod join;
mod kv;
mod made_token;
mod node;
mod nodes;
mod ping;
mod raft;
mod read;
mod recover;
mod register;
mod route;
mod send;
mod send_lines;
mod settings;
mod shell;
mod status;
mod support_bundle;
mod token;
mod verify;
mod wait;

use std::path::Path;

use crate::cli::{self, Cli, Verb};
use crate::completion;
use crate::error::CtlError;
use crate::out::Out;

/// Runs a verb.
pub(crate) async fn run(cli: Cli, out: &mut Out) -> Result<(), CtlError> {
    let globals = &cli.globals;
    match cli.verb {
        Verb::Demo(args) => demo::run(args, globals, out).await,
        Verb::Dev(args) => dev::run(args, globals, out).await,
        Verb::Doctor(args) => Box::pin(doctor::run(args, globals, out)).await,
        Verb::SupportBundle(args) => Box::pin(support_bundle::run(args, globals, out)).await,
        Verb::Cluster(cli::Cluster::Create(args)) => cluster::create(args, globals, out).await,
        Verb::Cluster(cli::Cluster::Join(args)) => join::run(args, globals, out).await,
        Verb::Cluster(cli::Cluster::Settings) => settings::show(globals, out).await,
        Verb::Cluster(cli::Cluster::Set { settings }) => {
            settings::set(&settings, globals, out).await
        }
        Verb::Cluster(cli::Cluster::Token(args)) => token::run(args, globals, out).await,
        Verb::Register(args) => register::run(args, globals, out).await,
        Verb::Send(args) => send::run(args, globals, out).await,
        Verb::Read(args) => read::run(args, globals, out).await,
        Verb::Ping(args) => ping::run(args, globals, out).await,
        Verb::Route(args) => route::run(args, globals, out).await,
        Verb::Bench(args) => bench::run(args, globals, out).await,
        Verb::Chart(args) => chart::run(args, globals, out).await,
        Verb::Get(args) => get::run(args, globals, out).await,
        Verb::Delete(args) => delete::run(args, globals, out).await,
        Verb::Chat(args) => chat::run(args, globals, out).await,
        Verb::Group(args) => group::run(args, globals, out).await,
        Verb::Kv(args) => kv::run(args, globals, out).await,
        Verb::Access(args) => access::run(args, globals, out).await,
        Verb::Clients(args) => clients::run(args, globals, out).await,
        Verb::Nodes => nodes::run(globals, out).await,
        Verb::Node(args) => node::run(args, globals, out).await,
        Verb::Raft(cli::Raft::Show) => raft::show(globals, out).await,
        Verb::Status(args) => status::run(args, globals, out).await,
        Verb::Health(args) => status::health(args, globals, out).await,
        Verb::Clock(args) => clock::run(args, globals, out).await,
        Verb::Events(args) => events::run(args, globals, out).await,
        Verb::Wait(args) => wait::run(args, globals, out).await,
        Verb::Compact => compact::run(globals, out).await,
        Verb::Shell => Box::pin(shell::run(globals, out)).await,
        Verb::Verify(args) => verify::run(args, globals, out).await,
        Verb::Admin(args) => admin::run(args, globals, out).await,
        Verb::Certs(args) => certs::run(args, globals, out).await,
        Verb::Context(args) => context::run(args, globals, out),
        Verb::Generate(what) => generate::run(&what, globals, out),
        Verb::Completions { shell } => out.bytes(completion::script(shell).as_bytes()),
        Verb::CompleteLine { shell, line, part } => {
            out.bytes(completion::answer(shell, &line, part.as_deref(), globals).as_bytes())
        }
        Verb::Man { dir: None } => {
            let page = cli::man_page().map_err(CtlError::file("write", Path::new("the page")))?;
            out.bytes(&page)
        }
        Verb::Man { dir: Some(dir) } => {
            cli::man_pages(&dir).map_err(CtlError::file("write the pages into", &dir))?;
            out.note(&format!("pages written into {}", dir.display()));
            Ok(())
        }
    }
}
