//! Servers and clients of several languages below `exec`, as their own libraries open sockets, each on a
//! port that somebody else has outside; and the proxy, which finds the same server.

use std::{fs, path::Path};

use tokio::time::{Instant, sleep};

use super::{Localhost, PATH, Taken, has};
use crate::harness::{DEADLINE, Proxy, command, lacks, run};

/// What all of these servers answer.
const INSIDE: &str = "inside";

/// A client that prints what `http://localhost:PORT/` answers; the port is its last argument, or stands
/// where `{port}` does.
struct Client<'a>(&'a [&'a str]);

impl Client<'_> {
    fn at(&self, port: &str) -> Vec<String> {
        let mut command: Vec<String> = self
            .0
            .iter()
            .map(|word| word.replace("{port}", port))
            .collect();
        if command.iter().eq(self.0) {
            command.push(port.to_owned());
        }
        command
    }
}

const CURL: Client<'_> = Client(&["curl", "-s", "http://localhost:{port}/"]);
// Of a server on ::1 alone, which nobody reaches at 127.0.0.1 outside either.
const CURL_V6: Client<'_> = Client(&["curl", "-sg", "http://[::1]:{port}/"]);
const NODE_V6: Client<'_> = Client(&[
    "node",
    "-e",
    "require('http').get(`http://[::1]:${process.argv[1]}/`, answer => answer.pipe(process.stdout))",
]);
const PYTHON_V6: Client<'_> = Client(&[
    "python3",
    "-c",
    "import sys, urllib.request as r; print(r.urlopen(f'http://[::1]:{sys.argv[1]}').read().decode())",
]);
const NODE_HTTP: Client<'_> = Client(&[
    "node",
    "-e",
    "require('http').get(`http://localhost:${process.argv[1]}/`, answer => answer.pipe(process.stdout))",
]);
const NODE_FETCH: Client<'_> = Client(&[
    "node",
    "-e",
    "fetch(`http://localhost:${process.argv[1]}/`).then(it => it.text()).then(it => console.log(it))",
]);
const PYTHON: Client<'_> = Client(&[
    "python3",
    "-c",
    "import sys, urllib.request as r; print(r.urlopen('http://localhost:' + sys.argv[1]).read().decode())",
]);
const PYTHON_ASYNCIO: Client<'_> = Client(&[
    "python3",
    "-c",
    "
import asyncio, sys
async def main():
    reader, writer = await asyncio.open_connection('localhost', int(sys.argv[1]))
    writer.write(b'GET / HTTP/1.0\\r\\n\\r\\n')
    print((await reader.read()).decode())
asyncio.run(main())
",
]);
const PHP: Client<'_> = Client(&[
    "php",
    "-r",
    "echo file_get_contents('http://localhost:' . $argv[1] . '/');",
]);
const RUBY: Client<'_> = Client(&[
    "ruby",
    "-rnet/http",
    "-e",
    "puts Net::HTTP.get(URI(\"http://localhost:#{ARGV[0]}/\"))",
]);
const R: Client<'_> = Client(&[
    "Rscript",
    "-e",
    "cat(readLines(url(paste0('http://localhost:', commandArgs(TRUE)[1], '/')), warn = FALSE))",
]);

/// A server of Python's own, on the host behind the port.
const PYTHON_SERVER: &str = "
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'inside')
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[1])), Page)
print('up', flush=True)
server.serve_forever()
";

/// Starts `server`, which says `up` and answers on the port that is its next argument, with what is `more`
/// behind it; then each client, and the proxy, must read what it answers.
async fn is_reached(server: &[&str], more: &[&str], clients: &[Client<'_>]) {
    if let Err(error) = private_localhost::probe() {
        lacks(&format!("a private localhost ({error})"));
        return;
    }
    for program in [server[0]]
        .into_iter()
        .chain(clients.iter().map(|client| client.0[0]))
    {
        if !program.starts_with('/') && !has(program) {
            lacks(program);
            return;
        }
    }
    let (localhost, taken) = (Localhost::new(), Taken::new());
    let port = taken.text();
    let started = [server, &[&port], more].concat();
    let _running = localhost.start(&[], &started).await;

    let home = tempfile::TempDir::new().unwrap();
    let mut proxy = command(home.path());
    proxy
        .args(["--job", &localhost.job])
        .env("HPC_PROXY_STATE_DIR", localhost.home.path().join(".state"));
    let proxy = Proxy::start_as_is(home, proxy).await;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
        let text = answered.text().await.unwrap();
        if text.contains(INSIDE) {
            break;
        }
        // Some say that they are up a little early.
        assert!(
            Instant::now() < deadline,
            "{started:?} by the proxy: {text}"
        );
        sleep(std::time::Duration::from_millis(50)).await;
    }
    for Client(client) in clients {
        let mut exec = localhost.exec(&[]);
        let command = Client(client).at(&port);
        let ended = run(exec.args(command)).await;
        assert!(
            ended.stdout.contains(INSIDE),
            "{started:?} by {client:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn node_serves_and_asks() {
    const SERVER: &str = "
        require('http').createServer((_, answer) => answer.end('inside'))
            .listen(+process.argv[1], process.argv[2], () => console.log('up'))";
    for host in [&[][..], &["localhost"], &["127.0.0.1"], &["0.0.0.0"]] {
        let clients = [NODE_HTTP, NODE_FETCH, PYTHON];
        is_reached(&["node", "-e", SERVER], host, &clients).await;
    }
    is_reached(&["node", "-e", SERVER], &["::1"], &[NODE_V6, CURL_V6]).await;
}

#[tokio::test]
async fn workers_of_node_share_a_port() {
    const SERVER: &str = "
        const cluster = require('cluster');
        if (cluster.isPrimary) {
            let up = 0;
            cluster.on('listening', () => { if (++up === 2) console.log('up'); });
            for (let i = 0; i < 2; i++) cluster.fork();
        } else {
            require('http').createServer((_, answer) => answer.end('inside')).listen(+process.argv[2]);
        }";
    let directory = tempfile::TempDir::new().unwrap();
    let script = directory.path().join("cluster.js");
    fs::write(&script, SERVER).unwrap();
    let script = script.to_str().unwrap();
    is_reached(&["node", script], &[], &[NODE_HTTP, CURL]).await;
}

#[tokio::test]
async fn python_serves_and_asks() {
    for host in ["", "localhost", "0.0.0.0"] {
        is_reached(
            &["python3", "-c", PYTHON_SERVER],
            &[host],
            &[PYTHON, PYTHON_ASYNCIO, CURL],
        )
        .await;
    }
}

// It listens on each address of a name by itself, and would take one port twice.
#[tokio::test]
async fn asyncio_serves_on_all_addresses_of_a_name() {
    const SERVER: &str = "
import asyncio, sys
async def answer(reader, writer):
    await reader.readuntil(b'\\r\\n\\r\\n')
    writer.write(b'HTTP/1.0 200 OK\\r\\n\\r\\ninside')
    writer.close()
async def main():
    server = await asyncio.start_server(answer, sys.argv[2] or None, int(sys.argv[1]))
    print('up', flush=True)
    await server.serve_forever()
asyncio.run(main())
";
    for host in ["", "localhost", "0.0.0.0"] {
        is_reached(
            &["python3", "-c", SERVER],
            &[host],
            &[PYTHON_ASYNCIO, PYTHON],
        )
        .await;
    }
    let server = ["python3", "-c", SERVER];
    is_reached(&server, &["::"], &[PYTHON_V6, CURL_V6]).await;
}

#[tokio::test]
async fn php_serves_and_asks() {
    let directory = tempfile::TempDir::new().unwrap();
    let page = directory.path().join("page.php");
    fs::write(&page, "<?php echo 'inside';").unwrap();
    if !has("php") {
        lacks("php");
        return;
    }
    const SERVER: &str = "echo up; exec php -S localhost:$2 $1 2>&1";
    let server = ["sh", "-c", SERVER, "sh", page.to_str().unwrap()];
    is_reached(&server, &[], &[PHP, CURL]).await;
}

#[tokio::test]
async fn ruby_serves_and_asks() {
    const SERVER: &str = "
        require 'socket'
        server = TCPServer.new('localhost', ARGV[0].to_i)
        puts 'up'
        $stdout.flush
        loop do
          client = server.accept
          client.readpartial 4096
          client.write \"HTTP/1.0 200 OK\\r\\n\\r\\ninside\"
          client.close
        end";
    is_reached(&["ruby", "-e", SERVER], &[], &[RUBY, PYTHON]).await;
}

#[tokio::test]
async fn r_serves_and_asks() {
    const SERVER: &str = "
        library(shiny)
        port <- as.integer(commandArgs(TRUE)[1])
        app <- shinyApp(fluidPage('inside'), function(input, output) NULL)
        cat('up\\n')
        runApp(app, port = port, host = '127.0.0.1', launch.browser = FALSE, quiet = TRUE)";
    if !Path::new("/usr/lib/R/site-library/shiny").exists() {
        lacks("R with shiny");
        return;
    }
    is_reached(&["Rscript", "-e", SERVER], &[], &[R, CURL]).await;
}

// No library of C stands between these and the kernel.
#[tokio::test]
async fn static_programs_serve_and_ask() {
    const SERVER: &str = r#"package main
import ("fmt"; "net"; "net/http"; "os")
func main() {
	listener, err := net.Listen("tcp", os.Args[2] + ":" + os.Args[1])
	if err != nil { panic(err) }
	fmt.Println("up")
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "inside") }))
}"#;
    const CLIENT: &str = r#"package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
	answer, err := http.Get("http://localhost:" + os.Args[1] + "/")
	if err != nil { panic(err) }
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
}"#;
    if !has("go") {
        lacks("go");
        return;
    }
    let directory = tempfile::TempDir::new().unwrap();
    let build = |name: &str, source: &str| {
        let (program, file) = (
            directory.path().join(name),
            directory.path().join(name.to_owned() + ".go"),
        );
        fs::write(&file, source).unwrap();
        let built = std::process::Command::new("go")
            .args(["build", "-o"])
            .args([&program, &file])
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", directory.path())
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local")
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        program.to_str().unwrap().to_owned()
    };
    let (server, client) = (build("server", SERVER), build("client", CLIENT));
    for host in ["", "localhost", "127.0.0.1"] {
        is_reached(&[&server], &[host], &[CURL, PYTHON]).await;
    }
    is_reached(&[&server], &["[::1]"], &[CURL_V6, PYTHON_V6]).await;
    // The other way round.
    is_reached(
        &["python3", "-c", PYTHON_SERVER],
        &["127.0.0.1"],
        &[Client(&[&client])],
    )
    .await;
}

// One of the programs that this repository builds, which are all static.
#[tokio::test]
async fn a_static_program_of_ours_serves() {
    let home = tempfile::TempDir::new().unwrap();
    fs::write(
        home.path().join("start"),
        "echo up; exec \"$1\" --auth none --bind 127.0.0.1 --port $2\n",
    )
    .unwrap();
    if private_localhost::probe().is_err() {
        lacks("a private localhost");
        return;
    }
    let (localhost, taken) = (Localhost::new(), Taken::new());
    let port = taken.text();
    let script = home.path().join("start");
    let program = localhost.program.to_str().unwrap();
    let _running = localhost
        .start(&[], &["sh", script.to_str().unwrap(), program, &port])
        .await;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut exec = localhost.exec(&[]);
        let ended = run(exec.args(PYTHON.at(&port))).await;
        if ended.stdout.contains("Your dev servers") {
            break;
        }
        assert!(Instant::now() < deadline, "{ended:?}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}
