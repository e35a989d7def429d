//! Whose server it is, which ports are for users, and requests that go in circles: S4-S6, S20, S21.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    exchange::{answered, forwarded, sends},
    row::{Met, Need, Row, row, story},
    stage::{Public, Stage},
    stranger::Stranger,
    subject::unused_port,
    tables::with,
    want::{own, request},
};

/// Two users that nobody else is.
const ALICE: u32 = 65_534;
const BOB: u32 = 64_321;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = strangers();
    rows.extend(low_ports());
    rows.extend(circles());
    rows.into_iter()
        .map(|row| row.needs(&[Need::Ownership]))
        .collect()
}

/// Alice's proxy, on a node that is Bob's, too.
struct Node<'a> {
    stage: Stage<'a>,
    public: &'a Public,
}

impl<'a> Node<'a> {
    fn of(stage: &Stage<'a>) -> Result<Self> {
        let public = stage.cast.public.as_ref().context("several users")?;
        let subject = stage.cast.subject.copied_to(public.proxy());
        let proxy = subject.launch().user(ALICE).start()?;
        let stage = Stage::on(stage.cast, Arc::new(proxy))?;
        Ok(Self { stage, public })
    }

    fn serves(&self, uid: u32, address: &str, body: &str) -> Result<Stranger> {
        Stranger::start(&self.public.helper(), uid, address, body)
    }

    /// Status and body of a request for `port`.
    fn asks(&self, port: u16) -> Result<(u16, String)> {
        let text = format!("GET /port/{port}/ HTTP/1.1\r\n{{H}}Connection: close\r\n\r\n");
        let answer = self.stage.asks(text)?.answer("GET")?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Ok((answer.head.status(), body))
    }
}

fn strangers() -> Vec<Row> {
    let rows = vec![
        story(
            "S4, 91",
            "another user's server is a 403 and hears nothing",
            |stage| {
                let node = Node::of(stage)?;
                let mine = node.serves(ALICE, "127.0.0.1:0", "alice's")?;
                let bobs = node.serves(BOB, "127.0.0.1:0", "bob's")?;
                let (status, body) = node.asks(bobs.port)?;
                ensure!(status == 403, "bob's server: {status}");
                ensure!(!body.contains("bob's"), "bob's page was shown");
                ensure!(
                    body.contains(&mine.port.to_string()),
                    "one's own servers are not named: {body}"
                );
                let heard = bobs.heard();
                ensure!(
                    !heard.iter().any(|line| line.starts_with("heard")),
                    "bob heard {heard:?}"
                );
                ensure!(
                    node.asks(mine.port)? == (200, "alice's".into()),
                    "alice's own"
                );
                Ok(if heard.is_empty() {
                    Met::Aim
                } else {
                    Met::Other("after connecting".into())
                })
            },
        ),
        story(
            "S4, 108",
            "an upgrade of another user's server is a 403",
            |stage| {
                let node = Node::of(stage)?;
                let bobs = node.serves(BOB, "127.0.0.1:0", "bob's")?;
                let port = bobs.port;
                let mut client = node.stage.asks(format!(
                "GET /port/{port}/ HTTP/1.1\r\n{{H}}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ))?;
                let status = client.answer("GET")?.head.status();
                ensure!(status == 403, "the client got {status}");
                ensure!(!bobs.heard().iter().any(|line| line.starts_with("heard")));
                Ok(Met::Pass)
            },
        ),
        story(
            "S5, 122",
            "of two servers on one port one's own is reached, whichever address",
            |stage| {
                let node = Node::of(stage)?;
                for (mine, theirs) in [("[::1]", "127.0.0.1"), ("127.0.0.1", "[::1]")] {
                    let port = unused_port()?;
                    let alices = node.serves(ALICE, &format!("{mine}:{port}"), "alice's")?;

                    let bobs = node.serves(BOB, &format!("{theirs}:{port}"), "bob's")?;
                    let (status, body) = node.asks(port)?;
                    ensure!(
                        (status, body.as_str()) == (200, "alice's"),
                        "on {mine}: {status} {body}"
                    );
                    drop(alices);
                    std::thread::sleep(Duration::from_millis(300));
                    let (status, body) = node.asks(port)?;
                    ensure!(status == 403, "without alice's on {mine}: {status} {body}");
                    ensure!(!bobs.heard().iter().any(|line| line.starts_with("heard")));
                }
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Ipv6]),
        story(
            "S5",
            "a server of one's own behind another user's on every address is reached",
            |stage| {
                let node = Node::of(stage)?;
                let bobs = node.serves(BOB, &format!("0.0.0.0:{}", unused_port()?), "bob's")?;
                let alices = node.serves(ALICE, &format!("[::1]:{}", bobs.port), "alice's")?;
                let (status, body) = node.asks(alices.port)?;
                ensure!(
                    (status, body.as_str()) == (200, "alice's"),
                    "{status} {body}"
                );
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Ipv6]),
        story(
            "S6, 123",
            "a port that changes hands is at once another user's",
            |stage| {
                let node = Node::of(stage)?;
                for _ in 0..stage.scaled(4, 40) {
                    let port = unused_port()?;
                    let alices = node.serves(ALICE, &format!("127.0.0.1:{port}"), "alice's")?;
                    // Over a connection that is kept, so that the proxy has one to use again.
                    let mut client = node
                        .stage
                        .asks(format!("GET /port/{port}/ HTTP/1.1\r\n{{H}}\r\n"))?;
                    ensure!(client.answer("GET")?.body == b"alice's");
                    drop(alices);
                    let bobs = rebound(&node, port)?;
                    let (status, body) = node.asks(port)?;
                    ensure!(status == 403, "a new client got {status} {body}");
                    client.send(
                        node.stage
                            .fill(format!("GET /port/{port}/ HTTP/1.1\r\n{{H}}\r\n")),
                    )?;
                    let status = client.answer("GET")?.head.status();
                    ensure!(status == 403, "a client from before got {status}");
                    let heard = bobs.heard();
                    ensure!(
                        !heard.iter().any(|line| line.starts_with("heard")),
                        "bob heard {heard:?}"
                    );
                }
                Ok(Met::Pass)
            },
        ),
    ];
    let of_others = &[Need::Root, Need::Flags];
    rows.into_iter().map(|row| row.needs(of_others)).collect()
}

fn rebound(node: &Node<'_>, port: u16) -> Result<Stranger> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        match node.serves(BOB, &format!("127.0.0.1:{port}"), "bob's") {
            Ok(stranger) => return Ok(stranger),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn low_ports() -> Vec<Row> {
    let mut rows = Vec::new();
    for port in [1, 22, 80, 111, 443, 631, 1023] {
        rows.push(row("S20", format!("port {port} is not for users"), {
            sends(format!("GET /port/{port}/ HTTP/1.1\r\n{{H}}\r\n")).wants(answered(own(&[403])))
        }));
    }
    rows.push(story(
        "S20",
        "a port below 1024 is not even connected to",
        |stage| {
            let Some(listener) = (600..1024)
                .rev()
                .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
            else {
                return Ok(Met::Skip("needs: the right to listen below 1024".into()));
            };
            let low = stage.beside(crate::peer::Listener::Tcp(listener));
            for text in [
                with("GET", "/x", ""),
                with(
                    "GET",
                    "/x",
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AA==\r\n",
                ),
            ] {
                let status = low.asks(text)?.answer("GET")?.head.status();
                ensure!(status == 403, "the client got {status}");
            }
            low.nobody_connects(Duration::from_millis(20))?;
            Ok(Met::Pass)
        },
    ));
    for port in [2049, 6817, 6818, 6819, 6820, 8649] {
        rows.push(row(
            "S20",
            format!("port {port} is a service of the node's, or nobody's"),
            {
                sends(format!("GET /port/{port}/ HTTP/1.1\r\n{{H}}\r\n"))
                    .wants(answered(own(&[403])).named("403"))
                    .or(answered(own(&[502])).named("502"))
            },
        ));
    }
    rows
}

fn circles() -> Vec<Row> {
    let via = |lines: &str| sends(with("GET", "/x", lines));
    let x = || request("GET", "/x");
    let circle = || answered(own(&[508]));
    vec![
        row(
            "S21",
            "a request that passed the proxy twice is forwarded",
            via("Via: 1.1 hpc-proxy, 1.1 hpc-proxy\r\n").wants(forwarded(x().any_fields())),
        ),
        row(
            "S21",
            "a request that passed the proxy three times is the last to be forwarded, or not",
            {
                via("Via: 1.1 hpc-proxy, 1.1 hpc-proxy, 1.1 hpc-proxy\r\n")
                    .wants(forwarded(x().any_fields()))
                    .or(circle().named("508"))
            },
        ),
        row(
            "S21",
            "a request that passed the proxy four times goes in circles",
            {
                via("Via: 1.1 hpc-proxy, 1.1 hpc-proxy, 1.1 hpc-proxy, 1.1 hpc-proxy\r\n")
                    .wants(circle())
            },
        ),
        row("S21", "its passages are counted over several lines", {
            via(&"Via: 1.1 hpc-proxy\r\n".repeat(4)).wants(circle())
        }),
        row("S21", "its passages are counted among others", {
            via("Via: 1.0 a, 1.1 hpc-proxy (x), HTTP/1.1 hpc-proxy\r\nVia: 1.1 hpc-proxy,1.1 b,1.1 HPC-Proxy\r\n")
                .wants(circle())
        }),
        row("S21", "others in Via are no circle", {
            via("Via: 1.1 a, 1.1 b, 1.1 c, 1.1 d, 1.1 e, 1.1 f, 1.1 not-hpc-proxy\r\n")
                .wants(forwarded(x().any_fields()))
        }),
    ]
}
