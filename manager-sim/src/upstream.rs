//! The way to the proxy of one connected session: over proved connections, and with its token.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hpc_proxy::{
    ask::{self, AskError},
    http1::{fields::Fields, name::Name},
    ports::Listening,
    route::TargetPort,
    socket::{Activity, Socket},
};
use serde::Deserialize;
use thiserror::Error;
use tokio::{sync::Notify, time::timeout};

use crate::{
    lease::Lease,
    local_end::{DialError, LocalEnd},
};

/// The proxy's own pages answer at once, or something is wrong.
const OWN_PAGE_DEADLINE: Duration = Duration::from_secs(10);
/// A list of some hundred servers.
const LONGEST_LIST_BYTES: usize = 256 * 1024;

/// The proxy does not give its list of servers.
#[derive(Debug, Error)]
pub enum ListError {
    /// There is no way to it.
    #[error("hpc-proxy cannot be asked")]
    Dial(#[from] DialError),
    /// No answer.
    #[error("hpc-proxy does not answer")]
    Ask(#[from] AskError),
    /// Not the answer.
    #[error("hpc-proxy answered with status {0}")]
    Status(u16),
    /// Something else than a list.
    #[error("hpc-proxy's answer cannot be read")]
    Body(#[from] serde_json::Error),
    /// Too late.
    #[error("hpc-proxy did not answer within {} s", OWN_PAGE_DEADLINE.as_secs())]
    Slow,
}

/// The way to the proxy of one session, as long as one tunnel to it lasts. Whatever the names
/// and numbers, another tunnel is another way: no connection of the one serves the other (S17).
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Way>);

#[derive(Debug)]
struct Way {
    local_end: LocalEnd,
    lease: Arc<Lease>,
    activity: Arc<Activity>,
    /// The servers that were last heard of.
    heard: Mutex<Option<Vec<Listening>>>,
    /// Whether somebody asks for them anew for all, and tells when that is done.
    is_asking: AtomicBool,
    has_asked: Notify,
}

impl PartialEq for Upstream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Upstream {}

impl Hash for Upstream {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lease { node, door, .. } = self.lease();
        write!(f, "{node}:{door}")
    }
}

impl Upstream {
    /// Over the tunnel that begins at `local_end`.
    pub fn new(local_end: LocalEnd, lease: Arc<Lease>, activity: Arc<Activity>) -> Self {
        Self(Arc::new(Way {
            local_end,
            lease,
            activity,
            heard: Mutex::default(),
            is_asking: AtomicBool::new(false),
            has_asked: Notify::new(),
        }))
    }

    /// When its session was last used.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.0.activity)
    }

    /// Where the session's proxy and IDE are.
    pub fn lease(&self) -> &Lease {
        &self.0.lease
    }

    /// A new connection, on which the proxy has proved itself.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(&self) -> Result<Socket, DialError> {
        self.0.local_end.connect().await
    }

    /// The user's own servers, or what was last heard of them where a node does not tell within
    /// `patience`; nothing where nothing was heard yet. One asks for all who come meanwhile, and
    /// goes on when they have gone.
    pub async fn servers_soon(&self, patience: Duration) -> Option<Vec<Listening>> {
        let asked = self.0.has_asked.notified();
        if !self.0.is_asking.swap(true, Ordering::AcqRel) {
            let upstream = self.clone();
            tokio::spawn(async move {
                // Nobody here can be told what went wrong.
                let _ = upstream.servers().await;
                upstream.0.is_asking.store(false, Ordering::Release);
                upstream.0.has_asked.notify_waiters();
            });
        }
        let _ = timeout(patience, asked).await;
        self.last_servers()
    }

    /// The servers that were last heard of; nobody is asked.
    pub fn last_servers(&self) -> Option<Vec<Listening>> {
        self.heard().clone()
    }

    fn heard(&self) -> MutexGuard<'_, Option<Vec<Listening>>> {
        let heard = self.0.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner)
    }

    /// The user's own servers on the session's node, without the IDE.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn servers(&self) -> Result<Vec<Listening>, ListError> {
        self.ask_for_servers().await.inspect_err(|error| {
            if !matches!(error, ListError::Dial(_)) {
                let error: &dyn std::error::Error = error;
                tracing::warn!(upstream = %self, error, "no list of servers");
            }
        })
    }

    async fn ask_for_servers(&self) -> Result<Vec<Listening>, ListError> {
        #[derive(Deserialize)]
        struct List {
            ports: Vec<Listening>,
        }
        let mut fields = Fields::new();
        fields.push(Name::Host, b"localhost");
        fields.push(Name::Token, self.lease().proxy.token.reveal().as_bytes());
        let ask = async {
            let mut socket = self.connect().await?;
            let page = "/_hpc-proxy/ports";
            Ok::<_, ListError>(ask::get(&mut socket, page, &fields, LONGEST_LIST_BYTES).await?)
        };
        let (status, body) = timeout(OWN_PAGE_DEADLINE, ask)
            .await
            .unwrap_or(Err(ListError::Slow))?;
        if status != 200 {
            return Err(ListError::Status(status));
        }
        let List { mut ports } = serde_json::from_slice(&body)?;
        let ide = self.lease().ide.port().map(TargetPort::get);
        ports.retain(|server| Some(server.port) != ide);
        *self.heard() = Some(ports.clone());
        Ok(ports)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hpc_proxy::auth::{Nonce, Token};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::local_end::{Address, Identity};

    const LIST: &str = r#"{"ports":[
        {"port":5500,"address":"127.0.0.1","process":"node","pid":12,"in_session":true},
        {"port":34567,"address":"0.0.0.0","process":"code","pid":13,"in_session":true}]}"#;

    /// A raw peer in place of the proxy: proves itself with `token`, answers the next request with
    /// [`LIST`], and gives everything that it was sent.
    async fn peer(listener: TcpListener, claimed: Identity) -> String {
        peer_once(&listener, &claimed).await
    }

    async fn peer_once(listener: &TcpListener, claimed: &Identity) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let question = head(&mut stream).await;
        let nonce = question.split(['/', ' ']).nth(4).unwrap();
        let nonce = Nonce::parse(nonce.as_bytes()).unwrap();
        let proof = claimed.token.prove(&nonce, &claimed.instance, claimed.port);
        answer(&mut stream, &serde_json::to_string(&proof).unwrap()).await;
        let request = head(&mut stream).await;
        answer(&mut stream, LIST).await;
        question + &request
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") && stream.read_buf(&mut received).await.unwrap() > 0
        {
        }
        String::from_utf8(received).unwrap()
    }

    async fn answer(stream: &mut TcpStream, body: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all((head + body).as_bytes()).await;
    }

    async fn upstream(identity: &Identity) -> (TcpListener, Upstream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().port());
        let lease = Lease::example("node01".parse().unwrap(), identity.clone());
        let local_end = LocalEnd::new(address, identity.clone());
        (
            listener,
            Upstream::new(local_end, Arc::new(lease), Arc::default()),
        )
    }

    fn identity() -> Identity {
        Identity {
            instance: "ab".into(),
            port: 40123,
            token: Token::random().unwrap(),
        }
    }

    #[tokio::test]
    async fn the_proved_proxy_is_sent_the_token_and_the_ide_is_no_dev_server() {
        let own = identity();
        let (listener, upstream) = upstream(&own).await;
        let (servers, sent) = tokio::join!(upstream.servers(), peer(listener, own.clone()));
        let ports: Vec<_> = servers.unwrap().iter().map(|server| server.port).collect();
        assert_eq!(ports, [5500]);
        let (question, request) = sent.split_once("\r\n\r\n").unwrap();
        assert!(!question.contains(&own.token.reveal()));
        assert!(
            request.starts_with("GET /_hpc-proxy/ports HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains(&format!("X-Hpc-Proxy-Token: {}", own.token.reveal())));
    }

    // A page is not to wait for a node that has become slow.
    #[tokio::test]
    async fn what_was_heard_is_told_where_a_node_is_slow() {
        let own = identity();
        let (listener, upstream) = upstream(&own).await;
        let patience = Duration::from_millis(50);
        assert!(upstream.servers_soon(patience).await.is_none());
        // Whoever asked first has gone, and the answer arrives all the same.
        peer_once(&listener, &own).await;
        timeout(Duration::from_secs(5), async {
            while upstream.servers_soon(patience).await.is_none() {}
        })
        .await
        .unwrap();
        // Nobody answers, and only one asks.
        for _ in 0..3 {
            assert_eq!(upstream.servers_soon(patience).await.unwrap().len(), 1);
        }
        let second = timeout(Duration::from_secs(5), listener.accept()).await;
        assert!(second.is_ok());
        let third = timeout(Duration::from_millis(200), listener.accept()).await;
        assert!(third.is_err());
    }

    // S7.
    #[tokio::test]
    async fn an_impostor_is_sent_nothing_of_a_request() {
        let own = identity();
        let (listener, upstream) = upstream(&own).await;
        let impostor = Identity {
            token: Token::random().unwrap(),
            ..own
        };
        let (refused, sent) = tokio::join!(upstream.servers(), peer(listener, impostor));
        assert!(
            matches!(refused, Err(ListError::Dial(DialError::Impostor(_)))),
            "{refused:?}"
        );
        assert_eq!(sent.matches("\r\n\r\n").count(), 1, "{sent}");
        assert!(sent.starts_with("GET /_hpc-proxy/proof/"), "{sent}");
    }

    // S17 and S32.
    #[tokio::test]
    async fn another_tunnel_is_another_way() {
        let own = identity();
        let (_listener, upstream) = upstream(&own).await;
        let again = Upstream::new(
            upstream.0.local_end.clone(),
            Arc::clone(&upstream.0.lease),
            upstream.activity(),
        );
        assert_ne!(upstream, again);
        assert_eq!(upstream, upstream.clone());
        assert_eq!(upstream.to_string(), "node01:40123");
    }
}
