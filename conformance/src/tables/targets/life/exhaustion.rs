//! More connections than the proxy has files or places for.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{OK, SOON, one_exchange};
use crate::{
    row::{Met, Row, story},
    stage::Stage,
};

pub(super) fn rows() -> Vec<Row> {
    vec![
        story(
            "127, S23",
            "a proxy out of files says 503 or waits, and recovers",
            |stage| {
                let launch = stage.cast.subject.launch().open_files(64);
                let own = Stage::on(stage.cast, std::sync::Arc::new(launch.start()?))?;
                let mut held = Vec::new();
                for _ in 0..100 {
                    held.push(own.connect()?);
                }
                // One that asks: it is refused, left to wait, or served.
                let mut asking = own.gets("/x")?;
                asking.patience = Duration::from_millis(500);
                let mut met = Met::Other("it waits".into());
                if let Some(mut server) = own.listener().accept(Duration::from_millis(300))? {
                    server.head()?;
                    server.send(OK)?;
                    ensure!(asking.answer("GET")?.head.status() == 200);
                    met = Met::Other("it serves".into());
                } else if let Ok(answer) = asking.answer("GET") {
                    let status = answer.head.status();
                    ensure!(status == 503, "it was answered {status}");
                    met = Met::Other("503".into());
                }
                drop((held, asking));
                let deadline = Instant::now() + SOON;
                while let Err(error) = serves(&own) {
                    if Instant::now() > deadline {
                        return Err(error.context("it does not recover"));
                    }
                }
                Ok(met)
            },
        ),
        story(
            "127, S22",
            "beyond the limit of connections it says 503 or waits, and recovers",
            |stage| {
                let own = stage.alone(&["--max-connections", "4"])?;
                let (client, server) = one_exchange(&own)?;
                let mut held = vec![client];
                for _ in 0..8 {
                    held.push(own.connect()?);
                }
                let mut asking = own.gets("/x")?;
                asking.patience = Duration::from_millis(500);
                let met = match asking.answer("GET") {
                    Ok(answer) => {
                        let status = answer.head.status();
                        ensure!(status == 503, "it was answered {status}");
                        Met::Other("503".into())
                    }
                    Err(_) => Met::Other("it waits or is closed".into()),
                };
                drop((held, asking, server));
                let deadline = Instant::now() + SOON;
                while let Err(error) = serves(&own) {
                    if Instant::now() > deadline {
                        return Err(error.context("it does not recover"));
                    }
                }
                Ok(met)
            },
        ),
        story(
            "127, S22",
            "connections that say nothing do not keep a known client out",
            |stage| {
                let own = stage.alone(&["--max-connections", "8"])?;
                let (mut client, mut server) = one_exchange(&own)?;
                let held: Vec<_> = (0..30).map(|_| own.connect()).collect::<Result<_>>()?;
                sleep(Duration::from_millis(100));
                client.send(own.fill(crate::tables::get("/2")))?;
                server.head()?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                drop(held);
                Ok(Met::Pass)
            },
        ),
    ]
}

/// Asks for a page of the dev server, which takes it over any of its connections.
fn serves(stage: &Stage) -> Result<()> {
    let mut client = stage.gets("/again")?;
    client.patience = Duration::from_millis(500);
    while let Some(mut server) = stage.listener().accept(Duration::from_millis(300))? {
        // Requests of clients that have gone may still come first.
        if server.head().is_ok()
            && server.send(OK).is_ok()
            && client
                .end_or_bytes_within(Duration::from_millis(100))?
                .is_none()
            && !client.unread().is_empty()
        {
            break;
        }
    }
    let status = client.answer("GET")?.head.status();
    ensure!(status == 200, "the client got {status}");
    Ok(())
}
