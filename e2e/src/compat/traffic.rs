//! What a page asked for, and what is wrong with it: requests that failed, requests that left.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use serde_json::Value;

use super::case::{Live, LiveBy};
use crate::line::Witness;

/// Where a page's requests may go.
#[derive(Clone, Debug)]
pub struct Realm {
    /// The address of the server's root as the browser has it.
    pub root: Url,
    /// How other servers of the same user are addressed.
    pub siblings: Siblings,
}

/// How a front addresses the other ports of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Siblings {
    /// As ports of this machine.
    Ports,
    /// As `/port/N/`.
    Paths,
    /// As the first label of the host's name: `N.` or `N--`.
    Names,
}

impl Realm {
    /// Whether a request to `address` stays where it belongs.
    pub fn holds(&self, address: &str) -> bool {
        let Ok(url) = Url::parse(address) else {
            return false;
        };
        if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
            // `data:`, `blob:` and their like do not leave the browser.
            return true;
        }
        let port = |url: &Url| url.port_or_known_default();
        let same_door = port(&url) == port(&self.root);
        let same_host = url.host_str() == self.root.host_str() && same_door;
        let below_root = same_host && url.path().starts_with(self.root.path());
        below_root
            || match self.siblings {
                Siblings::Ports => {
                    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
                }
                Siblings::Paths => same_host && is_of_a_port(url.path()),
                Siblings::Names => same_door && rest_of_name(&url) == rest_of_name(&self.root),
            }
    }
}

fn is_of_a_port(path: &str) -> bool {
    let number = path
        .strip_prefix("/port/")
        .and_then(|rest| rest.split_once('/'));
    number.is_some_and(|(number, _)| number.parse::<u16>().is_ok())
}

/// The host's name without the port number that it begins with.
fn rest_of_name(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    let rest = host.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < host.len()).then_some(rest)
}

/// Everything that was asked for in a window.
#[derive(Debug, Default)]
pub struct Traffic {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: BTreeMap<String, Request>,
    /// Requests that were redirected, which keep their id.
    earlier: Vec<Request>,
    loads: usize,
    errors: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Request {
    url: String,
    method: String,
    kind: String,
    status: Option<u64>,
    mime: String,
    error: Option<String>,
    ended: bool,
}

impl Traffic {
    /// Forgets all so far, such as a sign-in.
    pub fn begins(&self) {
        *self.seen() = Seen::default();
    }

    /// How many documents were loaded in the window itself.
    pub fn loads(&self) -> usize {
        self.seen().loads
    }

    /// Whether the browser gave requests up because a network interface came or went on this machine, as
    /// containers' do: it says nothing about the server.
    pub fn was_disturbed(&self) -> bool {
        let disturbed = Some("net::ERR_NETWORK_CHANGED");
        self.seen().all().any(|it| it.error.as_deref() == disturbed)
    }

    /// What the page threw or logged as an error: not judged, but told beside a failure.
    pub fn errors(&self) -> Vec<String> {
        self.seen().errors.clone()
    }

    /// A line for each request that failed.
    pub fn failed(&self, may_fail: &[String]) -> Vec<String> {
        let seen = self.seen();
        let mut failed: Vec<String> = seen
            .all()
            .filter(|request| !may_fail.iter().any(|part| request.url.contains(part)))
            .filter_map(|request| {
                let why = match (&request.error, request.status) {
                    (Some(error), _) => error.clone(),
                    (None, Some(status)) if status >= 400 => status.to_string(),
                    _ => return None,
                };
                Some(format!("{} {}: {why}", request.method, request.url))
            })
            .collect();
        failed.dedup();
        failed
    }

    /// Whether nothing is under way but what stays open.
    pub fn is_quiet(&self) -> bool {
        let seen = self.seen();
        seen.all()
            .filter(|it| !it.ended && it.status.is_none())
            .all(|it| it.url.starts_with("data:") || it.url.starts_with("blob:"))
    }

    /// The addresses of requests that left the realm.
    pub fn escaped(&self, realm: &Realm, may_call: &[String]) -> Vec<String> {
        let seen = self.seen();
        let mut escaped: Vec<String> = seen
            .all()
            .map(|request| request.url.clone())
            .filter(|url| !realm.holds(url))
            .filter(|url| !may_call.iter().any(|start| url.starts_with(start)))
            .collect();
        escaped.sort();
        escaped.dedup();
        escaped
    }

    /// Whether the live connection is up; a line that says what there is where it is not.
    ///
    /// # Errors
    /// It is not up.
    pub fn is_live(&self, live: &Live) -> Result<(), String> {
        let seen = self.seen();
        let here: Vec<&Request> = seen
            .all()
            .filter(|request| request.url.contains(&live.at) && request.error.is_none())
            .collect();
        let up = match live.by {
            LiveBy::Websocket => here
                .iter()
                .any(|it| it.kind == "WebSocket" && it.status == Some(101) && !it.ended),
            LiveBy::Events => here
                .iter()
                .any(|it| it.mime == "text/event-stream" && it.status == Some(200) && !it.ended),
            LiveBy::Polling => here.iter().filter(|it| it.status == Some(200)).count() >= 2,
        };
        if up {
            return Ok(());
        }
        let sockets = seen
            .all()
            .filter(|it| it.kind == "WebSocket" || it.mime == "text/event-stream");
        let sockets: Vec<String> = sockets
            .map(|it| {
                format!(
                    "{} ({:?}, {:?}, ended: {})",
                    it.url, it.status, it.error, it.ended
                )
            })
            .collect();
        Err(format!(
            "no {:?} at `{}`; there are {sockets:?}",
            live.by, live.at
        ))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// But for the icon that a browser asks for by itself, at the root of the origin.
    fn all(&self) -> impl Iterator<Item = &Request> {
        let all = self.earlier.iter().chain(self.requests.values());
        all.filter(|it| !(it.kind == "Other" && it.url.ends_with("/favicon.ico")))
    }

    fn begins(&mut self, params: &Value, request: Request) {
        self.requests.insert(text(&params["requestId"]), request);
    }

    /// The connections of a page end with it, whether or not the browser says so.
    fn ends_what_is_open(&mut self) {
        let stays = |it: &&mut Request| it.kind == "WebSocket" || it.mime == "text/event-stream";
        for request in self.requests.values_mut().filter(stays) {
            request.ended = true;
        }
    }

    /// The same as told by WebDriver BiDi, which Firefox speaks. Of a WebSocket it tells the handshake alone.
    fn sees_bidi(&mut self, method: &str, params: &Value) {
        let asked = &params["request"];
        let id = text(&asked["request"]);
        match method {
            "network.beforeRequestSent" => {
                // Only a redirect keeps the id.
                if let Some(earlier) = self.requests.remove(&id) {
                    self.earlier.push(earlier);
                }
                self.requests.insert(id, Request::of_bidi(asked));
            }
            "browsingContext.navigationCommitted" => {
                self.loads += 1;
                self.ends_what_is_open();
            }
            "log.entryAdded" if params["level"] == "error" => {
                self.errors.push(text(&params["text"]));
            }
            _ => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.goes_on_bidi(method, params);
                }
            }
        }
    }

    /// Nobody's own, where it began before we looked.
    fn of(&mut self, params: &Value) -> Option<&mut Request> {
        self.requests.get_mut(params["requestId"].as_str()?)
    }
}

impl Request {
    fn of_bidi(asked: &Value) -> Request {
        let headers = asked["headers"].as_array();
        let is_handshake = headers.into_iter().flatten().any(|header| {
            header["name"]
                .as_str()
                .is_some_and(|name| name.eq_ignore_ascii_case("sec-websocket-key"))
        });
        let url = text(&asked["url"]);
        if is_handshake {
            return Request {
                url: url.replacen("http", "ws", 1),
                method: "WebSocket".to_owned(),
                kind: "WebSocket".to_owned(),
                ..Request::default()
            };
        }
        // The browser's own wish for an icon has no element that began it.
        let own = asked["destination"] == "image" && asked["initiatorType"].is_null();
        Request {
            url,
            method: text(&asked["method"]),
            kind: if own { "Other" } else { "" }.to_owned(),
            ..Request::default()
        }
    }

    fn goes_on_bidi(&mut self, method: &str, params: &Value) {
        match method {
            "network.responseStarted" => {
                self.status = params["response"]["status"].as_u64();
                self.mime = text(&params["response"]["mimeType"]);
            }
            "network.responseCompleted" => {
                // Of a cached one there may be no beginning.
                self.status = params["response"]["status"].as_u64().or(self.status);
                self.ended = self.status != Some(101);
            }
            "network.fetchError" => {
                self.ended = true;
                let error = text(&params["errorText"]);
                // A page that is left, or that changes its mind, cancels what it asked for.
                if error != "NS_BINDING_ABORTED" && self.status != Some(101) {
                    self.error = Some(error);
                }
            }
            _ => {}
        }
    }

    fn goes_on(&mut self, method: &str, params: &Value) {
        match method {
            "Network.responseReceived" => {
                self.status = params["response"]["status"].as_u64();
                self.mime = text(&params["response"]["mimeType"]);
            }
            "Network.webSocketHandshakeResponseReceived" => {
                self.status = params["response"]["status"].as_u64();
            }
            "Network.loadingFinished" | "Network.webSocketClosed" => self.ended = true,
            "Network.loadingFailed" => {
                self.ended = true;
                let error = text(&params["errorText"]);
                // A page that is left, or that changes its mind, cancels what it asked for.
                if params["canceled"] != true && error != "net::ERR_ABORTED" {
                    let reason = params["blockedReason"].as_str().unwrap_or_default();
                    self.error = Some(format!("{error} {reason}").trim().to_owned());
                }
            }
            // An open one that breaks with its server is not a request that failed.
            "Network.webSocketFrameError" if self.status != Some(101) => {
                self.error = Some(text(&params["errorMessage"]));
            }
            _ => {}
        }
    }
}

impl Witness for Traffic {
    fn sees(&self, method: &str, params: &Value) {
        let mut seen = self.seen();
        match method {
            "Network.requestWillBeSent" => {
                let redirect = &params["redirectResponse"];
                if redirect.is_object()
                    && let Some(mut earlier) = seen.of(params).cloned()
                {
                    earlier.status = redirect["status"].as_u64();
                    earlier.ended = true;
                    seen.earlier.push(earlier);
                }
                let request = Request {
                    url: text(&params["request"]["url"]),
                    method: text(&params["request"]["method"]),
                    kind: text(&params["type"]),
                    ..Request::default()
                };
                seen.begins(params, request);
            }
            "Network.webSocketCreated" => {
                let request = Request {
                    url: text(&params["url"]),
                    method: "WebSocket".to_owned(),
                    kind: "WebSocket".to_owned(),
                    ..Request::default()
                };
                seen.begins(params, request);
            }
            _ if method.starts_with("Network.") => {
                if let Some(request) = seen.of(params) {
                    request.goes_on(method, params);
                }
            }
            "Page.frameNavigated" if params["frame"].get("parentId").is_none() => {
                seen.loads += 1;
                seen.ends_what_is_open();
            }
            "Runtime.exceptionThrown" => {
                let thrown = &params["exceptionDetails"];
                let what = thrown["exception"]["description"].as_str();
                let what = what.or(thrown["text"].as_str()).unwrap_or_default();
                seen.errors
                    .push(what.lines().take(3).collect::<Vec<_>>().join(" "));
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                seen.errors.push(text(&params["entry"]["text"]));
            }
            _ => seen.sees_bidi(method, params),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn realm(root: &str, siblings: Siblings) -> Realm {
        let root = Url::parse(root).unwrap();
        Realm { root, siblings }
    }

    #[test]
    fn a_path_holds_what_is_below_it_and_its_siblings() {
        let realm = realm("http://node.example.test:9000/port/5173/", Siblings::Paths);
        for inside in [
            "http://node.example.test:9000/port/5173/",
            "http://node.example.test:9000/port/5173/a/b?c#d",
            "ws://node.example.test:9000/port/5173//ws",
            "http://node.example.test:9000/port/35729/livereload.js",
            "data:text/plain,x",
        ] {
            assert!(realm.holds(inside), "{inside}");
        }
        for outside in [
            "http://node.example.test:9000/",
            "http://node.example.test:9000/port/5173",
            "http://node.example.test:9000/socket.io/",
            "http://node.example.test:9000/port/x/",
            "http://node.example.test:5173/port/5173/",
            "ws://localhost:9000/port/5173/",
            "https://fonts.example.org/",
        ] {
            assert!(!realm.holds(outside), "{outside}");
        }
    }

    #[test]
    fn a_name_holds_its_whole_origin_and_its_siblings() {
        let realm = realm("http://5173--s.apps.example.test:9000/", Siblings::Names);
        assert!(realm.holds("ws://5173--s.apps.example.test:9000/x"));
        assert!(realm.holds("http://35729--s.apps.example.test:9000/x"));
        assert!(!realm.holds("http://apps.example.test:9000/x"));
        assert!(!realm.holds("http://5173--s.apps.example.test:80/x"));
    }

    #[test]
    fn a_request_that_answers_badly_or_not_at_all_has_failed() {
        let traffic = Traffic::default();
        let sent = |id: &str, url: &str| {
            let request = json!({ "requestId": id, "request": { "url": url, "method": "GET" } });
            traffic.sees("Network.requestWillBeSent", &request);
        };
        let status = |id: &str, status: u64| {
            let answer = json!({ "requestId": id, "response": { "status": status } });
            traffic.sees("Network.responseReceived", &answer);
        };
        sent("1", "http://h/ok");
        status("1", 200);
        sent("2", "http://h/gone");
        status("2", 404);
        sent("3", "http://h/dead");
        let dead = json!({ "requestId": "3", "errorText": "net::ERR_CONNECTION_REFUSED" });
        traffic.sees("Network.loadingFailed", &dead);
        sent("4", "http://h/left");
        let left = json!({ "requestId": "4", "errorText": "net::ERR_ABORTED" });
        traffic.sees("Network.loadingFailed", &left);
        sent("5", "http://h/favicon.ico");
        status("5", 404);
        let may_fail = ["/favicon.ico".to_owned()];
        assert_eq!(
            traffic.failed(&may_fail),
            [
                "GET http://h/gone: 404",
                "GET http://h/dead: net::ERR_CONNECTION_REFUSED"
            ]
        );
    }

    #[test]
    fn a_redirect_is_judged_at_both_ends() {
        let traffic = Traffic::default();
        let first =
            json!({ "requestId": "1", "request": { "url": "http://h/p/", "method": "GET" } });
        traffic.sees("Network.requestWillBeSent", &first);
        let second = json!({ "requestId": "1", "redirectResponse": { "status": 302 },
            "request": { "url": "http://h/login", "method": "GET" } });
        traffic.sees("Network.requestWillBeSent", &second);
        let realm = realm("http://h/p/", Siblings::Paths);
        assert_eq!(traffic.escaped(&realm, &[]), ["http://h/login"]);
    }

    #[test]
    fn firefox_tells_the_same_in_its_own_words() {
        let traffic = Traffic::default();
        let sees = |method: &str, id: &str, url: &str, more: Value| {
            let mut params = json!({ "request": { "request": id, "url": url, "method": "GET",
                "destination": "", "initiatorType": "fetch", "headers": [] } });
            for (name, value) in more.as_object().unwrap() {
                let place = if name == "response" || name == "errorText" {
                    &mut params[name]
                } else {
                    &mut params["request"][name]
                };
                *place = value.clone();
            }
            traffic.sees(method, &params);
        };
        let status = |status: u64| json!({ "response": { "status": status } });
        let (begins, ends) = ("network.beforeRequestSent", "network.responseCompleted");
        sees(begins, "1", "http://h/p/", json!({}));
        sees(ends, "1", "http://h/p/", status(302));
        sees(begins, "1", "http://h/login", json!({}));
        sees(ends, "1", "http://h/login", status(404));
        sees(begins, "2", "http://h/dead", json!({}));
        sees(
            "network.fetchError",
            "2",
            "",
            json!({ "errorText": "NS_ERROR_NET_RESET" }),
        );
        sees(begins, "3", "http://h/left", json!({}));
        sees(
            "network.fetchError",
            "3",
            "",
            json!({ "errorText": "NS_BINDING_ABORTED" }),
        );
        let icon = json!({ "destination": "image", "initiatorType": null });
        sees(begins, "4", "http://h/favicon.ico", icon);
        sees(ends, "4", "http://h/favicon.ico", status(404));
        let key = json!({ "headers": [{ "name": "Sec-WebSocket-Key" }] });
        sees(begins, "5", "http://h/ws", key);
        assert!(!traffic.is_quiet());
        sees("network.responseStarted", "5", "http://h/ws", status(101));
        sees(ends, "5", "http://h/ws", status(101));
        assert_eq!(
            traffic.failed(&[]),
            [
                "GET http://h/login: 404",
                "GET http://h/dead: NS_ERROR_NET_RESET"
            ]
        );
        let escaped = traffic.escaped(&realm("http://h/p/", Siblings::Paths), &[]);
        assert!(escaped.contains(&"http://h/login".to_owned()));
        assert!(escaped.contains(&"ws://h/ws".to_owned()));
        let live = Live {
            by: LiveBy::Websocket,
            at: "/ws".to_owned(),
        };
        assert!(traffic.is_live(&live).is_ok());
        let frame = json!({ "context": "1" });
        traffic.sees("browsingContext.navigationCommitted", &frame);
        assert!(traffic.is_live(&live).is_err());
        assert_eq!(traffic.loads(), 1);
    }

    #[test]
    fn a_websocket_is_live_between_its_handshake_and_its_end() {
        let traffic = Traffic::default();
        let live = Live {
            by: LiveBy::Websocket,
            at: "/ws".to_owned(),
        };
        let id = json!({ "requestId": "1", "url": "ws://h/ws", "response": { "status": 101 } });
        traffic.sees("Network.webSocketCreated", &id);
        assert!(traffic.is_live(&live).is_err());
        traffic.sees("Network.webSocketHandshakeResponseReceived", &id);
        assert!(traffic.is_live(&live).is_ok());
        traffic.sees("Network.webSocketClosed", &id);
        assert!(traffic.is_live(&live).is_err());
    }
}
