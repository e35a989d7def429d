//! NETLINK_SOCK_DIAG, as far as one question needs it: sock_diag(7), `linux/inet_diag.h`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
        socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::{Socket, State, unspecified};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;
/// Bytes of `struct inet_diag_msg`.
const REPLY_BYTES: usize = 72;
/// One datagram of a dump holds at most this much (the kernel's `NLMSG_GOODSIZE` and more).
const DUMP_BYTES: usize = 32 * 1024;
/// The answer about one socket: a header, the reply and its attributes, of which none is asked for.
const ANSWER_BYTES: usize = 512;

/// The kernel answers at once; this only bounds what should never happen.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// A way to ask.
#[derive(Debug)]
pub(super) struct Diag(Mutex<Line>);

/// An open socket and the number of its last question. Every answer carries its question's number.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    asked: u32,
}

impl Line {
    fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_DEADLINE))?;
        Ok(Self { socket, asked: 0 })
    }
}

impl Diag {
    /// Opens it and asks for a socket that is there, since a kernel may have the protocol but not its TCP half: then
    /// it answers as if there were none.
    pub(super) fn open() -> io::Result<Self> {
        let diag = Self(Mutex::new(Line::open()?));
        let known = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match diag.find(known.local_addr()?, None)? {
            Some(_) => Ok(diag),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The kernel's own lookup: the connection from `remote` to `local`, else the listener that
    /// would get one.
    pub(super) fn find(
        &self,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> io::Result<Option<Socket>> {
        let remote = remote.unwrap_or_else(|| SocketAddr::new(unspecified(local.ip()), 0));
        let request = request(family(local.ip()), NLM_F_REQUEST, u32::MAX, local, remote);
        let mut found = None;
        self.ask(&request, &mut [0; ANSWER_BYTES], |socket| {
            found = Some(socket);
        })?;
        Ok(found)
    }

    /// Every listening TCP socket.
    pub(super) fn listeners(&self) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        let mut buffer = vec![0; DUMP_BYTES];
        for any in [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ] {
            let (any, flags) = (SocketAddr::new(any, 0), NLM_F_REQUEST | NLM_F_DUMP);
            let request = request(family(any.ip()), flags, 1 << State::LISTEN, any, any);
            self.ask(&request, &mut buffer, |socket| sockets.push(socket))?;
        }
        Ok(sockets)
    }

    fn ask(
        &self,
        request: &Request,
        buffer: &mut [u8],
        each: impl FnMut(Socket),
    ) -> io::Result<()> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = ask(&mut line, request, buffer, each);
        if asked.is_err() {
            // Whatever is still to come would be taken for the answer to the next question.
            *line = Line::open()?;
        }
        asked
    }
}

fn ask(
    line: &mut Line,
    request: &Request,
    buffer: &mut [u8],
    mut each: impl FnMut(Socket),
) -> io::Result<()> {
    line.asked = line.asked.wrapping_add(1);
    let mut request = *request;
    request[8..12].copy_from_slice(&line.asked.to_ne_bytes());
    send(&line.socket, &request, SendFlags::empty())?;
    loop {
        let (_, length) = recv(&line.socket, &mut *buffer, RecvFlags::TRUNC)?;
        if length > buffer.len() {
            return Err(io::Error::other("an answer of sock_diag was cut short"));
        }
        if messages(&buffer[..length], line.asked, &mut each)? == Rest::Done {
            return Ok(());
        }
    }
}

type Request = [u8; HEADER_BYTES + REQUEST_BYTES];

#[derive(PartialEq, Eq)]
enum Rest {
    More,
    Done,
}

/// The sockets of one datagram that answers the question `asked`, and whether more are to come.
///
/// # Errors
/// When it is malformed, an error of the kernel's, or an answer to something else.
pub fn read_datagram(datagram: &[u8], asked: u32) -> io::Result<(Vec<Socket>, bool)> {
    let mut sockets = Vec::new();
    let rest = messages(datagram, asked, &mut |socket| sockets.push(socket))?;
    Ok((sockets, rest == Rest::More))
}

/// Reads one datagram of netlink messages (netlink(7)) that answer the question `asked`.
fn messages(mut datagram: &[u8], asked: u32, each: &mut impl FnMut(Socket)) -> io::Result<Rest> {
    let malformed = || io::Error::other("a malformed answer of sock_diag");
    let mut rest = Rest::Done;
    while !datagram.is_empty() {
        let length = u32_at(datagram, 0).ok_or_else(malformed)? as usize;
        let kind = u16_at(datagram, 4).ok_or_else(malformed)?;
        if u32_at(datagram, 8) != Some(asked) {
            return Err(io::Error::other(
                "an answer of sock_diag to another question",
            ));
        }
        let message = datagram.get(HEADER_BYTES..length).ok_or_else(malformed)?;
        match kind {
            NLMSG_DONE => return Ok(Rest::Done),
            NLMSG_ERROR => {
                let negative = u32_at(message, 0).ok_or_else(malformed)?.cast_signed();
                let errno = negative.saturating_neg();
                return if errno == Errno::NOENT.raw_os_error() {
                    Ok(Rest::Done)
                } else {
                    Err(io::Error::from_raw_os_error(errno))
                };
            }
            _ => each(reply(message).ok_or_else(malformed)?),
        }
        // Of several parts: `NLM_F_MULTI`, the last is `NLMSG_DONE`.
        if u16_at(datagram, 6).ok_or_else(malformed)? & 2 != 0 {
            rest = Rest::More;
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(rest)
}

fn request(family: u8, flags: u16, states: u32, local: SocketAddr, remote: SocketAddr) -> Request {
    let mut bytes = [0; HEADER_BYTES + REQUEST_BYTES];
    let length = bytes.len() as u32;
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    let body = &mut bytes[HEADER_BYTES..];
    body[0] = family;
    body[1] = IPPROTO_TCP;
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    body[8..10].copy_from_slice(&local.port().to_be_bytes());
    body[10..12].copy_from_slice(&remote.port().to_be_bytes());
    put(&mut body[12..28], local.ip());
    put(&mut body[28..44], remote.ip());
    // `INET_DIAG_NOCOOKIE`: any socket with these addresses.
    body[48..56].fill(0xff);
    bytes
}

fn put(field: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(address) => field[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => field.copy_from_slice(&address.octets()),
    }
}

fn reply(message: &[u8]) -> Option<Socket> {
    let message: &[u8; REPLY_BYTES] = message.first_chunk()?;
    let address = match message[0] {
        AF_INET => IpAddr::from(*message[8..].first_chunk::<4>()?),
        // A socket for IPv6 that has an address of IPv4 is told by that.
        AF_INET6 => Ipv6Addr::from(*message[8..].first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    let port = u16::from_be_bytes(*message[4..].first_chunk()?);
    let state = State::of(message[1]);
    // Of a listener, those that wait to be accepted, and how many may (sock_diag(7)).
    let (waiting, room) = (u32_at(message, 56)?, u32_at(message, 60)?);
    Some(Socket {
        address: SocketAddr::new(address, port),
        uid: u32_at(message, 64)?,
        inode: u32_at(message, 68)?.into(),
        state,
        is_full: state == State::Listening && waiting > room,
    })
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(asked: u32, body: &[u8]) -> Vec<u8> {
        let length = (HEADER_BYTES + body.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(0u16.to_ne_bytes());
        message.extend(asked.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn an_answer_to_another_question_is_not_believed() {
        let mut body = [0; REPLY_BYTES];
        body[0] = AF_INET;
        let mut found = Vec::new();
        messages(&message(7, &body), 7, &mut |socket| found.push(socket)).unwrap();
        assert_eq!(found.len(), 1);
        assert!(messages(&message(6, &body), 7, &mut |_| panic!("believed")).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(datagram: Vec<u8>, body: Vec<u8>, length in 0u32..200) {
            let _ = messages(&datagram, 7, &mut |_| {});
            let mut lying = message(7, &body);
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            let _ = messages(&lying, 7, &mut |_| {});
        }
    }
}
