//! What is private of a program's sockets, and what stays as it was.

use tempfile::TempDir;

use super::{Localhost, Taken, WAYS};
use crate::harness::{lacks, run};

/// A server on `host` and a client of `to` in one program, at the port of the command line.
const MEETING: &str = "
import socket, sys, threading
host, to, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = lambda name: socket.AF_INET6 if ':' in name else socket.AF_INET
server = socket.socket(family(host))
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((host, port))
server.listen()
def serve():
    connection, _ = server.accept()
    connection.sendall(b'inside')
    connection.close()
threading.Thread(target=serve, daemon=True).start()
client = socket.socket(family(to))
client.settimeout(10)
client.connect((to, port))
print(client.recv(100).decode())
";

#[tokio::test]
async fn a_program_meets_its_own_server_by_every_name_of_localhost() {
    let taken = Taken::new();
    for (host, names) in [
        (
            "127.0.0.1",
            &[
                "127.0.0.1",
                "0.0.0.0",
                "::ffff:127.0.0.1",
                "127.0.1.1",
                "::1",
            ][..],
        ),
        ("0.0.0.0", &["127.0.0.1", "127.0.1.1", "::1"]),
        ("::1", &["::1", "::"]),
        ("::", &["::1", "::", "127.0.0.1"]),
    ] {
        for way in WAYS {
            for to in names {
                let localhost = Localhost::new();
                let arguments = [host, to, &taken.text()];
                localhost.says("inside", way, MEETING, &arguments).await;
            }
        }
    }
}

#[tokio::test]
async fn without_a_private_localhost_the_port_is_taken() {
    let taken = Taken::new();
    let arguments = ["127.0.0.1", "127.0.0.1", &taken.text()];
    let localhost = Localhost::new();
    let ended = localhost
        .python(&["--isolation", "none"], MEETING, &arguments)
        .await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Address already in use"), "{ended:?}");
}

#[tokio::test]
async fn one_who_has_no_server_inside_finds_the_one_outside() {
    const CLIENT: &str = "
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
print(client.recv(100).decode())
";
    let taken = Taken::new();
    for way in WAYS {
        for to in ["127.0.0.1", "::1", "localhost"] {
            let localhost = Localhost::new();
            let arguments = [to, &taken.text()];
            localhost.says("outside", way, CLIENT, &arguments).await;
        }
    }
}

#[tokio::test]
async fn a_second_server_on_ones_own_port_is_told_that_it_is_taken() {
    const TWICE: &str = "
import socket, sys
port = int(sys.argv[1])
def server(host):
    it = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    if ':' in host: it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind((host, port)); it.listen(); return it
first = server('127.0.0.1')
# As a program that listens on each address of a name by itself.
other = server('::1') if len(sys.argv) < 3 else None
for again in ['127.0.0.1', '0.0.0.0']:
    try: server(again); print('twice', again)
    except OSError as error: assert error.errno == 98, error
first.close()
server('127.0.0.1')
print('once')
";
    let taken = Taken::new();
    for way in WAYS {
        let localhost = Localhost::new();
        localhost.says("once", way, TWICE, &[&taken.text()]).await;
    }
}

// A worker pool that shares a port, and one that is bound twice.
#[tokio::test]
async fn those_who_share_a_port_share_it_inside_too() {
    const SHARED: &str = "
import socket, sys
port = int(sys.argv[1])
servers = []
for _ in range(3):
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    it.bind(('0.0.0.0', port)); it.listen(); it.setblocking(False); servers.append(it)
clients = [socket.create_connection(('localhost', port), 10) for _ in range(60)]
def count(server):
    found = 0
    while True:
        try: server.accept(); found += 1
        except BlockingIOError: return found
counts = [count(it) for it in servers]
assert sum(counts) == 60 and all(counts), counts
try: servers[0].bind(('0.0.0.0', port)); print('bound twice')
except OSError as error: print(error.errno)
";
    let taken = Taken::new();
    for way in &WAYS[..2] {
        let localhost = Localhost::new();
        // EINVAL, as ever.
        localhost.says("22", way, SHARED, &[&taken.text()]).await;
    }
}

#[tokio::test]
async fn a_connect_that_does_not_wait_is_told_and_comes_through() {
    const ASYNC: &str = "
import errno, select, socket, sys
port = int(sys.argv[1])
server = socket.socket(); server.bind(('127.0.0.1', port)); server.listen()
client = socket.socket(); client.setblocking(False)
begun = client.connect_ex(('127.0.0.1', port))
assert begun in (0, errno.EINPROGRESS), begun
assert select.select([], [client], [], 10)[1]
assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
assert client.connect_ex(('127.0.0.1', port)) in (0, errno.EISCONN)
assert client.connect_ex(('127.0.0.1', port)) == errno.EISCONN
assert not client.getblocking()
# Nobody listens there, neither inside nor outside.
free = socket.socket(); free.bind(('127.0.0.1', 0))
for waits in (True, False):
    lost = socket.socket(); lost.setblocking(waits)
    begun = lost.connect_ex(('127.0.0.1', free.getsockname()[1]))
    if begun == errno.EINPROGRESS:
        select.select([], [lost], [], 10)
        begun = lost.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert begun == errno.ECONNREFUSED, begun
print('through')
";
    let taken = Taken::new();
    for way in WAYS {
        let localhost = Localhost::new();
        localhost
            .says("through", way, ASYNC, &[&taken.text()])
            .await;
    }
}

#[tokio::test]
async fn those_who_wait_for_a_full_server_hold_up_nobody() {
    const FULL: &str = "
import socket, sys, threading, time
port = int(sys.argv[1])
full = socket.socket(); full.bind(('127.0.0.1', port)); full.listen(0)
good = socket.socket(); good.bind(('127.0.0.1', port + 1 if port < 65535 else port - 1)); good.listen(100)
came, lock = [], threading.Lock()
def wait():
    it = socket.socket()
    it.connect(('127.0.0.1', port))
    with lock: came.append(it)
waiting = [threading.Thread(target=wait, daemon=True) for _ in range(8)]
for it in waiting: it.start()
time.sleep(0.3)
assert 1 <= len(came) < 8, len(came)
times = []
for _ in range(20):
    start = time.monotonic()
    socket.create_connection(good.getsockname(), 10).close()
    times.append(time.monotonic() - start)
times.sort()
assert times[10] < 0.1, times
# Each comes through as soon as there is room.
accepted = []
def accept():
    while True: accepted.append(full.accept())
threading.Thread(target=accept, daemon=True).start()
for it in waiting: it.join(15)
assert len(came) == 8, len(came)
print('all')
";
    let taken = Taken::new();
    for way in WAYS {
        let localhost = Localhost::new();
        localhost.says("all", way, FULL, &[&taken.text()]).await;
    }
}

#[tokio::test]
async fn datagrams_and_unix_sockets_are_as_ever() {
    const OTHERS: &str = "
import os, socket, sys
port, directory = int(sys.argv[1]), sys.argv[2]
def meet(family, kind, address, to=None):
    server = socket.socket(family, kind); server.bind(address)
    assert server.getsockname() == address or to, (server.getsockname(), address)
    if kind == socket.SOCK_STREAM: server.listen()
    client = socket.socket(family, kind); client.settimeout(10); client.connect(to or server.getsockname())
    client.send(b'hello')
    if kind == socket.SOCK_STREAM: server, _ = server.accept()
    assert server.recv(100) == b'hello'
# The port of a TCP server outside is free for datagrams, and they are not moved.
meet(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', port))
meet(socket.AF_INET6, socket.SOCK_DGRAM, ('::1', port, 0, 0))
short, long = directory + '/s', directory + '/' + 'l' * (105 - len(directory))
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    for name in (short, long, b'\\0' + b'a' * 20, b'\\0' + b'a' * 107):
        if kind == socket.SOCK_SEQPACKET: continue
        meet(socket.AF_UNIX, kind, name)
        if isinstance(name, str): os.unlink(name)
os.chdir(directory)
# As long as an address of IPv4, and of IPv6.
for length in (13, 14, 22, 26, 29): meet(socket.AF_UNIX, socket.SOCK_STREAM, 'x' * length)
try: socket.socket(socket.AF_UNIX).connect('nobody'); print('somebody')
except FileNotFoundError: print('as ever')
";
    let taken = Taken::new();
    let localhost = Localhost::new();
    let directory = TempDir::new().unwrap();
    let arguments = [&taken.text(), directory.path().to_str().unwrap()];
    for way in &WAYS[1..3] {
        let sub = TempDir::new_in(directory.path()).unwrap();
        let arguments = [arguments[0], sub.path().to_str().unwrap()];
        localhost.says("as ever", way, OTHERS, &arguments).await;
    }
}

#[tokio::test]
async fn ports_that_others_are_to_reach_stay_where_they_are() {
    const PUBLIC: &str = "
import socket, sys
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2]))); server.listen()
client = socket.create_connection(('127.0.0.1', server.getsockname()[1]), 10)
assert server.accept()
print(server.getsockname()[0])
";
    let localhost = Localhost::new();
    // Any port at all: whoever asks for that tells others which it is.
    for host in ["127.0.0.1", "0.0.0.0"] {
        for way in WAYS {
            localhost.says(host, way, PUBLIC, &[host, "0"]).await;
        }
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (one, range) = (port.to_string(), format!("1-2,{}-{port}", port - 3));
    let said = ["--public", &one];
    localhost
        .says("0.0.0.0", &said, PUBLIC, &["0.0.0.0", &one])
        .await;
    let said = ["--public", &range];
    localhost
        .says("127.0.0.1", &said, PUBLIC, &["127.0.0.1", &one])
        .await;
    for variable in [
        "PMI_RANK=0",
        "PMIX_RANK=3",
        "OMPI_COMM_WORLD_RANK=1",
        "HPC_PROXY_PUBLIC=1",
    ] {
        let mut exec = localhost.exec(&[]);
        exec.args(["env", variable, "python3", "-c", PUBLIC, "0.0.0.0", &one]);
        let ended = crate::harness::run(&mut exec).await;
        assert_eq!(ended.stdout.trim(), "0.0.0.0", "{variable} {ended:?}");
    }
    let mut exec = localhost.exec(&[]);
    exec.args([
        "env",
        "HPC_PROXY_PUBLIC=0",
        "python3",
        "-c",
        PUBLIC,
        "0.0.0.0",
        &one,
    ]);
    let ended = crate::harness::run(&mut exec).await;
    assert!(ended.stdout.starts_with("127."), "{ended:?}");
    assert_ne!(ended.stdout.trim(), "127.0.0.1");
}

// The way to other machines, by what this one has of it: an address of an interface.
#[tokio::test]
async fn connections_to_elsewhere_go_there() {
    const ELSEWHERE: &str = "
import errno, socket, sys
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: probe.connect(('192.0.2.1', 9))
except OSError: print('no network'); sys.exit()
own = probe.getsockname()[0]
if own.startswith('127.'): print('no network'); sys.exit()
# A server of an address that others reach is not moved, and is met there.
server = socket.socket(); server.bind((own, 0)); server.listen()
port = server.getsockname()[1]
assert server.getsockname()[0] == own
client = socket.create_connection((own, port), 10)
assert client.getpeername() == (own, port) and server.accept()
# One that is private is met by the node's own name too, from below.
private = socket.socket(); private.bind(('0.0.0.0', int(sys.argv[1]))); private.listen()
client = socket.create_connection((own, int(sys.argv[1])), 10)
assert private.accept()
# To a network for documentation, where nobody is (RFC 5737).
far = socket.socket(); far.settimeout(0.3)
try: far.connect(('192.0.2.1', 9)); print('somebody')
except (TimeoutError, OSError) as error: print('elsewhere')
";
    let taken = Taken::new();
    for way in WAYS {
        let localhost = Localhost::new();
        let ended = localhost.python(way, ELSEWHERE, &[&taken.text()]).await;
        if ended.stdout.trim() == "no network" {
            return lacks("an address besides those of the loopback");
        }
        assert_eq!(ended.stdout.trim(), "elsewhere", "{way:?} {ended:?}");
    }
}

// Another network namespace has a localhost of its own, where nobody else is.
#[tokio::test]
async fn another_network_is_left_alone() {
    const BINDS: &str = "
import socket, sys
server = socket.socket(); server.bind(('0.0.0.0', int(sys.argv[1])))
print(server.getsockname()[0])
";
    let unshare = ["unshare", "--map-root-user", "--net"];
    let can = std::process::Command::new(unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .output();
    if !can.is_ok_and(|ended| ended.status.success()) {
        lacks("user and network namespaces");
        return;
    }
    for way in WAYS {
        let (localhost, taken) = (Localhost::new(), Taken::new());
        let mut exec = localhost.exec(way);
        exec.args(unshare)
            .args(["python3", "-c", BINDS, &taken.text()]);
        let ended = run(&mut exec).await;
        assert_eq!(ended.stdout.trim(), "0.0.0.0", "{way:?} {ended:?}");
    }
}
