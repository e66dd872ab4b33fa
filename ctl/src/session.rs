//! One command's conversation with the cluster: context, credentials, client, token.

use std::sync::Arc;

use clock::Hlc;
use net::{Client, ClientConfig, ClientError, Ring, Spread};
use proto::wire::{Empty, NodeRow, Op, Read, Reply};
use proto::{ErrorCode, ExitCode, Name};

use tokio::task::JoinHandle;

use crate::cli::{Globals, Policy};
use crate::context::{self, Context};
use crate::error::CtlError;
use crate::hint::Asked;
use crate::home::Home;
use crate::out;
use crate::renewal::{self, Files};
use crate::seen_stamp_file::SeenStampFile;
use crate::turn_file::TurnFile;

/// A client of one cluster, as one identity.
pub(crate) struct Session {
    context: Context,
    name: Name,
    client: Client,
    /// Over which gateways the command wants its requests to go, if it says so.
    policy: Option<Policy>,
    seen_stamp: SeenStampFile,
    /// What the next write must come after: the highest stamp that this context has seen.
    kept: Hlc,
    /// The same, if the command was given a later one.
    floor: Hlc,
    /// Where that lies which this side proves itself with.
    files: Files,
    /// Keeps it from running out while this lasts.
    keeping: JoinHandle<()>,
    quiet: bool,
}

/// How a conversation begins.
struct Opening<'a> {
    /// The one node to talk to.
    via: Option<&'a Name>,
    /// What writes must come after.
    after: Option<Hlc>,
    /// Whether turns are taken apart from those of other commands.
    own_ring: bool,
}

impl Session {
    /// As the context that the command chose.
    ///
    /// # Errors
    /// When there is no usable context; nothing is sent yet.
    pub(crate) fn open(globals: &Globals, home: &Home) -> Result<Self, CtlError> {
        Self::open_after(globals, home, None)
    }

    /// The same, for writes that must come after a stamp.
    pub(crate) fn open_after(
        globals: &Globals,
        home: &Home,
        after: Option<Hlc>,
    ) -> Result<Self, CtlError> {
        let (name, context) = context::choose(home, globals.context.as_ref())?;
        let opening = Opening { via: globals.via.as_ref(), after, own_ring: false };
        Self::begin(globals, home, &name, context, opening)
    }

    /// The same with turns of its own: a run of many requests is even by itself, and the next
    /// command's turn should not wait for the file that often.
    pub(crate) fn open_own_ring(globals: &Globals, home: &Home) -> Result<Self, CtlError> {
        let (name, context) = context::choose(home, globals.context.as_ref())?;
        let opening = Opening { via: globals.via.as_ref(), after: None, own_ring: true };
        Self::begin(globals, home, &name, context, opening)
    }

    /// As a given context, through a given gateway if one is named.
    pub(crate) fn with(
        globals: &Globals,
        home: &Home,
        name: &Name,
        context: Context,
        via: Option<&Name>,
    ) -> Result<Self, CtlError> {
        let opening = Opening { via, after: None, own_ring: false };
        Self::begin(globals, home, name, context, opening)
    }

    fn begin(
        globals: &Globals,
        home: &Home,
        name: &Name,
        context: Context,
        opening: Opening<'_>,
    ) -> Result<Self, CtlError> {
        let Opening { via, after, own_ring } = opening;
        let files = Files::of(home, name, &context);
        let credentials = files.load(&context, globals.timeout)?;
        if credentials.identity().cluster != context.cluster {
            return Err(CtlError::refused(
                ExitCode::Denied,
                format!(
                    "the context '{name}' is of cluster {}, its certificate of cluster {}",
                    context.cluster,
                    credentials.identity().cluster
                ),
                format!("logctl context show {name}; then correct its paths"),
            ));
        }
        let path = home.state_path(name, &context, "stamp");
        let seen_stamp = SeenStampFile::new(path, context.cluster.clone());
        let kept = seen_stamp.read().unwrap_or_else(|why| {
            if !globals.quiet {
                out::complain(&format!("{} is ignored: {why}", seen_stamp.path().display()));
            }
            Hlc::ZERO
        });
        let floor = kept.max(after.unwrap_or(Hlc::ZERO));
        let cursor = home.state_path(name, &context, "cursor");
        let cache = Some(home.state_path(name, &context, renewal::NODES));
        let name = credentials.identity().name.clone();
        let ring: Arc<dyn Ring> = Arc::new(TurnFile::new(cursor, context.cluster.clone()));
        let client = Client::new(ClientConfig {
            addresses: context
                .nodes
                .iter()
                .map(|node| format!("{}={}", node.name, node.address))
                .collect(),
            credentials: credentials.clone(),
            via: via.map(Name::to_string),
            home: context.home.as_ref().map(Name::to_string),
            timeout: globals.timeout,
            cache,
            causal_token: (floor > Hlc::ZERO).then_some(floor),
            spread: globals.spread.unwrap_or(Policy::Home).over(context.name.as_str()),
            ring: (!own_ring).then_some(ring),
        })?;
        let (policy, quiet) = (globals.spread, globals.quiet);
        let keeping = tokio::spawn(files.clone().keep_renewed(client.clone(), credentials));
        Ok(Self { context, name, client, policy, seen_stamp, kept, floor, files, keeping, quiet })
    }

    /// The context in use.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The policy that the command was given, else this one.
    pub(crate) fn policy_or(&self, default: Policy) -> Policy {
        self.policy.unwrap_or(default)
    }

    /// Names of all nodes that are known, in the order of the ring.
    pub(crate) fn node_names(&self) -> Vec<String> {
        self.client.node_names()
    }

    /// Sends a request over gateways by a policy. Returns who answered, the answer, and how many
    /// attempts brought none.
    pub(crate) async fn call_over(
        &self,
        op: Op,
        spread: &Spread,
    ) -> Result<(String, Reply, u32), CtlError> {
        let asked = Asked::of(&op);
        let answer = self.client.call_over(op, spread).await;
        let answer = answer.map_err(|error| self.explain(asked, error))?;
        match answer.response.reply {
            Some(reply) => Ok((answer.gateway, reply, answer.retried)),
            None => Err(CtlError::unexpected("an empty answer")),
        }
    }

    /// Sends a request and waits for its answer; a refusal is an error.
    pub(crate) async fn call(&self, op: Op) -> Result<(String, Reply), CtlError> {
        let asked = Asked::of(&op);
        let response = self.client.call(op).await.map_err(|error| self.explain(asked, error))?;
        let reply = response.reply.ok_or_else(|| CtlError::unexpected("an empty answer"))?;
        if let Reply::Failure(failure) = reply {
            return Err(self.explain(asked, failure.into()));
        }
        Ok((response.gateway, reply))
    }

    /// A refusal with what to try, which goes by what was asked. One for a stamp that nobody typed names
    /// where it comes from: else every write would be refused, and nobody would know why.
    fn explain(&self, asked: Asked, error: ClientError) -> CtlError {
        let ClientError::Failure(failure) = error else { return error.into() };
        let code = failure.error_code();
        if code == ErrorCode::ClockAhead && self.floor == self.kept {
            let path = self.seen_stamp.path().display();
            return CtlError::refused(
                code.exit_code(),
                format!(
                    "{}; the stamp {} is the highest that this context has seen, kept in {path}",
                    failure.message, self.kept
                ),
                format!(
                    "run the same later; or rm {path}, and give up the order after what was seen \
                     before"
                ),
            );
        }
        CtlError::refused(code.exit_code(), failure.message, asked.hint(code))
    }

    /// The certificate's name: as whom this session talks.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// The clock of the node that serves this command, nanoseconds; the client's own may be wrong.
    pub(crate) async fn node_now(&self) -> Result<u64, CtlError> {
        match self.call(Op::Clock(Empty {})).await? {
            (_, Reply::Clock(report)) => Ok(report.now_ns),
            _ => Err(CtlError::unexpected("no clock report")),
        }
    }

    /// The same, to show what day it is: that a node cannot say keeps people from nothing.
    ///
    /// # Errors
    /// When no node can be asked; whatever comes next would fail as well, and take as long.
    pub(crate) async fn today(&self) -> Result<Option<u64>, CtlError> {
        match self.node_now().await {
            Ok(now_ns) => Ok(Some(now_ns)),
            Err(error) if matches!(error.exit_code(), ExitCode::Unreachable | ExitCode::Denied) => {
                Err(error)
            }
            Err(_) => Ok(None),
        }
    }

    /// The live list.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeRow>, CtlError> {
        match self.call(Op::Nodes(Empty {})).await? {
            (_, Reply::Nodes(nodes)) => Ok(nodes.nodes),
            _ => Err(CtlError::unexpected("no nodes")),
        }
    }

    /// Follows a read; pages come until the caller stops or the cluster is out of reach.
    pub(crate) async fn follow(&self, read: Read) -> Result<net::Follow, CtlError> {
        let asked = Asked::of(&Op::Read(read.clone()));
        self.client.follow(read).await.map_err(|error| self.explain(asked, error))
    }

    /// The node that the last answer came from.
    pub(crate) fn gateway(&self) -> String {
        self.client.gateway().unwrap_or_default()
    }

    /// Has the own certificate renewed, due or not.
    ///
    /// # Errors
    /// When nobody signs.
    pub(crate) async fn renew(&self) -> Result<(), CtlError> {
        self.files.renew(&self.client, &self.files.load_any_age()?).await
    }

    /// Keeps the highest stamp seen for the next command, has the own certificate renewed if that
    /// is due, and says goodbye. A stamp that was only
    /// given to the command is not kept: no answer has confirmed it.
    pub(crate) async fn close(self) {
        if let Some(seen) = self.client.causal_token().filter(|&seen| seen > self.floor)
            && let Err(error) = self.seen_stamp.raise(seen)
        {
            tracing::warn!("{}", error.line());
        }
        self.keeping.abort();
        // Where nobody answered nobody would renew either.
        if self.client.gateway().is_some()
            && let Ok(own) = self.files.load_any_age()
            && let Some(why) = self.files.renew_in_passing(&self.client, &own).await
            && !self.quiet
        {
            out::complain(&format!("warning: {why}"));
        }
        self.client.close().await;
    }
}
