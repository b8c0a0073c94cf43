//! Connections to the servers that have our keys. One way for all topologies: who has a slot is looked up,
//! connections to it are kept, and whatever says that it is no longer so has it looked up again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::connect::Connector;
use super::error::{answered, is_elsewhere, redirected, refusal, store_error};
use super::kept::Kept;
use super::topology::{Address, Layout, Topology};
use crate::jitter::Jitter;
use crate::store::{Denial, StoreError};
use crate::tasks::Tasks;

/// How often one command is sent on to another server.
const REDIRECTS_MAX: usize = 4;
/// Who has what is looked up again so often, whether or not anything is wrong: a server that was replaced may
/// live on, cut off from its successor, and answer as before.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a connection is for. Each has its own, so that none waits behind another's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Entries and leases, on the connection of this number.
    Entries(usize),
    /// Lines for the log: large entries do not delay them, and their waits for replicas delay nobody.
    Append,
    /// Lines of the log that were there before: many at a time, for readers that nobody waits for.
    History,
    /// Asking who has what.
    Look,
}

/// Who has what, and since when that is known.
#[derive(Clone)]
struct Known {
    layout: Arc<Layout>,
    at: Instant,
}

/// A connection that is made when it is first needed, and again when it broke.
type Link = Arc<Kept<MultiplexedConnection>>;

/// See the module.
pub(super) struct Links {
    topology: Topology,
    to_redis: Connector,
    to_sentinel: Connector,
    /// Bounds each answer.
    patience: Duration,
    known: Arc<Kept<Known>>,
    links: Mutex<HashMap<(Address, Purpose), Link>>,
    /// Whom to ask who has what: the last to have answered first.
    informed: Mutex<Vec<Address>>,
    tasks: Tasks,
    jitter: Arc<Jitter>,
}

impl Links {
    pub(super) fn new(
        topology: Topology,
        to_redis: Connector,
        to_sentinel: Connector,
        patience: Duration,
        tasks: Tasks,
        jitter: Arc<Jitter>,
    ) -> Self {
        let informed = match &topology {
            Topology::Single(_) => Vec::new(),
            Topology::Sentinel { sentinels, .. } => sentinels.clone(),
            Topology::Cluster(servers) => servers.clone(),
        };
        Self {
            topology,
            to_redis,
            to_sentinel,
            patience,
            known: Arc::new(Kept::new(tasks.clone(), Arc::clone(&jitter))),
            links: Mutex::default(),
            informed: Mutex::new(informed),
            tasks,
            jitter,
        }
    }

    /// Who has a slot.
    pub(super) async fn owner(self: &Arc<Self>, slot: u16) -> Result<Address, StoreError> {
        let (known, _) = self.known.get(|| self.looking()).await?;
        if known.at.elapsed() > LOOK_EVERY {
            self.look_again();
        }
        known.layout.owner(slot).cloned()
    }

    /// Looks up behind the scenes who has what.
    pub(super) fn look_again(self: &Arc<Self>) {
        self.known.renew(|| self.looking());
    }

    /// Sends commands, all about one slot, to whoever has it. The answers are as many as the commands; an
    /// error in place of one is that command's own.
    pub(super) async fn call(
        self: &Arc<Self>,
        purpose: Purpose,
        slot: u16,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let called = self.sent_on(purpose, slot, commands).await;
        let trouble = match &called {
            Err(error) => Some(error),
            Ok(answers) => answers.iter().find_map(|answer| answer.as_ref().err()),
        };
        if trouble.is_some_and(is_elsewhere) {
            self.look_again();
        }
        called
    }

    async fn sent_on(
        self: &Arc<Self>,
        purpose: Purpose,
        slot: u16,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let mut to = self.owner(slot).await?;
        let mut is_asking = false;
        for _ in 0..REDIRECTS_MAX {
            let answers = self.ask(&to, purpose, commands, is_asking).await?;
            let Some(redirect) = answers.first().and_then(|answer| redirected(answer, &to)) else {
                return Ok(answers.into_iter().map(answered).collect());
            };
            if !redirect.asking {
                self.look_again();
            }
            (to, is_asking) = (redirect.to, redirect.asking);
        }
        Err(StoreError::Refused(Denial::Moved, format!("slot {slot} was sent on {REDIRECTS_MAX} times")))
    }

    /// Sends commands to one server.
    async fn ask(
        self: &Arc<Self>,
        to: &Address,
        purpose: Purpose,
        commands: &Pipeline,
        is_asking: bool,
    ) -> Result<Vec<Value>, StoreError> {
        let link = self.link(to, purpose);
        let (mut connection, count) = link.get(|| self.connecting(to.clone(), purpose)).await?;
        let answers = send(&mut connection, commands, is_asking).await;
        let trouble = match &answers {
            Err(error @ StoreError::Connection(_)) => Some(error.clone()),
            Err(_) => None,
            // The same address may lead to the master the next time, or the server may be made master.
            Ok(answers) => answers
                .iter()
                .find_map(refusal)
                .filter(|refusal| matches!(refusal, StoreError::Refused(Denial::ReadOnly, _))),
        };
        if let Some(trouble) = trouble {
            tracing::debug!(tier = "l2", %to, ?purpose, error = %trouble, "gave up a connection");
            link.give_up(count, &trouble);
        }
        answers
    }

    fn link(&self, to: &Address, purpose: Purpose) -> Arc<Kept<MultiplexedConnection>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Kept::new(self.tasks.clone(), Arc::clone(&self.jitter)));
        Arc::clone(links.entry((to.clone(), purpose)).or_insert_with(made))
    }

    fn connecting(
        self: &Arc<Self>,
        to: Address,
        purpose: Purpose,
    ) -> impl Future<Output = Result<MultiplexedConnection, StoreError>> + Send + use<> {
        let links = Arc::clone(self);
        async move {
            match (purpose, &links.topology) {
                (Purpose::Look, Topology::Sentinel { .. }) => {
                    links.to_sentinel.connect(&to, Some(links.patience)).await
                }
                _ => links.connect(&to, Some(links.patience)).await,
            }
        }
    }

    /// Makes a connection that is not shared. `patience` bounds each answer; `None` for whoever blocks.
    pub(super) async fn connect(
        &self,
        to: &Address,
        patience: Option<Duration>,
    ) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = self.to_redis.connect(to, patience).await?;
        let not_master = |role: &str| StoreError::Refused(Denial::ReadOnly, format!("{to} says it is {role:.20}"));
        if matches!(self.topology, Topology::Sentinel { .. }) {
            // A sentinel may not know yet. A replica would let us read what is no longer so.
            let command = redis::cmd("ROLE");
            let role = tokio::time::timeout(self.patience, one(&mut connection, &command)).await;
            let Value::Array(role) = role.unwrap_or(Err(StoreError::Timeout))? else {
                return Err(not_master("silent"));
            };
            let role = role.into_iter().next().and_then(|word| redis::from_redis_value::<String>(word).ok());
            match role.as_deref() {
                Some("master") => {}
                other => return Err(not_master(other.unwrap_or("nothing"))),
            }
        }
        Ok(connection)
    }

    fn looking(self: &Arc<Self>) -> impl Future<Output = Result<Known, StoreError>> + Send + use<> {
        let links = Arc::clone(self);
        async move {
            let layout = Arc::new(links.look().await?);
            let mut kept = links.links.lock().unwrap_or_else(PoisonError::into_inner);
            let before = kept.len();
            let informed = links.informed();
            kept.retain(|(at, _), _| informed.contains(at) || layout.servers().any(|server| server == at));
            if kept.len() < before {
                tracing::info!(tier = "l2", "Redis has moved: connections to servers that were replaced are closed");
            }
            drop(kept);
            Ok(Known { layout, at: Instant::now() })
        }
    }

    /// Asks those who know, one after the other, until one says who has what.
    async fn look(self: &Arc<Self>) -> Result<Layout, StoreError> {
        if let Topology::Single(address) = &self.topology {
            return Ok(Layout::all_at(address.clone()));
        }
        let mut last = StoreError::Timeout;
        for at in self.informed() {
            let looked = tokio::time::timeout(self.patience, self.look_at(&at)).await;
            match looked.unwrap_or(Err(StoreError::Timeout)) {
                Ok(layout) => {
                    self.heard_from(at, &layout);
                    return Ok(layout);
                }
                Err(error) => {
                    tracing::debug!(tier = "l2", %at, %error, "cannot say who has what");
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn informed(&self) -> Vec<Address> {
        self.informed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn look_at(self: &Arc<Self>, at: &Address) -> Result<Layout, StoreError> {
        let mut pipeline = redis::pipe();
        match &self.topology {
            Topology::Single(_) => return Ok(Layout::all_at(at.clone())),
            Topology::Sentinel { master, .. } => {
                pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
            }
            Topology::Cluster(_) => {
                pipeline.cmd("CLUSTER").arg("SLOTS");
            }
        }
        let answer = self.ask(at, Purpose::Look, &pipeline, false).await?.pop().unwrap_or(Value::Nil);
        let answer = answered(answer)?;
        if let Topology::Cluster(_) = &self.topology {
            return Layout::read(answer, at);
        }
        match redis::from_redis_value::<Option<(String, u16)>>(answer) {
            Ok(Some((host, port))) => Ok(Layout::all_at(Address::Tcp(host, port))),
            Ok(None) => Err(StoreError::Server("the sentinel does not know a master of this name".into())),
            Err(error) => Err(StoreError::Server(format!("an odd answer of a sentinel: {error}"))),
        }
    }

    /// Whoever answered is asked first from now on, then the servers of a cluster that it named, then those of
    /// the configuration: they may all have been replaced one by one.
    fn heard_from(&self, at: Address, layout: &Layout) {
        let mut order = vec![at];
        let (configured, named) = match &self.topology {
            Topology::Single(_) => return,
            Topology::Sentinel { sentinels, .. } => (sentinels, None),
            Topology::Cluster(servers) => (servers, Some(layout.servers())),
        };
        for address in named.into_iter().flatten().chain(configured) {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        *self.informed.lock().unwrap_or_else(PoisonError::into_inner) = order;
    }
}

/// Sends commands on a connection. Those that go after a slot on its way are announced one by one.
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    commands: &Pipeline,
    is_asking: bool,
) -> Result<Vec<Value>, StoreError> {
    let answers = |answered: redis::RedisResult<Vec<Value>>| answered.map_err(|error| store_error(&error));
    if !is_asking {
        return answers(connection.req_packed_commands(commands, 0, commands.len()).await);
    }
    let mut announced = redis::pipe();
    for command in commands.cmd_iter() {
        announced.cmd("ASKING").add_command(command.clone());
    }
    let answered = answers(connection.req_packed_commands(&announced, 0, announced.len()).await)?;
    Ok(answered.into_iter().skip(1).step_by(2).collect())
}

/// Sends one command.
pub(super) async fn one(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, StoreError> {
    let mut pipeline = redis::pipe();
    pipeline.add_command(command.clone());
    answered(send(connection, &pipeline, false).await?.pop().unwrap_or(Value::Nil))
}
