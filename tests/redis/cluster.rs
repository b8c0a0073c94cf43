//! Three masters that share the slots, and a replica of one: slots that move, and a master that dies.

use endcap::store::redis::Topology;
use redis::Value;

use crate::promises::{Order, settings};
use crate::sentinel::{fill, nothing_is_lost, purge_on};
use crate::servers::{Server, keeps_all_promises, on, shares};
use crate::stage::until;

const SLOTS: usize = 16384;

struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let mut servers = Vec::new();
        for n in 0..3 {
            let server = Self::server().await;
            let slots: Vec<String> = (SLOTS * n / 3..SLOTS * (n + 1) / 3).map(|slot| slot.to_string()).collect();
            let mut words = vec!["CLUSTER", "ADDSLOTS"];
            words.extend(slots.iter().map(String::as_str));
            server.command(&words).await;
            servers.push(server);
        }
        let cluster = Self { servers };
        for server in &cluster.servers[1..] {
            cluster.meet(server).await;
        }
        cluster.settled(3).await;
        cluster
    }

    async fn server() -> Server {
        Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]).await
    }

    async fn meet(&self, server: &Server) {
        server.command(&["CLUSTER", "MEET", "127.0.0.1", &self.servers[0].port.to_string()]).await;
    }

    async fn settled(&self, count: usize) {
        for server in &self.servers {
            until("all servers know one another", async || {
                let info = server.text(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}"))
            })
            .await;
        }
    }

    /// Adds a replica of a server.
    async fn add_replica(&mut self, of: usize) {
        let replica = Self::server().await;
        self.meet(&replica).await;
        self.servers.push(replica);
        self.settled(self.servers.len()).await;
        let id = self.id(of).await;
        let replica = self.servers.last().unwrap();
        replica.command(&["CLUSTER", "REPLICATE", &id]).await;
        // Its link may be up before the master sends anything on it.
        until("it follows", async || {
            let info = self.servers[of].text(&["INFO", "replication"]).await;
            info.contains("state=online,offset=") && !info.contains("state=online,offset=0,")
        })
        .await;
    }

    async fn id(&self, server: usize) -> String {
        redis::from_redis_value(self.servers[server].command(&["CLUSTER", "MYID"]).await).unwrap()
    }

    /// Which of the masters had a slot at the start.
    fn owner(slot: usize) -> usize {
        (0..3).find(|n| slot < SLOTS * (n + 1) / 3).unwrap()
    }

    async fn slot_of_log(&self) -> usize {
        redis::from_redis_value(self.servers[0].command(&["CLUSTER", "KEYSLOT", "endcap:purges"]).await).unwrap()
    }

    fn url(&self) -> String {
        // The first that it names is not there.
        format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", self.servers[0].port)
    }

    /// Sends a command to whoever takes it.
    fn order(&self) -> Order {
        let orders: Vec<_> = self.servers.iter().map(|server| server.port).collect();
        Box::new(move |words| {
            let (ports, words) = (orders.clone(), words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
            futures_util::FutureExt::boxed(async move {
                for port in ports {
                    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
                    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
                    let mut command = redis::cmd(&words[0]);
                    match command.arg(&words[1..]).query_async::<Value>(&mut connection).await {
                        Ok(answer) => return answer,
                        Err(error) => assert_eq!(error.code(), Some("MOVED"), "{error}"),
                    }
                }
                panic!("nobody takes it")
            })
        })
    }
}

#[tokio::test]
async fn what_stores_promise_holds_in_a_cluster() {
    let cluster = Cluster::start().await;
    let topology = || Topology::Cluster(vec![cluster.servers[0].address()]);
    keeps_all_promises(|namespace| settings(topology(), namespace), || cluster.order()).await;
}

#[tokio::test]
async fn the_log_is_followed_when_its_slot_moves() {
    let cluster = Cluster::start().await;
    let stage = on(&cluster.url()).nodes(2).start().await;
    shares(&stage).await;
    fill(&stage, 0..9).await;
    purge_on(&stage, 0..3).await;
    let slot = cluster.slot_of_log().await;
    let from = Cluster::owner(slot);
    let to = (from + 1) % 3;
    let (slot, from_id, to_id) = (slot.to_string(), cluster.id(from).await, cluster.id(to).await);
    let (old, new) = (&cluster.servers[from], &cluster.servers[to]);
    new.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
    old.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    old.command(&["MIGRATE", "127.0.0.1", &new.port.to_string(), "endcap:purges", "0", "5000"]).await;
    // On its way: who asks the old one is told to ask the new one, each time.
    purge_on(&stage, 3..6).await;
    for n in 3..6 {
        until("the other node reads there", async || {
            stage.get_from(1, &format!("/store/products/prod_{n}")).await.version() == 2
        })
        .await;
    }
    for server in [new, old, &cluster.servers[(from + 2) % 3]] {
        server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    purge_on(&stage, 6..9).await;
    let log = new.text(&["XRANGE", "endcap:purges", "-", "+"]).await;
    nothing_is_lost(&stage, 0..9, &log).await;
}

#[tokio::test]
async fn when_the_master_of_the_log_dies_its_replica_is_followed_and_nothing_is_lost() {
    let mut cluster = Cluster::start().await;
    let owner = Cluster::owner(cluster.slot_of_log().await);
    cluster.add_replica(owner).await;
    let stage = on(&cluster.url()).nodes(2).start().await;
    fill(&stage, 0..12).await;
    // These lines die with the master: the replica never gets them.
    cluster.servers[3].pause();
    // Nor does it find them in what it has received and not yet read.
    cluster.servers[owner].command(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    purge_on(&stage, 0..4).await;
    cluster.servers[owner].kill();
    cluster.servers[3].resume();
    purge_on(&stage, 4..12).await;
    let log = async || cluster.servers[3].text(&["XRANGE", "endcap:purges", "-", "+"]).await;
    until("the lines are put back", async || log().await.contains("prod_3") || log().await.contains("lost")).await;
    nothing_is_lost(&stage, 0..12, &log().await).await;
    shares(&stage).await;
}
