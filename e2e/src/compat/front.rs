//! What stands between a browser and a dev server, and the addresses that a server has there.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Url;
use tokio::process::Command;

use super::traffic::{Realm, Siblings};
use crate::child::{Child, Lifeline};
use crate::cluster::Embedded;
use crate::world::World;
use crate::{binaries, eventually, ports};

/// One kind of way from the browser to a dev server. Only the direct one calls itself localhost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// None.
    Direct,
    /// The proxy alone, `/port/N/`.
    Path,
    /// The manager, a tunnel and the proxy, `/port/N/`.
    Manager,
    /// The proxy alone, `N.localhost`.
    Subdomain,
    /// The manager, a tunnel and the proxy, `N--JOB.apps.example.test`.
    Apps,
    /// The proxy behind a server that ends TLS.
    Tls,
    /// A plain reverse proxy that strips `/port/N`: what people would do otherwise.
    Strip,
}

impl Front {
    /// All that are ours, and the direct one to compare with.
    pub const OURS: [Front; 6] = [
        Front::Direct,
        Front::Path,
        Front::Manager,
        Front::Subdomain,
        Front::Apps,
        Front::Tls,
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Front> {
        let mut all = Front::OURS.into_iter().chain([Front::Strip]);
        all.find(|front| front.to_string() == name)
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Front::Direct => "direct",
            Front::Path => "path",
            Front::Manager => "manager",
            Front::Subdomain => "subdomain",
            Front::Apps => "apps",
            Front::Tls => "tls",
            Front::Strip => "strip",
        })
    }
}

/// Where a server is behind a front.
#[derive(Debug)]
pub struct Place {
    /// Its address, and what belongs to it.
    pub realm: Realm,
    /// What a person opens first.
    pub sign_in: Option<String>,
}

/// The fronts that are wanted, up and running.
pub struct Fronts {
    proxy: Option<Proxy>,
    nginx: Option<Nginx>,
    world: Option<World>,
}

impl Fronts {
    /// Starts what the wanted ones need, with all their files below `dir`.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn start(dir: &Path, wanted: &[Front]) -> Result<Fronts> {
        let any = |of: &[Front]| wanted.iter().any(|front| of.contains(front));
        let mut fronts = Fronts {
            proxy: None,
            nginx: None,
            world: None,
        };
        if any(&[Front::Path, Front::Subdomain, Front::Tls]) {
            fronts.proxy = Some(Proxy::start(dir).await.context("start the proxy")?);
        }
        if any(&[Front::Tls, Front::Strip]) {
            let nginx = Nginx::start(dir, fronts.proxy.as_ref()).await;
            fronts.nginx = Some(nginx.context("start nginx")?);
        }
        if any(&[Front::Manager, Front::Apps]) {
            let world = World::on(&Embedded)
                .listening_on(ports::free()?)
                .known_as(MANAGER, APPS)
                .await?;
            world.user("alice").opens_vscode().on("node01").await?;
            fronts.world = Some(world);
        }
        Ok(fronts)
    }

    /// Where the server on `port` is behind `front`.
    ///
    /// # Errors
    /// No link can be had.
    pub async fn place(&self, front: Front, port: u16) -> Result<Place> {
        let (root, siblings, sign_in) = match front {
            Front::Direct => (format!("http://localhost:{port}/"), Siblings::Ports, None),
            Front::Path => {
                let host = format!("node.example.test:{}", self.proxy()?.port);
                let link = at_host(&self.proxy()?.link().await?, &host)?;
                let root = format!("http://{host}/port/{port}/");
                (root, Siblings::Paths, Some(link))
            }
            Front::Subdomain => {
                // Whoever has signed in at `localhost` is handed over to the names below it.
                let link = self.proxy()?.link().await?;
                let root = format!("http://{port}.localhost:{}/", self.proxy()?.port);
                (root, Siblings::Names, Some(link))
            }
            Front::Manager => {
                let root = format!("{}/port/{port}/", self.world()?.manager().origin());
                (root, Siblings::Paths, Some(self.manager_link().await?))
            }
            Front::Apps => {
                let session = self.world()?.user("alice").session().await?;
                let name = format!("{port}--{}.{APPS}", session.job()?);
                let root = self.world()?.manager().origin().replace(MANAGER, &name);
                (root, Siblings::Names, Some(self.manager_link().await?))
            }
            Front::Tls => {
                let door = self.nginx()?.tls;
                let root = format!("https://front.example.test:{door}/port/{port}/");
                (root, Siblings::Paths, None)
            }
            Front::Strip => {
                let door = self.nginx()?.strip;
                let root = format!("http://front.example.test:{door}/port/{port}/");
                (root, Siblings::Paths, None)
            }
        };
        let root = Url::parse(&root)?;
        Ok(Place {
            realm: Realm { root, siblings },
            sign_in,
        })
    }

    /// Ends them all.
    ///
    /// # Errors
    /// One of them ends badly.
    pub async fn end(self) -> Result<()> {
        if let Some(world) = self.world {
            world.ends_cleanly().await?;
        }
        if let Some(nginx) = self.nginx {
            nginx.process.end().await?;
        }
        if let Some(proxy) = self.proxy {
            proxy.process.end().await?;
        }
        Ok(())
    }

    async fn manager_link(&self) -> Result<String> {
        self.world()?.manager().another_link("alice").await
    }

    fn world(&self) -> Result<&World> {
        self.world.as_ref().context("no manager was started")
    }

    fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("no proxy was started")
    }

    fn nginx(&self) -> Result<&Nginx> {
        self.nginx.as_ref().context("no nginx was started")
    }
}

const MANAGER: &str = "manager.example.test";

/// Dev servers of the manager's users are below this name.
const APPS: &str = "apps.example.test";

/// The proxy under test by itself, as after `ssh -L`.
struct Proxy {
    process: Child,
    home: String,
    port: u16,
    token: String,
}

impl Proxy {
    async fn start(dir: &Path) -> Result<Proxy> {
        let program = binaries::hpc_proxy()?;
        let home = dir.join("home");
        std::fs::create_dir_all(&home)?;
        let home = home.display().to_string();
        let env = [
            ("HOME", home.as_str()),
            ("HPC_PROXY_ALLOW_ROOT", "true"),
            ("HPC_PROXY_GRACE", "1s"),
            ("XDG_RUNTIME_DIR", &home),
        ];
        let args = ["--bind=127.0.0.1", "--verbose"];
        let process = Child::start("hpc-proxy", Lifeline::Guarded, dir, &program, args, &env)?;
        let files = Path::new(&home).join(".hpc-proxy");
        let port = eventually!(10, "the proxy publishes its port", {
            let port =
                std::fs::read_to_string(files.join("port")).with_context(|| process.log())?;
            Ok(port.trim().parse::<u16>()?)
        })?;
        let token = std::fs::read_to_string(files.join("token")).context("its token")?;
        Ok(Proxy {
            process,
            home,
            port,
            token: token.trim().to_owned(),
        })
    }

    /// A one-time link.
    async fn link(&self) -> Result<String> {
        let output = Command::new(binaries::hpc_proxy()?)
            .arg("url")
            .env("HOME", &self.home)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`hpc-proxy url` failed: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A link with another host and port in it.
fn at_host(link: &str, host: &str) -> Result<String> {
    let Some((scheme, rest)) = link.split_once("://") else {
        bail!("not a link: `{link}`");
    };
    let path = rest.find('/').map_or("/", |start| &rest[start..]);
    Ok(format!("{scheme}://{host}{path}"))
}

/// Debian's nginx, with two doors.
struct Nginx {
    process: Child,
    tls: u16,
    strip: u16,
}

impl Nginx {
    async fn start(dir: &Path, proxy: Option<&Proxy>) -> Result<Nginx> {
        let dir = dir.join("nginx");
        std::fs::create_dir_all(&dir)?;
        let (tls, strip) = (ports::free()?, ports::free()?);
        certificate(&dir).await?;
        let behind = proxy.map(|proxy| {
            format!(
                "listen 127.0.0.1:{tls} ssl; ssl_certificate front.crt; ssl_certificate_key front.key;
                 location / {{
                   proxy_pass http://127.0.0.1:{};
                   proxy_set_header Host $http_host;
                   proxy_set_header X-Forwarded-Host $http_host;
                   proxy_set_header X-Forwarded-Proto https;
                   proxy_set_header X-Hpc-Proxy-Token {};
                 }}",
                proxy.port, proxy.token
            )
        });
        let behind = behind
            .map(|it| format!("server {{ {it} }}"))
            .unwrap_or_default();
        let here = dir.display();
        let config = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/errors;
             events {{}}
             http {{
               access_log off; client_max_body_size 0; proxy_buffering off; proxy_read_timeout 1h;
               client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;
               uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
               proxy_http_version 1.1; merge_slashes off;
               map $http_upgrade $joined {{ default upgrade; '' ''; }}
               proxy_set_header Upgrade $http_upgrade;
               proxy_set_header Connection $joined;
               {behind}
               server {{
                 listen 127.0.0.1:{strip};
                 location ~ ^/port/(?<n>[0-9]+)/ {{
                   rewrite ^/port/[0-9]+(/.*)$ $1 break;
                   proxy_pass http://127.0.0.1:$n;
                   proxy_set_header Host $http_host;
                   proxy_set_header Upgrade $http_upgrade;
                   proxy_set_header Connection $joined;
                 }}
               }}
             }}"
        );
        // The settings of a block that has some of its own are not inherited.
        let config = config.replace(
            "proxy_set_header X-Forwarded-Proto",
            "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $joined;
             proxy_set_header X-Forwarded-Proto",
        );
        std::fs::write(dir.join("nginx.conf"), config)?;
        let args = [
            "-p".into(),
            dir.clone(),
            "-c".into(),
            dir.join("nginx.conf"),
        ];
        let program = Path::new("nginx");
        let process = Child::start("nginx", Lifeline::Guarded, &dir, program, args, &[])?;
        let wait = Duration::from_secs(10);
        crate::eventually::until_ok(wait, "nginx listens", async || -> Result<()> {
            let door = tokio::net::TcpStream::connect(("127.0.0.1", strip)).await;
            door.with_context(|| process.log()).map(drop)
        })
        .await?;
        Ok(Nginx {
            process,
            tls,
            strip,
        })
    }
}

async fn certificate(dir: &Path) -> Result<()> {
    let args = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=front.example.test -keyout front.key -out front.crt";
    let output = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(dir)
        .output()
        .await
        .context("run openssl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl failed: {said}");
    Ok(())
}
