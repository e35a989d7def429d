//! Memory that was used and will be again: whoever needs some for the time of one message takes it from here,
//! and so nothing is asked of the allocator while messages follow each other.

use std::{
    cell::RefCell,
    mem,
    ops::{Deref, DerefMut},
};

use crate::http1::head::ResponseHead;

/// More than a usual message needs is given back to the allocator.
const MOST_BYTES: usize = 8 * 1024;
/// So many of each are kept by a thread; more messages at once are seldom under way.
const KEPT: usize = 64;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static ANSWERS: RefCell<Vec<ResponseHead>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, empty at first.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// One that has room already.
    pub(crate) fn take() -> Self {
        Self(BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// What is in it, to be kept; no memory where that is nothing.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        mem::take(&mut self.0)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if (1..=MOST_BYTES).contains(&self.0.capacity()) {
            let mut buffer = mem::take(&mut self.0);
            buffer.clear();
            keep(&BUFFERS, buffer);
        }
    }
}

/// A head to be read into.
#[derive(Debug)]
pub(crate) struct Answer(ResponseHead);

impl Answer {
    pub(crate) fn take() -> Self {
        Self(ANSWERS.with_borrow_mut(Vec::pop).unwrap_or_default())
    }
}

impl Deref for Answer {
    type Target = ResponseHead;

    fn deref(&self) -> &ResponseHead {
        &self.0
    }
}

impl DerefMut for Answer {
    fn deref_mut(&mut self) -> &mut ResponseHead {
        &mut self.0
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.0.fields.capacity_bytes() <= MOST_BYTES {
            let mut answer = mem::take(&mut self.0);
            answer.fields.clear();
            keep(&ANSWERS, answer);
        }
    }
}

fn keep<T>(all: &'static std::thread::LocalKey<RefCell<Vec<T>>>, one: T) {
    // Where a thread ends, there is nothing to keep it for.
    let _ = all.try_with(|all| {
        let mut all = all.borrow_mut();
        if all.len() < KEPT {
            all.push(one);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_what_was_in_it_is_not() {
        let mut first = Buffer::take();
        first.extend_from_slice(b"secret");
        let place = first.as_ptr();
        drop(first);
        let second = Buffer::take();
        assert_eq!((second.as_ptr(), second.len()), (place, 0));
        assert_eq!(second.into_vec().capacity(), 0);
    }

    #[test]
    fn much_memory_is_given_back() {
        let mut large = Buffer::default();
        large.reserve_exact(MOST_BYTES + 1);
        drop(large);
        assert_eq!(Buffer::take().capacity(), 0);
        drop(Vec::from_iter((0..2 * KEPT).map(|_| {
            let mut some = Buffer::default();
            some.push(0);
            some
        })));
        assert_eq!(BUFFERS.with_borrow(Vec::len), KEPT);
    }
}
