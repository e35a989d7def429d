//! The way to a manager elsewhere: the system's `curl`, which has the machine's certificates and
//! proxies. What it is to do, the token with it, goes to its standard input: on a machine of many,
//! everybody can read arguments.

use std::{fmt, process::Stdio, str::FromStr};

use hpc_proxy::http1::target::{host_name, is_host};
use thiserror::Error;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{DEADLINE, LONGEST_ANSWER_BYTES};
use crate::{
    auth::access_token::AccessToken,
    job::one_line,
    origin::{API_FIELD, is_trustworthy},
};

/// Where a manager is, to which a token may be sent: by TLS, or on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: &'static str,
    authority: String,
}

/// Text names no such place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not https:// and a host, with nothing behind it (http:// is taken on this machine alone)",
    .0.escape_debug())]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        let split = bare.split_once("://");
        let found = split.and_then(|(scheme, authority)| {
            let scheme = ["https", "http"].into_iter().find(|it| *it == scheme)?;
            let sound = is_host(authority.as_bytes())
                && !host_name(authority.as_bytes()).is_empty()
                && is_trustworthy(scheme, authority);
            sound.then(|| Self {
                scheme,
                authority: authority.to_owned(),
            })
        });
        found.ok_or_else(|| NotAnAddress(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Why nothing came back.
#[derive(Debug, Error)]
pub enum CurlError {
    /// There is no curl.
    #[error("cannot start `curl`")]
    Spawn(#[source] std::io::Error),
    /// It cannot be waited for.
    #[error("lost the `curl` process")]
    Io(#[source] std::io::Error),
    /// It says why.
    #[error("the manager cannot be reached: {0}")]
    Failed(String),
    /// It says something else than a status.
    #[error("`curl` tells no status")]
    NoStatus,
}

impl CurlError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Spawn(_) => "install it: it carries calls to managers on other machines",
            Self::Io(_) | Self::NoStatus => "try again",
            Self::Failed(_) => "is `--url` right, and does the manager run?",
        }
    }
}

/// Where, and as whom.
#[derive(Debug)]
pub(super) struct Curl {
    pub(super) address: Address,
    pub(super) token: AccessToken,
}

impl Curl {
    pub(super) async fn sends(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Vec<u8>), CurlError> {
        // `-q` comes first: no ~/.curlrc has a say in where a token goes.
        let mut child = Command::new("curl")
            .args(["-q", "--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(CurlError::Spawn)?;
        let mut stdin = child.stdin.take().expect("piped");
        let orders = self.orders(method, path, body);
        let feed = async move {
            // Where it ended before, it says why.
            let _ = stdin.write_all(orders.as_bytes()).await;
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(CurlError::Io)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(CurlError::Failed(one_line(&said)));
        }
        let end = output.stdout.iter().rposition(|byte| *byte == b'\n');
        let (body, status) = output.stdout.split_at(end.ok_or(CurlError::NoStatus)?);
        let status = std::str::from_utf8(status).unwrap_or_default().trim();
        let status = status.parse().map_err(|_| CurlError::NoStatus)?;
        Ok((status, body.to_vec()))
    }

    /// A configuration for curl(1). A redirect is an answer like others: it is not followed.
    fn orders(&self, method: &str, path: &str, body: &str) -> String {
        let Address { scheme, .. } = self.address;
        let mut orders = vec![
            ("url", format!("{}{path}", self.address)),
            ("request", method.to_owned()),
            ("proto", format!("={scheme}")),
            (
                "header",
                format!("Authorization: Bearer {}", self.token.reveal()),
            ),
            ("header", format!("{API_FIELD}: 1")),
            ("header", "Accept: application/json".to_owned()),
            ("max-time", DEADLINE.as_secs().to_string()),
            ("max-filesize", LONGEST_ANSWER_BYTES.to_string()),
            ("write-out", "\n%{http_code}".to_owned()),
        ];
        if method != "GET" {
            orders.push(("header", "Content-Type: application/json".to_owned()));
            orders.push(("data-raw", body.to_owned()));
        }
        // On this machine no proxy is wanted, which could read along.
        if scheme == "http" {
            orders.push(("noproxy", "*".to_owned()));
        }
        let orders = orders.iter();
        let lines = orders.map(|(name, value)| format!("{name} = {}\n", quoted(value)));
        format!("silent\nshow-error\n{}", lines.collect::<String>())
    }
}

/// A parameter in quotation marks, by the rules of curl(1), `--config`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_by_tls_or_stays_on_this_machine() {
        for text in [
            "https://hpc.example.org",
            "https://hpc.example.org:8443/",
            "http://127.0.0.1:8080",
            "http://localhost:8080",
            "http://[::1]:8080",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text.trim_end_matches('/'));
        }
        for text in [
            "http://hpc.example.org",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://",
            "https://a/b",
            "https://a@b",
            "hpc.example.org",
            "https://a\nb",
            "",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_parameter_is_one_line() {
        let quoted = quoted("a\"\\\n\r\t{}");
        assert_eq!(quoted, r#""a\"\\\n\r\t{}""#);
    }
}
