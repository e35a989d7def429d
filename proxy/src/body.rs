//! One message body on its way from one socket to another: delimited as it came, framed as the
//! next hop needs it, and never held back.

use std::{future::poll_fn, io, task::Poll};

use thiserror::Error;

use crate::{
    headers,
    http1::{
        chunked::{self, BadChunk, Decoder, Step},
        fields::Fields,
        framing::Framing,
    },
    socket::{Inbox, Reader, Writer},
    splice::Bulk,
};

/// Why a body did not arrive whole.
#[derive(Debug, Error)]
pub(crate) enum Cut {
    /// Its source broke.
    #[error("the sender broke off")]
    Source(#[source] io::Error),
    /// Its source ended too soon.
    #[error("the sender ended too soon")]
    Short,
    /// It is malformed.
    #[error(transparent)]
    Malformed(#[from] BadChunk),
    /// Its recipient broke.
    #[error("the recipient broke off")]
    Sink(#[source] io::Error),
}

/// How a body is framed for its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is: by its length, or up to the end of the connection.
    Plain,
    /// In chunks.
    Chunked,
    /// Its content alone, which is framed elsewhere; its trailer fields are kept.
    Content,
    /// Not at all: it is read and thrown away.
    Discarded,
}

/// A body being moved.
#[derive(Debug)]
pub(crate) struct Body {
    rest: Rest,
    form: Form,
    /// Bytes of content that were read.
    pub(crate) moved: u64,
    /// What followed the last chunk, where it is kept.
    trailers: Option<Box<Fields>>,
    bulk: Bulk,
}

#[derive(Debug)]
enum Rest {
    None,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl Body {
    pub(crate) fn new(framing: Framing, form: Form) -> Self {
        let rest = match framing {
            Framing::None | Framing::Length(0) => Rest::None,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Decoder::default()),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self {
            rest,
            form,
            moved: 0,
            trailers: None,
            bulk: Bulk::default(),
        }
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.rest, Rest::None)
    }

    /// Goes on without passing it on.
    pub(crate) fn discard(&mut self) {
        self.form = Form::Discarded;
        self.bulk.rest();
    }

    /// Takes what there is of it out of `inbox` and appends it to `out` in its new form.
    pub(crate) fn take(&mut self, inbox: &mut Inbox, out: &mut Vec<u8>) -> Result<(), BadChunk> {
        match &mut self.rest {
            Rest::None => {}
            Rest::Length(_) | Rest::UntilClose => {
                if let Some(length) = self.claim(inbox.len()) {
                    self.put(&inbox.bytes()[..length], out);
                    inbox.consume(length);
                }
            }
            Rest::Chunked(_) => self.take_chunks(inbox, out)?,
        }
        Ok(())
    }

    /// Counts the next bytes of it as read, of `there` that are, and returns how many: where they
    /// are its content as they stand, and nothing need be added.
    pub(crate) fn claim(&mut self, there: usize) -> Option<usize> {
        let length = match &mut self.rest {
            Rest::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(there);
                *left -= length as u64;
                length
            }
            Rest::UntilClose => there,
            Rest::None | Rest::Chunked(_) => return None,
        };
        if matches!(self.rest, Rest::Length(0)) {
            self.rest = Rest::None;
        }
        self.moved += length as u64;
        self.bulk.note(length);
        Some(length)
    }

    fn take_chunks(&mut self, inbox: &mut Inbox, out: &mut Vec<u8>) -> Result<(), BadChunk> {
        // What came together goes on together, as one chunk.
        let mut data = Vec::new();
        let end = loop {
            let Rest::Chunked(decoder) = &mut self.rest else {
                break None;
            };
            match decoder.step(inbox.bytes())? {
                Step::Data { skip, length } => {
                    data.extend_from_slice(&inbox.bytes()[skip..skip + length]);
                    inbox.consume(skip + length);
                }
                Step::More(skip) => {
                    inbox.consume(skip);
                    break None;
                }
                Step::End(skip, trailers) => {
                    inbox.consume(skip);
                    self.rest = Rest::None;
                    break Some(trailers);
                }
            }
        };
        self.moved += data.len() as u64;
        self.put(&data, out);
        if let Some(mut trailers) = end {
            trailers.retain(|field| chunked::may_trail(field.name) && !headers::is_claim(field));
            match self.form {
                Form::Chunked => chunked::write_end(&trailers, out),
                Form::Content => self.trailers = Some(Box::new(trailers)),
                Form::Plain | Form::Discarded => {}
            }
        }
        Ok(())
    }

    /// The trailer fields that came behind a body whose form is [`Form::Content`].
    pub(crate) fn trailers(&mut self) -> Fields {
        self.trailers.take().map_or_else(Fields::new, |kept| *kept)
    }

    /// The source has ended, which ends a body that has no other end.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Cut> {
        match self.rest {
            Rest::None => Ok(()),
            Rest::UntilClose => {
                self.rest = Rest::None;
                if self.form == Form::Chunked {
                    chunked::write_end(&Fields::new(), out);
                }
                Ok(())
            }
            Rest::Length(_) | Rest::Chunked(_) => Err(Cut::Short),
        }
    }

    fn put(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match self.form {
            Form::Plain | Form::Content => out.extend_from_slice(data),
            Form::Chunked if !data.is_empty() => {
                chunked::write_size(data.len(), out);
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            Form::Chunked | Form::Discarded => {}
        }
    }

    /// How much of what comes next is plain content that goes on as it is.
    fn passes_through(&self) -> u64 {
        match (&self.rest, self.form) {
            (Rest::Length(left), Form::Plain) => *left,
            (Rest::UntilClose, Form::Plain) => u64::MAX,
            _ => 0,
        }
    }

    /// Reads the next part of it and appends it to `out` in its new form; where nothing need be
    /// added, writes it to `to` at once and leaves in `out` what did not fit. `out` is empty before.
    /// Returns how many bytes were written. What comes in bulk may be left in the kernel: see
    /// [`Self::flush`].
    pub(crate) async fn advance(
        &mut self,
        from: &mut Reader<'_>,
        inbox: &mut Inbox,
        to: &mut Writer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<usize, Cut> {
        debug_assert!(out.is_empty());
        let most = usize::try_from(self.passes_through()).unwrap_or(usize::MAX);
        let through = inbox.is_empty() && most > 0;
        if through && let Some(advanced) = self.splice(from, to, out, most).await {
            return advanced;
        }
        let (read, written) = poll_fn(|cx| {
            from.poll_read_with(cx, |bytes| {
                if !through {
                    return (inbox.append(bytes), Ok(0));
                }
                let (own, beyond) = bytes.split_at(bytes.len().min(most));
                inbox.append(beyond);
                let written = to.try_write(own);
                if let Ok(written) = written {
                    out.extend_from_slice(&own[written..]);
                }
                (own.len(), written)
            })
        })
        .await
        .map_err(Cut::Source)?;
        if read == 0 {
            self.end(out)?;
        } else if through {
            // Also where it could not be written: it was read, and what follows it is the next message.
            self.claim(read);
        } else {
            self.take(inbox, out)?;
        }
        written.map_err(Cut::Sink)
    }

    /// The same by splice(2), where that is the better way.
    async fn splice(
        &mut self,
        from: &Reader<'_>,
        to: &Writer<'_>,
        out: &mut Vec<u8>,
        most: usize,
    ) -> Option<Result<usize, Cut>> {
        loop {
            let channel = self.bulk.channel(most)?;
            let waits = poll_fn(|cx| Poll::Ready(from.poll_ready(cx).is_pending())).await;
            if waits {
                // Others may need it meanwhile.
                self.bulk.rest();
                // What is wrong with a connection shows when it is read.
                let _ = poll_fn(|cx| from.poll_ready(cx)).await;
                continue;
            }
            let read = match channel.fill(from, most) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if self.bulk.gives_up(&error) => return None,
                Err(error) => return Some(Err(Cut::Source(error))),
            };
            let written = channel.drain(to).map_err(Cut::Sink);
            if read == 0 {
                return Some(self.end(out).map(|()| 0));
            }
            self.claim(read);
            return Some(written);
        }
    }

    /// Whether some of it was read and is to be written by [`Self::flush`].
    pub(crate) fn holds_back(&mut self) -> bool {
        self.bulk.held().is_some()
    }

    /// Writes what [`Self::advance`] has left in the kernel; returns how much that was.
    pub(crate) async fn flush(&mut self, to: &Writer<'_>) -> io::Result<usize> {
        let mut all = 0;
        while let Some(channel) = self.bulk.held() {
            poll_fn(|cx| to.poll_ready(cx)).await?;
            all += channel.drain(to)?;
        }
        Ok(all)
    }
}
