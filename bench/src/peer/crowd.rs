//! Clients that take their time: each holds a connection and gives the proxy next to nothing to do.
//! One that is sent away comes back.

use std::{cell::Cell, rc::Rc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::LocalSet,
    time::{sleep, timeout},
};

use super::say;
use crate::{pattern::Pattern, route::Route};

/// Between two bytes.
const PAUSE: Duration = Duration::from_secs(1);
/// Over how long they come: together they are slow, and no flood.
const ARRIVAL: Duration = Duration::from_secs(1);
/// Before a client comes back, so that one whom nobody accepts does not spin.
const RETURN: Duration = Duration::from_millis(100);
/// Longer than what a proxy should take in for a client that does not read.
const LONG_BYTES: u64 = 1_000_000;
/// Time for all to come, where anybody accepts at all.
const CONNECTED: Duration = Duration::from_secs(10);

/// Ways to be slow.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Says nothing.
    Silent,
    /// Sends half a head at once, and then nothing.
    HalfHead,
    /// Sends its head one byte after the other, and never comes to its end.
    DrippingHead,
    /// Sends a body one byte after the other: that may take as long as it likes.
    DrippingBody,
    /// Asks for a long body, and reads it one byte after the other.
    DrippingRead,
}

/// Half of them hold what only a stranger holds, who has no token.
const WAYS: [Way; 8] = [
    Way::Silent,
    Way::HalfHead,
    Way::DrippingHead,
    Way::DrippingHead,
    Way::DrippingHead,
    Way::DrippingHead,
    Way::DrippingBody,
    Way::DrippingRead,
];

#[derive(Debug)]
struct Clients {
    route: Route,
    pattern: Pattern,
    connected: Cell<usize>,
    sent_away: Cell<usize>,
}

#[expect(clippy::cast_precision_loss, reason = "thousands at most")]
pub(super) async fn run(
    route: Route,
    number: usize,
    mut commands: mpsc::Receiver<String>,
) -> Result<()> {
    let clients = Rc::new(Clients {
        route,
        pattern: Pattern::new(),
        connected: Cell::default(),
        sent_away: Cell::default(),
    });
    let tasks = LocalSet::new();
    for (place, way) in WAYS.into_iter().cycle().take(number).enumerate() {
        let clients = clients.clone();
        let arrival = ARRIVAL.mul_f64(place as f64 / number as f64);
        tasks.spawn_local(async move {
            sleep(arrival).await;
            loop {
                stay(way, &clients).await;
                sleep(RETURN).await;
            }
        });
    }
    let connected = || clients.connected.get();
    let all_connected = async {
        while connected() < number {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tasks
        .run_until(async {
            // Whether it timed out is told by the number.
            let _ = timeout(CONNECTED, all_connected).await;
            say(&connected().to_string())?;
            while commands.recv().await.is_some() {
                say(&format!("{} {}", connected(), clients.sent_away.get()))?;
            }
            Ok(())
        })
        .await
}

/// Connects, and is slow until sent away.
async fn stay(way: Way, clients: &Clients) {
    let Ok(mut stream) = TcpStream::connect(clients.route.address).await else {
        return;
    };
    clients.connected.set(clients.connected.get() + 1);
    let (mut read, write) = stream.split();
    let reading = async {
        let mut buffer = [0; 1];
        while read.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
            if matches!(way, Way::DrippingRead) {
                sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        _ = drip(way, clients, write) => {}
        () = reading => {}
    }
    clients.connected.set(clients.connected.get() - 1);
    clients.sent_away.set(clients.sent_away.get() + 1);
}

/// Sends what belongs to `way`, and then for ever one byte after the other or nothing.
async fn drip(way: Way, clients: &Clients, mut to: impl AsyncWriteExt + Unpin) -> Result<()> {
    let route = &clients.route;
    let at_once = match way {
        Way::Silent => String::new(),
        Way::HalfHead => "GET /port/5500/ HTTP/1.1\r\nHost: loc".to_owned(),
        Way::DrippingHead => "GET /port/5500/ HTTP/1.1\r\nHost: localhost\r\nX: ".to_owned(),
        Way::DrippingBody => route.head("POST", "/count", "Content-Length: 100000\r\n"),
        Way::DrippingRead => route.head("GET", &format!("/bytes/{LONG_BYTES}"), ""),
    };
    to.write_all(at_once.as_bytes()).await.context("begin")?;
    for offset in 0.. {
        sleep(PAUSE).await;
        match way {
            Way::DrippingHead => to.write_all(b"x").await.context("go on")?,
            Way::DrippingBody => {
                let byte = clients.pattern.part(offset, 1);
                to.write_all(byte).await.context("go on")?;
            }
            Way::Silent | Way::HalfHead | Way::DrippingRead => {}
        }
    }
    Ok(())
}
