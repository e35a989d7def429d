//! The log on stderr: a line for people or a JSON object for programs, and never a control
//! character of somebody else's in either (S24).

use std::{
    error::Error,
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
};

use hpc_proxy::text::{chain, is_unprintable};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    field::RecordFields,
    fmt::{FormatFields, MakeWriter, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::cli::{Config, LogFormat};

/// Starts logging as the configuration says.
pub(crate) fn to_stderr(config: &Config) {
    let level = if config.verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let color = config.color && io::stderr().is_terminal();
    tracing_subscriber::registry()
        .with(layer(config.log_format, color, io::stderr).with_filter(level))
        .init();
}

fn layer<S, W>(format: LogFormat, color: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_target(false);
    match format {
        LogFormat::Human => layer
            .with_ansi(color)
            .with_writer(writer)
            .fmt_fields(PlainFields)
            .boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(JsonEscaped(writer))
            .boxed(),
    }
}

/// The message, then `name=value`, with every control character escaped. The formatter that comes
/// with tracing-subscriber lets line ends through, and with them a second, forged line.
#[derive(Clone, Copy)]
struct PlainFields;

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = PlainVisitor {
            out: Escaped(writer),
            separator: "",
            written: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.written
    }
}

struct PlainVisitor<'writer> {
    out: Escaped<Writer<'writer>>,
    separator: &'static str,
    written: fmt::Result,
}

impl PlainVisitor<'_> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let separator = std::mem::replace(&mut self.separator, " ");
        let written = match field.name() {
            "message" => write!(self.out, "{separator}{value}"),
            name => write!(self.out, "{separator}{name}={value}"),
        };
        self.written = self.written.and(written);
    }
}

impl Visit for PlainVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.put(field, format_args!("{}", chain(error)));
    }
}

/// Writes text with its control characters escaped, and with those that turn a terminal's line
/// around.
struct Escaped<W>(W);

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            let (plain, behind) = rest.split_at(at);
            let character = behind.chars().next().expect("it was found there");
            self.0.write_str(plain)?;
            write!(self.0, "{}", character.escape_default())?;
            rest = &behind[character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Writes JSON so that what JSON itself does not escape in its strings, and a terminal acts on, is
/// escaped too.
struct JsonEscaped<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for JsonEscaped<W> {
    type Writer = JsonEscapedLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        JsonEscapedLine(self.0.make_writer())
    }
}

struct JsonEscapedLine<W>(W);

impl<W: Write> Write for JsonEscapedLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut escaped = String::with_capacity(text.len());
        for character in text.chars() {
            // Line ends and the like stand between JSON values only; inside they are escaped.
            if is_unprintable(character) && !character.is_ascii_whitespace() {
                write!(escaped, "\\u{:04x}", u32::from(character)).expect("a string takes it");
            } else {
                escaped.push(character);
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log holds after `event`.
    fn logged(format: LogFormat, event: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber =
            tracing_subscriber::registry().with(layer(format, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, event);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer\r\nforged")]
    struct Outer(#[source] io::Error);

    fn hostile_event(text: &str) {
        let span = tracing::info_span!("session", user = text);
        let _inside = span.enter();
        let error = Outer(io::Error::other(text.to_owned()));
        tracing::info!(
            plain = text,
            shown = %text,
            debugged = ?text,
            error = &error as &dyn Error,
            "{text}"
        );
    }

    // S24.
    #[test]
    fn no_control_character_reaches_a_terminal() {
        let hostile: String = (0..=0x9f)
            .chain([0x2028, 0x202e, 0x2066])
            .filter_map(char::from_u32)
            .collect();
        for format in [LogFormat::Human, LogFormat::Json] {
            let log = logged(format, || hostile_event(&hostile));
            assert_eq!(log.lines().count(), 1, "{log}");
            let found: Vec<char> = log
                .trim_end_matches('\n')
                .chars()
                .filter(|c| is_unprintable(*c))
                .collect();
            assert!(found.is_empty(), "{format:?} {found:?}");
        }
    }

    #[test]
    fn people_read_the_message_the_fields_and_every_cause() {
        let log = logged(LogFormat::Human, || {
            let error = Outer(io::Error::other("inner"));
            tracing::warn!(port = 5500, path = %"/a b", error = &error as &dyn Error, "refused");
        });
        let line = log.split_once("WARN ").unwrap().1;
        assert_eq!(
            line,
            "refused port=5500 path=/a b error=outer\\r\\nforged: inner\n"
        );
    }

    #[test]
    fn programs_read_an_object_a_line() {
        let log = logged(LogFormat::Json, || {
            tracing::info!(port = 5500, "a\u{9b}b\n")
        });
        let event: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(
            (&event["level"], &event["port"]),
            (&"INFO".into(), &5500.into())
        );
        assert_eq!(event["message"], "a\u{9b}b\n");
    }

    proptest! {
        // S24.
        #[test]
        fn one_event_is_one_line(text: String) {
            for format in [LogFormat::Human, LogFormat::Json] {
                let log = logged(format, || hostile_event(&text));
                let line = log.strip_suffix('\n').unwrap();
                prop_assert!(!line.contains(is_unprintable), "{:?}", line);
            }
        }
    }
}
