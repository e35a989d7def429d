//! Probes of the running proxy: what its lease says, and whether it is there and is itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hpc_proxy::{
    auth::{Nonce, Proof, Token},
    lease::{NoLease, Record},
    own::{connect_tcp, connect_unix},
    text::chain,
    upstream::owner::Owners,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::Finding;
use crate::{
    cli::Config,
    local::{self, Door, NotHere},
    node,
};

/// A proxy answers at once; one that does not is as good as none.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// A proof is some hundred bytes.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// What the record of this job or host says, and whether its process runs.
pub(super) fn lease(config: &Config) -> Finding {
    let record = match local::find(&config.place()) {
        Ok(record) => record,
        Err(NotHere::NoLease(NoLease::Read { source, .. }))
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Finding::ok("there is no lease of this job or host")
                .so("start one with `hpc-proxy`");
        }
        Err(error @ NotHere::Elsewhere { .. }) => {
            return Finding::warn(chain(&error), "`hpc-proxy bridge` works on that node only");
        }
        Err(error) => {
            return Finding::warn(chain(&error), "it is not believed; start the proxy anew");
        }
    };
    let what = describe(&record);
    if record.boot_id != node::boot_id() {
        return Finding::warn(
            what + ", before the node was started",
            "it is stale, and nobody believes it",
        );
    }
    match node::is_running(record.pid, record.start_ticks) {
        Some(true) => Finding::ok(what + ", which runs"),
        None => Finding::ok(what + ", which /proc does not show"),
        Some(false) => Finding::warn(
            what + ", which does not run any more",
            "it was killed, and its lease is stale; start the proxy anew",
        ),
    }
}

fn describe(record: &Record) -> String {
    let of = match &record.job_id {
        Some(job) => format!("job {job}"),
        None => format!("host {}", record.host),
    };
    let started = UNIX_EPOCH + Duration::from_secs(record.started);
    let age = match SystemTime::now().duration_since(started) {
        Ok(age) => format!("{} min ago", age.as_secs() / 60),
        Err(_) => "in the future".to_owned(),
    };
    let place = match (&record.socket, record.port) {
        (Some(socket), 0) => format!("socket `{}`", socket.display()),
        (Some(socket), port) => format!("port {port} and socket `{}`", socket.display()),
        (None, port) => format!("port {port}"),
    };
    format!(
        "the proxy of {of} started {age} on {place} as process {}",
        record.pid
    )
}

/// Whether it answers and proves that it is the instance of its record.
pub(super) fn proxy(config: &Config) -> Finding {
    let place = config.place();
    let Ok(record) = local::find(&place) else {
        return Finding::ok("no proxy to ask");
    };
    let again = "start the proxy anew";
    // Beside the record, whichever job that is of.
    let token = match place.token_of(&record) {
        Ok(token) => token,
        Err(error) => return Finding::fail(chain(&error), again),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let asked = timeout(ANSWER_DEADLINE, ask(config, &record, &token)).await;
            asked.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
        }),
        Err(error) => Err(error.to_string()),
    };
    match asked {
        Ok(door) => Finding::ok(format!("it answers on {door}, and proves to be that proxy")),
        // Of a stale lease, nothing else was to be expected.
        Err(why) if node::is_running(record.pid, record.start_ticks) == Some(false) => {
            Finding::warn(why, again)
        }
        Err(why) => Finding::fail(why, again),
    }
}

async fn ask(config: &Config, record: &Record, token: &Token) -> Result<String, String> {
    let place = config.place();
    let (uid, owners) = (rustix::process::geteuid().as_raw(), Owners::probe());
    let door = local::door(&place, record, &owners, uid).await;
    let nonce = Nonce::random().map_err(|error| chain(&error))?;
    let (answer, door) = match door.map_err(|error| chain(&error))? {
        Door::Unix(path) => {
            let stream = connect_unix(&path, uid)
                .await
                .map_err(|error| chain(&error))?;
            (
                exchange(stream, &nonce).await,
                format!("`{}`", path.display()),
            )
        }
        Door::Tcp(address) => {
            let stream = connect_tcp(&owners, address, uid, None)
                .await
                .map_err(|error| chain(&error))?;
            (exchange(stream, &nonce).await, format!("`{address}`"))
        }
    };
    let answer = answer.map_err(|error| format!("it broke the connection: {error}"))?;
    let proof = answer
        .split_once("\r\n\r\n")
        .and_then(|(_, body)| serde_json::from_str::<Proof>(body).ok());
    match proof {
        Some(proof) if token.verify(&proof, &nonce, &record.instance, record.port) => Ok(door),
        Some(_) => Err(format!(
            "{door} answers, but is not the proxy of the record"
        )),
        None => Err(format!("{door} answers, but not as a proxy does")),
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    nonce: &Nonce,
) -> std::io::Result<String> {
    let nonce = nonce.to_hex();
    let request = format!(
        "GET /_hpc-proxy/proof/{nonce} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut answer)
        .await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
