//! What a dev server calls itself: the title of its first page.

use std::{net::SocketAddr, time::Duration};

use private_localhost::Key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{own::connect_tcp, text::is_unprintable, upstream::owner::Owners};

/// A list of servers is for a person who waits for it; a server that takes longer has no title.
const DEADLINE: Duration = Duration::from_millis(300);
/// A title stands in the head of a page; what is longer before it is not read.
const MAX_READ_BYTES: usize = 64 * 1024;
/// Characters of a title: more do not fit a line.
const MAX_CHARS: usize = 120;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// HTTP, and a title if there is one.
    Page(Option<String>),
    /// Nothing in time.
    Silence,
    /// Something else than HTTP: it is not to be disturbed again.
    NotHttp,
}

/// Asks the server of `uid` at `address`, with the key to it if it is locked, as those do who know it
/// as localhost's `port`. Nothing is sent before the kernel has said that it is that user's.
pub(super) async fn ask(
    owners: &Owners,
    address: SocketAddr,
    uid: u32,
    key: Option<&Key>,
    port: u16,
) -> Seen {
    let mut read = Vec::new();
    let exchange = async {
        let mut stream = connect_tcp(owners, address, uid, key).await.ok()?;
        stream.write_all(request(port).as_bytes()).await.ok()?;
        while read.len() < MAX_READ_BYTES && !is_enough(&read) {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                break;
            }
        }
        Some(())
    };
    // What came until then may do.
    let _ = timeout(DEADLINE, exchange).await;
    if read.is_empty() {
        Seen::Silence
    } else if b"HTTP/"
        .iter()
        .zip(&read)
        .any(|(expected, found)| expected != found)
    {
        Seen::NotHttp
    } else {
        Seen::Page(title(&read))
    }
}

/// HTTP/1.0, so that the answer comes unframed and the server closes behind it.
fn request(port: u16) -> String {
    format!(
        "GET / HTTP/1.0\r\nHost: localhost:{port}\r\nAccept: text/html\r\n\
         User-Agent: hpc-proxy/{}\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Whether no more needs to be read: the title is complete, or it is not HTTP.
fn is_enough(read: &[u8]) -> bool {
    let begins = read.len().min(5);
    read[..begins] != b"HTTP/"[..begins] || find(read, b"</title").is_some()
}

/// The title in an HTTP response that is an HTML page, and may be cut anywhere.
fn title(response: &[u8]) -> Option<String> {
    let head_end = find(response, b"\r\n\r\n")?;
    let (head, body) = response.split_at(head_end);
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = lines.next()?.split(|byte| *byte == b' ').nth(1)?;
    let is_html =
        |line: &[u8]| find(line, b"content-type:") == Some(0) && find(line, b"html").is_some();
    if !status.starts_with(b"2") || !lines.any(is_html) {
        return None;
    }
    let tag = find(body, b"<title")?;
    let behind = &body[tag..];
    let text = &behind[behind.iter().position(|byte| *byte == b'>')? + 1..];
    let text = &text[..find(text, b"</title")?];
    let text = shown(&decoded(&String::from_utf8_lossy(text)));
    (!text.is_empty()).then_some(text)
}

/// Where `needle`, in lowercase, is first found in any case.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window.eq_ignore_ascii_case(needle))
}

/// The references that titles hold in practice, each read once: `&amp;lt;` is the text `&lt;`.
fn decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest
            .find(';')
            .and_then(|end| Some((character(&rest[1..end])?, end)));
        let (character, end) = reference.unwrap_or(('&', 0));
        decoded.push(character);
        rest = &rest[end + 1..];
    }
    decoded + rest
}

fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let number = match number.strip_prefix(['x', 'X']) {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
            None => number.parse(),
        };
        return char::from_u32(number.ok()?);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "middot" => '·',
        "hellip" => '…',
        _ => return None,
    })
}

/// One line of printable text, not too long.
fn shown(text: &str) -> String {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.chars().filter(|c| !is_unprintable(*c)).collect())
        .collect();
    words
        .join(" ")
        .chars()
        .take(MAX_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}")
            .into_bytes()
    }

    #[test]
    fn a_title_is_one_line_of_plain_text() {
        for (body, expected) in [
            (
                "<html><head><title>Live Server</title>",
                Some("Live Server"),
            ),
            (
                "<TITLE lang=en>\n  A &amp;lt; B\n</TiTlE>",
                Some("A &lt; B"),
            ),
            (
                "<title>&#72;&#x69; &quot;x&quot;&nbsp;&bogus; &</title>",
                Some("Hi \"x\" &bogus; &"),
            ),
            (
                "<title>\u{1b}[31mred\u{9b}0m\u{202e}\u{0}</title>",
                Some("[31mred0m"),
            ),
            (
                "<title>&#27;[31m&#x202e;&#xd800;</title>",
                Some("[31m&#xd800;"),
            ),
            ("<title>&unfinished", None),
            ("<title></title>", None),
            ("<title> \n </title>", None),
            ("<title>cut", None),
            ("<h1>no title</h1>", None),
        ] {
            assert_eq!(title(&page(body)).as_deref(), expected, "{body}");
        }
        let long = title(&page(&format!("<title>{}</title>", "é".repeat(500)))).unwrap();
        assert_eq!(long.chars().count(), MAX_CHARS);
    }

    #[test]
    fn only_a_page_that_is_shown_has_a_title() {
        let html = "<title>x</title>";
        for response in [
            format!("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n{html}"),
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{html}"),
            format!("HTTP/1.1 200 OK\r\n\r\n{html}"),
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{html}"),
            html.to_owned(),
        ] {
            assert_eq!(title(response.as_bytes()), None, "{response}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(bytes: Vec<u8>, text: String) {
            let _ = (title(&bytes), is_enough(&bytes));
            if let Some(title) = title(&page(&format!("<title>{text}</title>"))) {
                prop_assert!(!title.contains(is_unprintable) && title.chars().count() <= MAX_CHARS);
            }
        }

        #[test]
        fn what_is_escaped_is_decoded(text in "[ -~]{0,40}") {
            prop_assert_eq!(decoded(&crate::answer::escape(&text)), text);
        }
    }
}
