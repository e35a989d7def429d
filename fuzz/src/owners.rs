//! What the kernel says of sockets: datagrams of sock_diag, and `/proc/net/tcp`.

use std::net::{IpAddr, SocketAddr};

use hpc_proxy::upstream::owner::{
    Socket, State,
    readers::{read_datagram, read_table},
};

/// Bytes of `struct nlmsghdr`, and of `struct inet_diag_msg`.
const HEADER: usize = 16;
const REPLY: usize = 72;

/// A table if it begins with a space, else a datagram.
///
/// # Panics
/// When a socket is found that is not there, or one that is there is missed.
pub fn owners(data: &[u8]) {
    match data {
        [b' ', ..] => {
            if let Ok(text) = std::str::from_utf8(data) {
                table(text);
            }
        }
        _ => {
            datagram(data);
            told(data);
        }
    }
}

fn table(text: &str) {
    let rows: Vec<&str> = text.lines().skip(1).collect();
    let Ok(read) = read_table(text) else {
        // One whose rows are all as the kernel writes them is read.
        assert!(!rows.iter().all(|row| is_kernels(row)), "refused: {text}");
        return;
    };
    assert_eq!(read.len(), rows.len(), "a row was lost");
    for (row, (socket, remote)) in rows.iter().zip(&read) {
        let words: Vec<&str> = row.split_ascii_whitespace().collect();
        assert_eq!(words[7].parse(), Ok(socket.uid), "{row}");
        assert_eq!(words[9].parse(), Ok(socket.inode), "{row}");
        let state = u8::from_str_radix(words[3], 16).expect("it was read");
        assert_eq!(socket.state, state_of(state), "{row}");
        for (word, address) in [(words[1], socket.address), (words[2], *remote)] {
            let port = word
                .split(':')
                .nth(1)
                .and_then(|port| u16::from_str_radix(port, 16).ok());
            assert_eq!(port, Some(address.port()), "{row}");
        }
        if is_kernels(row) {
            assert_eq!(written(socket.address, words[1].len()), words[1], "{row}");
            assert_eq!(written(*remote, words[2].len()), words[2], "{row}");
        }
    }
}

/// Whether a row is of the form that the kernel prints.
fn is_kernels(row: &str) -> bool {
    let words: Vec<&str> = row.split_ascii_whitespace().collect();
    let hex = |word: &str, digits: usize| {
        word.len() == digits
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c))
    };
    let address = |word: &str| match word.split_once(':') {
        Some((address, port)) => (hex(address, 8) || hex(address, 32)) && hex(port, 4),
        None => false,
    };
    words.len() >= 10
        && address(words[1])
        && address(words[2])
        && hex(words[3], 2)
        && words[7]
            .parse()
            .is_ok_and(|uid: u32| uid.to_string() == words[7])
        && words[9]
            .parse()
            .is_ok_and(|inode: u64| inode.to_string() == words[9])
}

/// An address as the kernel writes one in a word of `length` characters.
fn written(address: SocketAddr, length: usize) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) if length < 32 => ip.octets().to_vec(),
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks(4).map(|word| {
        let word = word.try_into().expect("addresses have whole words");
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

fn state_of(number: u8) -> State {
    match number {
        10 => State::Listening,
        1 | 3 | 12 => State::Open,
        _ => State::Closing,
    }
}

/// Any bytes as a datagram.
fn datagram(data: &[u8]) {
    let Some(asked) = data.get(8..12) else {
        let more = read_datagram(data, 1).map(|(sockets, _)| sockets.len());
        assert!(
            matches!((data, more), ([], Ok(0)) | ([_, ..], Err(_))),
            "a header is missing"
        );
        return;
    };
    let asked = u32::from_ne_bytes(asked.try_into().expect("four bytes"));
    let other = read_datagram(data, asked.wrapping_add(1));
    assert!(other.is_err(), "an answer to another question was believed");
    if let Ok((sockets, _)) = read_datagram(data, asked) {
        assert!(
            sockets.len() * (HEADER + REPLY) <= data.len(),
            "more sockets than bytes"
        );
    }
}

/// A datagram about sockets that the bytes make up.
fn told(data: &[u8]) {
    let asked = 7_u32;
    let (mut message, mut wanted) = (Vec::new(), Vec::new());
    for piece in data.chunks_exact(32) {
        let (six, state, attributes) = (piece[0] & 1 == 1, piece[1], usize::from(piece[2] & 12));
        let port = [piece[4], piece[5]];
        let number =
            |at: usize| u32::from_ne_bytes(piece[at..at + 4].try_into().expect("four bytes"));
        let (uid, inode) = (number(8), number(12));
        let address: [u8; 16] = piece[16..32].try_into().expect("sixteen bytes");

        message.extend(((HEADER + REPLY + attributes) as u32).to_ne_bytes());
        message.extend(20_u16.to_ne_bytes());
        message.extend(2_u16.to_ne_bytes());
        message.extend(asked.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        let mut reply = [0; REPLY];
        (reply[0], reply[1]) = (if six { 10 } else { 2 }, state);
        reply[4..6].copy_from_slice(&port);
        reply[8..24].copy_from_slice(&address);
        reply[64..68].copy_from_slice(&uid.to_ne_bytes());
        reply[68..72].copy_from_slice(&inode.to_ne_bytes());
        message.extend(reply);
        message.extend(vec![0xff; attributes]);

        let four: [u8; 4] = address[..4].try_into().expect("four bytes");
        let ip = if six {
            IpAddr::from(address).to_canonical()
        } else {
            IpAddr::from(four)
        };
        wanted.push(Socket {
            address: SocketAddr::new(ip, u16::from_be_bytes(port)),
            uid,
            inode: inode.into(),
            state: state_of(state),
            is_full: false,
        });
    }
    let (sockets, more) = read_datagram(&message, asked).expect("a sound datagram");
    assert_eq!(sockets, wanted);
    assert_eq!(more, !wanted.is_empty());
}
