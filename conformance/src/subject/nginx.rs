//! nginx as people put it in front of dev servers: the prefix is stripped and upgrades go through.

use std::{fs, path::Path};

use anyhow::Result;

use super::{Kind, Running, await_start, command, home, loopback, process, unused_port};
use crate::peer::Conn;

const CONFIGURATION: &str = r#"
daemon off;
# Workers would outlive a master that is killed.
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 0;
  map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
  server {
    listen 127.0.0.1:@PORT@;
    location ~ ^/port/(\d+)(/.*)$ {
      proxy_pass http://127.0.0.1:$1$2$is_args$args;
      proxy_http_version 1.1;
      proxy_set_header Host localhost:$1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_pass_header Server;
      proxy_pass_header Date;
      proxy_buffering off;
      proxy_request_buffering off;
    }
  }
}
"#;

pub(super) fn start(program: &Path) -> Result<Running> {
    let home = home()?;
    let port = unused_port()?;
    let configuration = CONFIGURATION.replace("@PORT@", &port.to_string());
    let file = home.path().join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = command(program, home.path())?;
    let mut child = command
        .arg("-p")
        .arg(home.path())
        .arg("-c")
        .arg(&file)
        .spawn()?;
    await_start(&mut child, home.path(), || Conn::to(&loopback(port)).ok())?;
    Ok(process(Kind::Nginx, port, None, home, child))
}
