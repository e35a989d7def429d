//! `/proc/net/tcp` and `/proc/net/tcp6` (proc_pid_net(5)): the same answers where sock_diag is
//! missing, some thousand times slower. Blocks.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Socket, State, unspecified};

/// As `diag::Diag::find`, from the tables.
pub(super) fn find(local: SocketAddr, remote: Option<SocketAddr>) -> io::Result<Option<Socket>> {
    let rows = rows()?;
    let connected = rows.iter().find(|row| {
        row.socket.state != State::Listening
            && remote == Some(row.remote)
            && row.socket.address == local
    });
    let listening = || {
        // As the kernel scores them: the exact address, any of the family, any of both families.
        [
            local.ip(),
            unspecified(local.ip()),
            Ipv6Addr::UNSPECIFIED.into(),
        ]
        .into_iter()
        .find_map(|address| {
            let address = SocketAddr::new(address, local.port());
            rows.iter()
                .find(|row| row.socket.state == State::Listening && row.socket.address == address)
        })
    };
    Ok(connected.or_else(listening).map(|row| row.socket))
}

/// Every listening TCP socket.
pub(super) fn listeners() -> io::Result<Vec<Socket>> {
    Ok(rows()?
        .into_iter()
        .map(|row| row.socket)
        .filter(|socket| socket.state == State::Listening)
        .collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    socket: Socket,
    remote: SocketAddr,
}

fn rows() -> io::Result<Vec<Row>> {
    let mut rows = parse(&fs::read_to_string("/proc/net/tcp")?)?;
    match fs::read_to_string("/proc/net/tcp6") {
        Ok(table) => rows.extend(parse(&table)?),
        // A kernel without IPv6 has no such table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(rows)
}

/// The sockets of a whole table, each with its remote address.
///
/// # Errors
/// When a row is malformed.
pub fn read_table(table: &str) -> io::Result<Vec<(Socket, SocketAddr)>> {
    let rows = parse(table)?.into_iter();
    Ok(rows.map(|row| (row.socket, row.remote)).collect())
}

/// Reads a whole table. A row that cannot be read is an error: it might be the one that matters.
fn parse(table: &str) -> io::Result<Vec<Row>> {
    table
        .lines()
        .skip(1)
        .map(|line| row(line).ok_or_else(|| io::Error::other("a malformed row in /proc/net/tcp")))
        .collect()
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ...`
fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let address = address(fields.nth(1)?)?;
    let remote = self::address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Row {
        socket: Socket {
            address,
            uid,
            inode,
            state: State::of(state),
            is_full: false,
        },
        remote,
    })
}

/// `0100007F:157C`: words of four bytes in the machine's order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    if !address.is_ascii() {
        return None;
    }
    let octets = address
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect::<Vec<u8>>();
    let address = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(*octets.first_chunk()?)),
        // A connection of a dual-stack socket is told as the IPv4 connection that it is.
        16 => Ipv6Addr::from(*octets.first_chunk()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(
        address,
        u16::from_str_radix(port, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when ...\n";

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_rows_of_both_tables() {
        let table = format!(
            "{HEAD}   0: 0100007F:157C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0\n   \
             1: 0000000000000000FFFF00000100007F:157C 0000000000000000FFFF00000100007F:C000 01 00000000:00000000 00:00000000 00000000  1001        0 0 1 0 20 4 30 10 -1\n"
        );
        let rows = parse(&table).unwrap();
        let listener = Socket {
            address: "127.0.0.1:5500".parse().unwrap(),
            uid: 1000,
            inode: 4242,
            state: State::Listening,
            is_full: false,
        };
        assert_eq!(
            rows[0],
            Row {
                socket: listener,
                remote: "0.0.0.0:0".parse().unwrap()
            }
        );
        let waiting = Socket {
            uid: 1001,
            inode: 0,
            state: State::Open,
            ..listener
        };
        assert_eq!(
            rows[1],
            Row {
                socket: waiting,
                remote: "127.0.0.1:49152".parse().unwrap()
            }
        );
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error() {
        assert!(parse(&format!("{HEAD}nonsense\n")).is_err());
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_a_panic(table: String) {
            let _ = parse(&table);
        }

        #[test]
        fn any_row_is_read_without_a_panic(
            local in "[0-9A-F]{0,33}:?[0-9A-F]{0,5}", rest in "( [0-9A-F:]{1,9}){0,10}",
        ) {
            let _ = row(&format!("0: {local}{rest}"));
        }
    }
}
