//! What processes of ours tell each other over a socket pair: small messages, each whole, some with
//! a descriptor.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// A message: what it is, and a number.
pub(crate) type Message = (u8, i32);

const MESSAGE_BYTES: usize = 5;

/// Two ends. When one is closed, the other reads that.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Sends a message. It allocates nothing, so that it may be called between fork(2) and execve(2).
pub(crate) fn send(
    end: impl AsFd,
    (kind, number): Message,
    descriptor: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let mut bytes = [kind, 0, 0, 0, 0];
    bytes[1..].copy_from_slice(&number.to_ne_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors;
    if let Some(descriptor) = descriptor {
        descriptors = [descriptor.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let bytes = [IoSlice::new(&bytes)];
    // A reader that is gone is told by the error, not by a signal.
    sendmsg(end, &bytes, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Waits for a message; nothing when the other end is closed.
pub(crate) fn receive(end: impl AsFd) -> Result<Option<(Message, Option<OwnedFd>)>, Errno> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&end, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes != MESSAGE_BYTES {
        return Ok(None);
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let [kind, number @ ..] = bytes;
    Ok(Some(((kind, i32::from_ne_bytes(number)), descriptor)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn messages_arrive_one_by_one_and_then_the_end() {
        let (ours, theirs) = pair().unwrap();
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        send(&ours, (1, -7), None).unwrap();
        send(&ours, (2, i32::MAX), Some(&file)).unwrap();
        drop(ours);
        let (message, descriptor) = receive(&theirs).unwrap().unwrap();
        assert_eq!((message, descriptor.is_none()), ((1, -7), true));
        let (message, descriptor) = receive(&theirs).unwrap().unwrap();
        assert_eq!(message, (2, i32::MAX));
        assert_ne!(descriptor.unwrap().as_raw_fd(), file.as_raw_fd());
        assert!(receive(&theirs).unwrap().is_none());
        assert_eq!(send(&theirs, (3, 0), None), Err(Errno::PIPE));
    }
}
