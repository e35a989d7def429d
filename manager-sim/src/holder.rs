//! Who holds a local TCP port: for a sentence to a person, never for a kill.

use std::{fmt, fs, io, net::Ipv4Addr, path::Path};

/// A socket state in /proc/net/tcp: listening (Linux `include/net/tcp_states.h`).
const LISTEN: &str = "0A";

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    uid: u32,
    process: Option<(u32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "`{}` (pid {pid})", name.escape_debug()),
            // The kernel shows a process's sockets to its own user only.
            None => write!(f, "a process of user {}", self.uid),
        }
    }
}

/// Who listens where nobody else can then listen on 127.0.0.1:`port`; nothing if it cannot be
/// told. Reads all of /proc: not for the runtime's own threads.
pub fn find(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let socket = tables
        .iter()
        .flatten()
        .find_map(|table| listener(table, port))?;
    Some(Holder {
        uid: socket.uid,
        process: process_with(socket.inode),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Socket {
    uid: u32,
    inode: u64,
}

/// The socket in a table of proc_net_tcp(5) that stands in the way.
fn listener(table: &str, port: u16) -> Option<Socket> {
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (address, local_port) = fields.get(1)?.split_once(':')?;
        let in_the_way = *fields.get(3)? == LISTEN
            && u16::from_str_radix(local_port, 16) == Ok(port)
            && covers_loopback(address);
        in_the_way.then_some(())?;
        Some(Socket {
            uid: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    })
}

/// Whether an address of such a table is 127.0.0.1 or any address: the kernel prints each 32 bits
/// as one number in the machine's own byte order.
fn covers_loopback(address: &str) -> bool {
    let loopback = format!("{:08X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
    address.bytes().all(|digit| digit == b'0') || address == loopback
}

/// The process that has the socket open, if we may look into it.
fn process_with(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path(), &wanted).ok()?.then_some(())?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    })
}

fn holds(process: &Path, wanted: &str) -> io::Result<bool> {
    let held = fs::read_dir(process.join("fd"))?
        .flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted));
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn our_own_listener_is_found_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = find(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(holder.process.as_ref().unwrap().0, std::process::id());
        assert_eq!(holder.uid, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn only_a_listener_in_the_way_is_named() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:2328 00000000:0000 01 0:0 0:0 0 1 0 11 1\n\
            1: 0200007F:2328 00000000:0000 0A 0:0 0:0 0 2 0 12 1\n\
            2: 00000000:2329 00000000:0000 0A 0:0 0:0 0 3 0 13 1\n\
            3: 0100007F:2328 00000000:0000 0A 0:0 0:0 0 4 0 14 1\n";
        if cfg!(target_endian = "little") {
            assert_eq!(listener(table, 9000), Some(Socket { uid: 4, inode: 14 }));
        }
        assert_eq!(listener(table, 9001), Some(Socket { uid: 3, inode: 13 }));
        assert_eq!(listener(table, 9002), None);
        assert_eq!(listener("\n0: rubbish\n1: :: :\n", 9000), None);
    }

    #[test]
    fn a_stranger_is_named_by_number() {
        assert_eq!(
            Holder {
                uid: 1002,
                process: None
            }
            .to_string(),
            "a process of user 1002"
        );
        let process = Some((7, "ssh".to_owned()));
        assert_eq!(Holder { uid: 0, process }.to_string(), "`ssh` (pid 7)");
    }
}
