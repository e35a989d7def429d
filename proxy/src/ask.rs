//! One question to an HTTP server over a connection at hand, and a small answer: what a manager
//! asks a proxy for itself. The caller sets the deadline.

use std::io;

use thiserror::Error;

use crate::{
    body::{Body, Form},
    http1::{
        chunked::BadChunk,
        fields::Fields,
        framing::{self, BadFraming, Framing},
        head::{BadHead, Limits, ResponseHead, Scanner, Sender},
    },
    socket::{Inbox, Socket},
};

/// The head of such an answer has some hundred bytes.
const LIMITS: Limits = Limits {
    target_bytes: 1024,
    line_bytes: 1024,
    fields_bytes: 8 * 1024,
    fields: 50,
};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The connection broke, or ended before the answer did.
    #[error("the connection broke before an answer")]
    Broken(#[from] io::Error),
    /// It does not begin like an answer.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// It cannot be told where it ends.
    #[error(transparent)]
    Framing(#[from] BadFraming),
    /// Its chunks are none.
    #[error(transparent)]
    Body(#[from] BadChunk),
    /// It would end with the connection only.
    #[error("the answer does not say where it ends")]
    Endless,
    /// It is longer than it may be.
    #[error("the answer is too long")]
    TooLong,
    /// There is more behind it, which nobody asked for.
    #[error("more came than the answer")]
    Surplus,
}

/// The status and body of the answer to `GET target`. After that, the connection is good for
/// another request. `target` and `fields` are sent as they are.
///
/// # Errors
/// See [`AskError`]; the connection is good for nothing then.
pub async fn get(
    socket: &mut Socket,
    target: &str,
    fields: &Fields,
    most_bytes: usize,
) -> Result<(u16, Vec<u8>), AskError> {
    ask(socket, ("GET", target), fields, b"", most_bytes).await
}

/// The same for any method and target but `HEAD` and `CONNECT`, with a body.
///
/// # Errors
/// See [`AskError`]; the connection is good for nothing then.
pub async fn ask(
    socket: &mut Socket,
    (method, target): (&str, &str),
    fields: &Fields,
    body: &[u8],
    most_bytes: usize,
) -> Result<(u16, Vec<u8>), AskError> {
    let mut question = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    fields.write(&mut question);
    // Without a body a server expects none from GET alone (RFC 9110 section 8.6).
    if method != "GET" {
        question.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    question.extend_from_slice(b"\r\n");
    question.extend_from_slice(body);
    socket.write_all(&question).await?;

    let (mut inbox, mut head) = (Inbox::default(), ResponseHead::default());
    let mut scanner = Scanner::default();
    let length = loop {
        if let Some(length) = scanner.scan(inbox.bytes(), Sender::Server, &LIMITS)? {
            break length;
        }
        more(socket, &mut inbox).await?;
    };
    head.read(&inbox.bytes()[..length])?;
    inbox.consume(length);

    let framing = framing::of_response(&head, method.as_bytes())?;
    match framing {
        Framing::UntilClose => return Err(AskError::Endless),
        Framing::Length(length) if length > most_bytes as u64 => return Err(AskError::TooLong),
        _ => {}
    }
    let (mut body, mut answer) = (Body::new(framing, Form::Plain), Vec::new());
    loop {
        body.take(&mut inbox, &mut answer)?;
        if answer.len() > most_bytes {
            return Err(AskError::TooLong);
        }
        if body.is_done() {
            break;
        }
        more(socket, &mut inbox).await?;
    }
    if inbox.is_empty() {
        Ok((head.status, answer))
    } else {
        Err(AskError::Surplus)
    }
}

async fn more(socket: &mut Socket, inbox: &mut Inbox) -> io::Result<()> {
    match socket.read(inbox).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;
    use crate::http1::name::Name;

    /// What comes of `answer`, sent at once and followed by the end; and what was asked.
    async fn asks(answer: &str) -> (Result<(u16, Vec<u8>), AskError>, String) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answer.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut fields = Fields::new();
        fields.push(Name::Host, b"localhost");
        let mut socket = Socket::from(ours);
        let answered = get(&mut socket, "/a?b", &fields, 8).await;
        drop(socket);
        let mut asked = String::new();
        // Broken off where the answer was not read to its end.
        let _ = theirs.read_to_string(&mut asked).await;
        (answered, asked)
    }

    #[tokio::test]
    async fn an_answer_has_a_length_or_chunks() {
        for (answer, status, body) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678",
                200,
                "12345678",
            ),
            ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", 404, ""),
            ("HTTP/1.1 204 No\r\n\r\n", 204, ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n",
                200,
                "12345678",
            ),
        ] {
            let (answered, asked) = asks(answer).await;
            assert_eq!(answered.unwrap(), (status, body.into()), "{answer}");
            assert_eq!(asked, "GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn a_body_says_how_long_it_is() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let answer = b"HTTP/1.1 202 OK\r\nContent-Length: 1\r\n\r\n1";
        theirs.write_all(answer).await.unwrap();
        let mut socket = Socket::from(ours);
        let asked = ("POST", "/a");
        let answered = ask(&mut socket, asked, &Fields::new(), b"{}", 8).await;
        assert_eq!(answered.unwrap(), (202, b"1".to_vec()));
        drop(socket);
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).await.unwrap();
        assert_eq!(sent, "POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}");
    }

    #[tokio::test]
    async fn anything_else_is_no_answer() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n",
            "HTTP/1.1 200 OK\r\n\r\n1",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n12",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2p1\r\n",
        ] {
            assert!(asks(answer).await.0.is_err(), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_no_longer_than_it_may_be() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789".to_owned(),
        ] {
            let answered = asks(&answer).await.0;
            assert!(matches!(answered, Err(AskError::TooLong)), "{answered:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(100_000));
        assert!(matches!(asks(&long).await.0, Err(AskError::Head(_))));
    }
}
