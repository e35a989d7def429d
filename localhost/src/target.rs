//! The thread that made a call: its memory, its socket, its process. All by its number, which is
//! good for as long as the call waits: whoever learned something asks
//! [`Listener::still_waits`](crate::notify::Listener::still_waits) before acting on it.

use std::{
    fs::{self, File},
    io::{self, IoSliceMut, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::fs::FileExt,
    },
};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::{
    fs::OFlags,
    io::Errno,
    net::{AddressFamily, SocketType, ipproto, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::filter::last_error;

/// `PIDFD_THREAD` (Linux 6.9): a thread that does not lead its process.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());
/// Of `asm-generic/socket.h` (Linux 5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;
/// Environments of more are not looked through to their end.
const LONGEST_ENVIRONMENT: u64 = 4 << 20;
/// Says of a process that others are to reach its servers.
const SAYS_PUBLIC: &[u8] = b"HPC_PROXY_PUBLIC=1";
/// Set for ranks of parallel programs, which reach each other from node to node.
const RANKS: [&[u8]; 3] = [b"PMIX_RANK=", b"PMI_RANK=", b"OMPI_COMM_WORLD_RANK="];
/// What starts such ranks, and is called back by them.
const STARTERS: [&str; 4] = ["srun", "mpirun", "orted", "prted"];

/// What there is to know of a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) is_v6: bool,
    /// Multipath TCP (RFC 8684), which has no keys.
    pub(crate) is_multipath: bool,
    /// Whether it is for IPv6 alone, where that can be told.
    pub(crate) v6_only: Option<bool>,
}

/// Reads the caller's memory into `buffer`, at most as much as that takes.
pub(crate) fn read_memory(thread: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    match read_memory_at_once(thread, address, buffer) {
        Ok(length) => Ok(length),
        Err(_) => read_memory_file(thread, address, buffer),
    }
}

/// By a system call that some containers forbid.
pub(crate) fn read_memory_at_once(
    thread: u32,
    address: u64,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let base = usize::try_from(address).map_err(io::Error::other)?;
    let remote = [RemoteIoVec {
        base,
        len: buffer.len(),
    }];
    let thread = nix::unistd::Pid::from_raw(thread as i32);
    Ok(process_vm_readv(
        thread,
        &mut [IoSliceMut::new(buffer)],
        &remote,
    )?)
}

/// By proc_pid_mem(5).
pub(crate) fn read_memory_file(thread: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    File::open(format!("/proc/{thread}/mem"))?.read_at(buffer, address)
}

/// The caller's socket as a descriptor of our own.
pub(crate) fn socket(thread: u32, number: RawFd) -> Result<OwnedFd, Errno> {
    let process = match open(thread, PIDFD_THREAD) {
        Err(Errno::INVAL) => open_process(thread)?,
        opened => opened?,
    };
    pidfd_getfd(process, number, PidfdGetfdFlags::empty())
}

/// Before Linux 6.9: the process, whose descriptors all its threads share as good as always.
fn open_process(thread: u32) -> Result<OwnedFd, Errno> {
    match open(thread, PidfdFlags::empty()) {
        Ok(process) => Ok(process),
        Err(_) => open(leader(thread).ok_or(Errno::SRCH)?, PidfdFlags::empty()),
    }
}

fn open(number: u32, flags: PidfdFlags) -> Result<OwnedFd, Errno> {
    let number = Pid::from_raw(number as i32).ok_or(Errno::SRCH)?;
    pidfd_open(number, flags)
}

/// Whether threads that do not lead their process have descriptors (Linux 6.9).
pub(crate) fn has_thread_descriptors() -> bool {
    open(std::process::id(), PIDFD_THREAD).is_ok()
}

fn leader(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// What kind of socket a descriptor of ours is; nothing for all but TCP.
pub(crate) fn facts(socket: impl AsFd) -> Option<Facts> {
    let socket = socket.as_fd();
    let is_multipath = match sockopt::socket_protocol(socket).ok()?? {
        ipproto::TCP => false,
        ipproto::MPTCP => true,
        _ => return None,
    };
    if sockopt::socket_type(socket).ok()? != SocketType::STREAM {
        return None;
    }
    match sockopt::socket_domain(socket).ok()? {
        AddressFamily::INET => Some(Facts {
            is_v6: false,
            is_multipath,
            v6_only: None,
        }),
        AddressFamily::INET6 => Some(Facts {
            is_v6: true,
            is_multipath,
            v6_only: sockopt::ipv6_v6only(socket).ok(),
        }),
        _ => None,
    }
}

/// What kind of socket the caller has, from what the kernel calls its protocol; nothing for all
/// but TCP. This is all that can be told where the socket itself is out of reach.
pub(crate) fn facts_from_outside(thread: u32, number: RawFd) -> Option<Facts> {
    let mut name = [0; 32];
    let path = format!("/proc/{thread}/fd/{number}");
    let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name[..]).ok()?;
    let name = name[..length].split(|byte| *byte == 0).next()?;
    let (is_v6, is_multipath) = match name {
        b"TCP" => (false, false),
        b"TCPv6" => (true, false),
        b"MPTCP" => (false, true),
        b"MPTCPv6" => (true, true),
        _ => return None,
    };
    Some(Facts {
        is_v6,
        is_multipath,
        v6_only: None,
    })
}

/// The number of the caller's socket, as fstat(2) would tell it.
pub(crate) fn inode(thread: u32, number: RawFd) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{thread}/fd/{number}")).ok()?;
    let link = link.to_str()?;
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Whether the caller has a socket of this number.
pub(crate) fn has_socket(thread: u32, wanted: u64) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{thread}/fd"));
    descriptors.into_iter().flatten().flatten().any(|it| {
        let number = it.file_name().to_str().and_then(|it| it.parse().ok());
        number.is_some_and(|number| inode(thread, number) == Some(wanted))
    })
}

/// The flags of the caller's descriptor: proc_pid_fdinfo(5).
pub(crate) fn flags(thread: u32, number: RawFd) -> Option<OFlags> {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{number}")).ok()?;
    let octal = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let bits = u32::from_str_radix(octal.trim(), 8).ok()?;
    Some(OFlags::from_bits_retain(bits))
}

/// The network that a socket is in.
pub(crate) fn network(socket: impl AsFd) -> Result<u64, Errno> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes as many bytes as it is told that there are, and the length.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    };
    if done < 0 {
        Err(last_error())
    } else {
        Ok(cookie)
    }
}

/// Whether a thread's sockets would be in the network that ours are in.
pub(crate) fn shares_network(thread: u32) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let ours = of("self");
    ours.is_some() && ours == of(&thread.to_string())
}

/// Whether servers of the caller's process are for others to reach.
pub(crate) fn is_public(thread: u32) -> bool {
    let leader = leader(thread).unwrap_or(thread);
    let name = fs::read_to_string(format!("/proc/{leader}/comm")).unwrap_or_default();
    if STARTERS.contains(&name.trim_end()) {
        return true;
    }
    let mut environment = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{thread}/environ")) {
        // What was read of it counts, whatever ended the reading.
        let _ = file.take(LONGEST_ENVIRONMENT).read_to_end(&mut environment);
    }
    says_public(&environment)
}

/// Whether an environment, as proc_pid_environ(5) tells it, is that of such a process.
fn says_public(environment: &[u8]) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| {
        variable == SAYS_PUBLIC || RANKS.iter().any(|rank| variable.starts_with(rank))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use rustix::net::socket;

    use super::*;

    fn me() -> u32 {
        std::process::id()
    }

    #[test]
    fn memory_is_read_both_ways() {
        let text = *b"127.0.0.1";
        let address = text.as_ptr() as u64;
        for read in [read_memory, read_memory_at_once, read_memory_file] {
            let mut found = [0; 9];
            assert_eq!(read(me(), address, &mut found).unwrap(), 9);
            assert_eq!(found, text);
            assert!(read(me(), 8, &mut found).is_err());
        }
    }

    #[test]
    fn a_socket_is_known_from_inside_and_from_outside() {
        for (bound, is_v6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let listener = TcpListener::bind(bound).unwrap();
            let copy = super::socket(me(), listener.as_raw_fd()).unwrap();
            let inside = facts(&copy).unwrap();
            let outside = facts_from_outside(me(), listener.as_raw_fd()).unwrap();
            assert_eq!((inside.is_v6, inside.is_multipath), (is_v6, false));
            assert_eq!((outside.is_v6, outside.is_multipath), (is_v6, false));
            assert_eq!(inside.v6_only.is_some(), is_v6);
            let number = rustix::fs::fstat(&copy).unwrap().st_ino;
            assert_eq!(inode(me(), listener.as_raw_fd()), Some(number));
            assert!(has_socket(me(), number) && !has_socket(me(), number + 1_000_000));
            assert!(network(&copy).is_ok() && shares_network(me()));
        }
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            (facts(&udp), facts_from_outside(me(), udp.as_raw_fd())),
            (None, None)
        );
        let file = File::open("/dev/null").unwrap();
        assert_eq!(
            (facts(&file), facts_from_outside(me(), file.as_raw_fd())),
            (None, None)
        );
        if let Ok(multipath) = socket(
            AddressFamily::INET6,
            SocketType::STREAM,
            Some(ipproto::MPTCP),
        ) {
            assert!(facts(&multipath).unwrap().is_multipath);
            let outside = facts_from_outside(me(), multipath.as_raw_fd());
            assert!(outside.unwrap().is_multipath);
        }
    }

    #[test]
    fn flags_of_a_descriptor_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let is_blocking = |it: &TcpListener| {
            let flags = flags(me(), it.as_raw_fd()).unwrap();
            assert!(flags.contains(OFlags::CLOEXEC));
            !flags.contains(OFlags::NONBLOCK)
        };
        assert!(is_blocking(&listener));
        listener.set_nonblocking(true).unwrap();
        assert!(!is_blocking(&listener));
    }

    #[test]
    fn ranks_and_those_who_say_so_are_public() {
        for public in [
            &b"A=1\0PMI_RANK=0\0"[..],
            b"PMIX_RANK=3",
            b"OMPI_COMM_WORLD_RANK=",
            b"HPC_PROXY_PUBLIC=1\0",
        ] {
            assert!(says_public(public));
        }
        for private in [
            &b""[..],
            b"XPMI_RANK=0",
            b"HPC_PROXY_PUBLIC=12\0",
            b"PMI_RANK_X=1",
        ] {
            assert!(!says_public(private));
        }
        assert!(!is_public(me()));
    }
}
