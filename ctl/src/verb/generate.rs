//! `logctl generate`: what other programs need to watch a cluster.

use std::path::Path;

use views::monitoring::{ALERTS, DASHBOARD, Targets, scrape};

use crate::cli::{Generate, Globals};
use crate::context::{self, Context};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;

pub(crate) fn run(what: &Generate, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match what {
        Generate::Alerts => out.bytes(ALERTS.as_bytes()),
        Generate::Grafana => out.bytes(DASHBOARD.as_bytes()),
        Generate::Prometheus => {
            let home = Home::from_env()?;
            // Who has no cluster yet sees what it looks like.
            let known = globals.context.is_some() || !home.contexts()?.is_empty();
            let context = known.then(|| context::choose(&home, globals.context.as_ref()));
            let targets = context.transpose()?.map(|(_, context)| targets(&home, &context));
            out.bytes(scrape(targets.as_ref()).as_bytes())
        }
    }
}

fn targets(home: &Home, context: &Context) -> Targets {
    let text = |path: &Path| home.folder().join(path).display().to_string();
    Targets {
        ca: text(&context.ca),
        cert: text(&context.cert),
        key: text(&context.key),
        addresses: context.nodes.iter().map(|node| node.address.clone()).collect(),
    }
}
