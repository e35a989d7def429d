//! A person's browser as far as the wire goes: pages, cookies and WebSockets of one manager. It
//! runs no scripts; `chromium` does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::cookie::{CookieStore, Jar};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, ORIGIN};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::websocket::WebSocket;

/// For one whole answer; a hang is a failure, not a wait.
const DEADLINE: Duration = Duration::from_secs(20);

/// What browsers send when a person opens a page.
const A_PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// One person's browser.
#[derive(Clone, Debug)]
pub struct Browser {
    origin: Url,
    cookies: Arc<Jar>,
    /// What it sends with everything.
    fields: HeaderMap,
    client: Client,
    key: Arc<Mutex<PageKey>>,
}

/// The key of the manager's page, by which its scripts are known, and the cookies it came by.
#[derive(Debug, Default)]
struct PageKey {
    cookies: Option<HeaderValue>,
    key: Option<String>,
}

/// What a browser says of a person who opens a page (Fetch Metadata).
const WINDOW: [(&str, &str); 3] = [
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];
/// In which a script of the manager's page shows that it is one.
const PAGE: &str = "x-hpc-manager-page";

impl Browser {
    /// A fresh browser, for pages of `origin` (`http://127.0.0.1:8080`).
    ///
    /// # Errors
    /// `origin` is not a URL.
    pub fn new(origin: &str) -> Result<Browser> {
        Self::with(origin, Arc::default(), HeaderMap::new(), Policy::default())
    }

    /// One that is signed in with these header fields; cookies among them are kept as its own.
    ///
    /// # Errors
    /// `origin` is not a URL, or a field is not one.
    pub fn signed_in(origin: &str, fields: &[(String, String)]) -> Result<Browser> {
        let url: Url = origin.parse().context("the origin")?;
        let (jar, mut others) = (Jar::default(), HeaderMap::new());
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("cookie") {
                value
                    .split(';')
                    .for_each(|it| jar.add_cookie_str(it.trim(), &url));
            } else {
                others.append(
                    HeaderName::try_from(name).with_context(|| format!("the field `{name}`"))?,
                    HeaderValue::from_str(value).with_context(|| format!("the value of {name}"))?,
                );
            }
        }
        Self::with(origin, jar.into(), others, Policy::default())
    }

    /// The same browser with its cookies, for pages of another origin.
    ///
    /// # Errors
    /// `origin` is not a URL.
    pub fn at(&self, origin: &str) -> Result<Browser> {
        let (cookies, fields) = (Arc::clone(&self.cookies), self.fields.clone());
        Self::with(origin, cookies, fields, Policy::default())
    }

    /// The same browser with its cookies, which shows redirects instead of following them.
    ///
    /// # Errors
    /// None that a story could cause.
    pub fn step_by_step(&self) -> Result<Browser> {
        let (cookies, fields) = (Arc::clone(&self.cookies), self.fields.clone());
        Self::with(self.origin.as_str(), cookies, fields, Policy::none())
    }

    fn with(
        origin: &str,
        cookies: Arc<Jar>,
        fields: HeaderMap,
        redirects: Policy,
    ) -> Result<Browser> {
        let client = Client::builder()
            .default_headers(fields.clone())
            .cookie_provider(Arc::clone(&cookies))
            .redirect(redirects)
            .dns_resolver(Arc::new(Localhost))
            .timeout(DEADLINE)
            // Loopback only: a proxy of the environment must not come between.
            .no_proxy()
            .build()
            .context("a browser")?;
        let origin = origin
            .parse()
            .with_context(|| format!("origin `{origin}`"))?;
        Ok(Browser {
            origin,
            cookies,
            fields,
            client,
            key: Arc::default(),
        })
    }

    /// The full address of `path`.
    pub fn address_of(&self, path: &str) -> String {
        let origin = self.origin.as_str().trim_end_matches('/');
        format!("{origin}{path}")
    }

    /// The cookies that it sends to its origin, as it sends them.
    ///
    /// # Errors
    /// There are none.
    pub fn cookie(&self) -> Result<String> {
        let cookies = self.cookies.cookies(&self.origin).context("no cookie")?;
        Ok(cookies.to_str()?.to_owned())
    }

    /// Opens a page, as by typing its address; redirects are followed.
    ///
    /// # Errors
    /// No answer. A refusal is an answer.
    pub async fn gets(&self, path: &str) -> Result<Page> {
        self.asks(Method::GET, path, A_PAGE, &[]).await
    }

    /// Opens a full address that somebody handed over, such as a sign-in link.
    ///
    /// # Errors
    /// No answer.
    pub async fn opens(&self, address: &str) -> Result<Page> {
        let request = self.client.get(address).header(ACCEPT, A_PAGE);
        Page::of(&format!("GET {}", without_query(address)), request).await
    }

    /// Asks as a script does that wants data.
    ///
    /// # Errors
    /// No answer.
    pub async fn fetches(&self, path: &str) -> Result<Page> {
        self.asks(Method::GET, path, "application/json", &[]).await
    }

    /// Any other request of a script.
    ///
    /// # Errors
    /// No answer.
    pub async fn sends(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Result<Page> {
        let mut request = self.client.request(method.clone(), self.address_of(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if path.starts_with("/api/")
            && let Some(key) = self.page_key().await?
        {
            request = request.header(PAGE, key);
        }
        let request = request.body(body.into());
        Page::of(&format!("{method} {path}"), request).await
    }

    /// Follows an answer that has no end, as `EventSource` does.
    ///
    /// # Errors
    /// No answer.
    pub async fn follows(&self, path: &str) -> Result<Stream> {
        let request = self.client.get(self.address_of(path));
        let request = request.header(ACCEPT, "text/event-stream");
        let response = request
            .send()
            .await
            .with_context(|| format!("follow {path}"))?;
        Ok(Stream {
            response,
            heard: Vec::new(),
        })
    }

    /// Opens a WebSocket, with the cookies and the origin that a page of ours would send.
    ///
    /// # Errors
    /// The handshake was refused.
    pub async fn connects(&self, path: &str) -> Result<WebSocket> {
        let origin = self.origin.origin().ascii_serialization();
        self.connects_for(&origin, path).await
    }

    /// Opens a WebSocket, with the cookies and for a page of `origin`.
    ///
    /// # Errors
    /// The handshake was refused.
    pub async fn connects_for(&self, origin: &str, path: &str) -> Result<WebSocket> {
        let http = self.address_of(path);
        let url: Url = http.parse().with_context(|| format!("address `{http}`"))?;
        let mut request = http
            .replacen("http", "ws", 1)
            .into_client_request()
            .with_context(|| format!("address `{http}`"))?;
        let headers = request.headers_mut();
        headers.extend(self.fields.clone());
        if let Some(cookies) = self.cookies.cookies(&url) {
            headers.insert("cookie", cookies);
        }
        headers.insert(ORIGIN.as_str(), HeaderValue::from_str(origin)?);
        let authority = match url.host_str().zip(url.port()) {
            Some((host, port)) if is_local(host) => format!("127.0.0.1:{port}"),
            _ => url.authority().to_owned(),
        };
        WebSocket::open(&authority, request)
            .await
            .with_context(|| format!("a WebSocket to `{path}`"))
    }

    /// The key of the manager's page, if this browser is signed in there.
    ///
    /// # Errors
    /// No answer.
    pub async fn page_key(&self) -> Result<Option<String>> {
        let mut known = self.key.lock().await;
        let cookies = self.cookies.cookies(&self.origin);
        if known.key.is_none() || known.cookies != cookies {
            let mut request = self.client.get(self.address_of("/")).header(ACCEPT, A_PAGE);
            for (name, value) in WINDOW {
                request = request.header(name, value);
            }
            let page = Page::of("GET / for its key", request).await?.text();
            let key = page.split_once("name=\"hpc-manager-page\" content=\"");
            let key = key.and_then(|(_, rest)| rest.split_once('"'));
            known.key = key.map(|(key, _)| key.to_owned());
            known.cookies = cookies;
        }
        Ok(known.key.clone())
    }

    async fn asks(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        headers: &[(&str, &str)],
    ) -> Result<Page> {
        let mut all = vec![(ACCEPT.as_str(), accept)];
        all.extend(headers);
        self.sends(method, path, &all, "").await
    }
}

/// Finds all names below `localhost` on this machine, as browsers do whatever the system's resolver
/// says (RFC 6761 section 6.3), those below `example.test`, as our Chromium does, and no others.
struct Localhost;

impl Resolve for Localhost {
    fn resolve(&self, name: Name) -> Resolving {
        let found = is_local(name.as_str());
        Box::pin(async move {
            if !found {
                return Err("not a name of this machine".into());
            }
            let addresses = std::iter::once(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.ends_with(".example.test")
}

/// For messages: a query may be a secret.
fn without_query(address: &str) -> &str {
    address.split_once('?').map_or(address, |(path, _)| path)
}

/// An answer that goes on.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    heard: Vec<u8>,
}

impl Stream {
    /// Reads on until `text` has come.
    ///
    /// # Errors
    /// It did not come within `deadline`.
    pub async fn awaits(&mut self, deadline: Duration, text: &str) -> Result<()> {
        let read = async {
            while !String::from_utf8_lossy(&self.heard).contains(text) {
                let piece = self.response.chunk().await?;
                self.heard.extend(piece.context("the stream ended")?);
            }
            Ok(())
        };
        let read = tokio::time::timeout(deadline, read).await;
        let heard = String::from_utf8_lossy(&self.heard);
        let status = self.response.status();
        read.with_context(|| format!("no `{text}` within {deadline:?}; {status}: {heard:?}"))?
    }
}

/// What came back for one request.
#[derive(Clone, Debug)]
pub struct Page {
    what: String,
    /// Its status.
    pub status: u16,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Vec<u8>,
}

impl Page {
    async fn of(what: &str, request: reqwest::RequestBuilder) -> Result<Page> {
        let response = request.send().await.with_context(|| what.to_owned())?;
        Ok(Page {
            what: what.to_owned(),
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response
                .bytes()
                .await
                .with_context(|| format!("the body of {what}"))?
                .to_vec(),
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} is not the JSON we know: {}", self.what, self.text()))
    }

    /// A header field, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Claims that the page was served and shows `text`.
    #[track_caller]
    pub fn sees(&self, text: &str) -> &Page {
        self.has_status(200).says(text)
    }

    /// Claims that the body holds `text`, whatever the status.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Page {
        assert!(self.text().contains(text), "{self} does not say `{text}`");
        self
    }

    /// Claims that nothing of `text` came through.
    #[track_caller]
    pub fn lacks(&self, text: &str) -> &Page {
        assert!(!self.text().contains(text), "{self} says `{text}`");
        self
    }

    /// Claims a status.
    #[track_caller]
    pub fn has_status(&self, status: u16) -> &Page {
        assert!(self.status == status, "{self} is not a {status}");
        self
    }

    /// Claims a content type, parameters aside.
    #[track_caller]
    pub fn is_of_type(&self, content_type: &str) -> &Page {
        let found = self.header("content-type").unwrap_or_default();
        assert!(
            found.starts_with(content_type),
            "{self} is `{found}`, not `{content_type}`"
        );
        self
    }

    /// The same as [`Page::sees`], for a look that may be too early.
    ///
    /// # Errors
    /// The page does not show `text`.
    pub fn shows(&self, text: &str) -> Result<()> {
        let shown = self.status == 200 && self.text().contains(text);
        ensure!(shown, "{self} does not show `{text}`");
        Ok(())
    }
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        let start: String = text.chars().take(600).collect();
        write!(f, "{} -> {}\n{start}\n--", self.what, self.status)
    }
}
