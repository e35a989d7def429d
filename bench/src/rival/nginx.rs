//! nginx, in one process that is worker and master, so that killing it leaves nothing behind.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::Result;

use super::{Rival, configure, installed};

pub(super) fn command(
    rival: &Rival,
    dir: &Path,
    address: SocketAddr,
    target_port: u16,
) -> Result<Command> {
    let conf = configure(dir, &configuration(rival, dir, address, target_port))?;
    let mut command = Command::new(installed("nginx")?);
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(conf)
        .args(["-e", "stderr"]);
    Ok(command)
}

/// As few limits and as little writing as it can be asked for; idle connections to the backend for all
/// clients of a load.
fn configuration(rival: &Rival, dir: &Path, address: SocketAddr, target_port: u16) -> String {
    let dir = dir.display();
    let buffers = match rival {
        Rival::NginxLarge => "proxy_buffer_size 64k; proxy_buffers 8 64k;",
        _ => "",
    };
    let locations = match rival {
        Rival::NginxVar => {
            "location ~ ^/port/(?<port>[0-9]+)(?<rest>/.*)$ { proxy_pass http://127.0.0.1:$port$rest$is_args$args; }"
                .to_owned()
        }
        _ => format!(
            "location / {{ proxy_pass http://dev; }}\n\
             location /port/{target_port}/ {{\n\
               proxy_pass http://dev/;\n\
               sub_filter_once off;\n\
               sub_filter 'href=\"/' 'href=\"/port/{target_port}/';\n\
               sub_filter 'src=\"/' 'src=\"/port/{target_port}/';\n\
               sub_filter 'action=\"/' 'action=\"/port/{target_port}/';\n\
               sub_filter 'url(/' 'url(/port/{target_port}/';\n\
             }}"
        ),
    };
    format!(
        r#"daemon off; master_process off; pid {dir}/pid; error_log stderr crit;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
  access_log off; tcp_nodelay on;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 3600;
  client_max_body_size 0; client_body_buffer_size 128k;
  upstream dev {{ server 127.0.0.1:{target_port}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $hop {{ default upgrade; '' ''; }}
  server {{
    listen {address} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Connection $hop; proxy_set_header Upgrade $http_upgrade;
    proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 3600; {buffers}
    {locations}
  }}
}}
"#
    )
}
