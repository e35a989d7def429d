//! How much of them is taken.

use anyhow::ensure;

use super::{with_fields, x};
use crate::{
    exchange::{forwarded, refused, sends},
    row::{Met, Row, story},
    want::Request,
};

pub(super) fn rows() -> Vec<Row> {
    const TOTAL_BYTES: usize = 64 * 1024;
    const LINE_BYTES: usize = 16 * 1024;
    const MOST: usize = 100;
    /// Lines of at most 16 KiB, line ends included, that are `total` bytes together.
    fn lines(total: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = total;
        while left > 0 {
            let length = if left > 8192 { 4096 } else { left };
            let name = format!("X-{}: ", lines.len());
            lines.push(format!("{name}{}", "a".repeat(length - name.len() - 2)));
            left -= length;
        }
        lines
    }
    fn many(lines: &[String]) -> (String, Request) {
        let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let request = lines.iter().fold(x(), |it, line| it.field(line));
        (fields, request)
    }
    vec![
        story("50, S22", "64 KiB of fields are forwarded", |stage| {
            let (fields, request) = many(&lines(TOTAL_BYTES - stage.fill("{H}").len()));
            with_fields(&fields).wants(forwarded(request)).play(stage)
        }),
        story(
            "50, S22",
            "more than 64 KiB of fields are refused",
            |stage| {
                let (fields, _) = many(&lines(TOTAL_BYTES + 1024));
                with_fields(&fields).wants(refused(&[431])).play(stage)
            },
        ),
        story("50, S22", "a megabyte of fields is refused", |stage| {
            let (fields, _) = many(&lines(1024 * 1024));
            with_fields(&fields).wants(refused(&[431])).play(stage)
        }),
        story("50, S22", "a line of 16 KiB is forwarded", |stage| {
            let line = format!("X-A: {}", "a".repeat(LINE_BYTES - 7));
            let (fields, request) = many(&[line]);
            with_fields(&fields).wants(forwarded(request)).play(stage)
        }),
        story("50, S22", "a longer line is refused", |stage| {
            let line = format!("X-A: {}", "a".repeat(LINE_BYTES));
            let (fields, _) = many(&[line]);
            with_fields(&fields).wants(refused(&[431])).play(stage)
        }),
        story("50, S22", "a line without an end is refused", |stage| {
            let endless = format!("GET {{P}}/x HTTP/1.1\r\nX-A: {}", "a".repeat(128 * 1024));
            sends(endless).wants(refused(&[431])).play(stage)
        }),
        story("50, S22", "a name of 20 KiB is refused", |stage| {
            let (fields, _) = many(&[format!("{}: 1", "a".repeat(20 * 1024))]);
            with_fields(&fields).wants(refused(&[431])).play(stage)
        }),
        story("50, S22", "100 fields are forwarded", |stage| {
            let own = stage
                .fill("{H}")
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            let lines: Vec<_> = (own..MOST).map(|index| format!("X-{index}: 1")).collect();
            let (fields, request) = many(&lines);
            with_fields(&fields).wants(forwarded(request)).play(stage)
        }),
        story("50, S22", "101 fields are refused", |stage| {
            let own = stage
                .fill("{H}")
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            let lines: Vec<_> = (own..=MOST).map(|index| format!("X-{index}: 1")).collect();
            let (fields, _) = many(&lines);
            with_fields(&fields).wants(refused(&[431])).play(stage)
        }),
        story(
            "50, S22",
            "ten thousand fields of one name are refused",
            |stage| {
                with_fields(&"X: 1\r\n".repeat(10_000))
                    .wants(refused(&[431]))
                    .play(stage)
            },
        ),
        story(
            "50",
            "a cookie of 32 KiB from a dev server is passed on",
            |stage| {
                let cookie = format!("a={}", "b".repeat(32 * 1024));
                let mut client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(format!(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nContent-Length: 0\r\n\r\n"
                ))?;
                let got = client.answer("GET")?;
                // Its path is moved; the value must have survived whole.
                let value = got.head.only("set-cookie").unwrap_or_default();
                let value = value.split(|byte| *byte == b';').next().unwrap_or_default();
                ensure!(
                    value == cookie.as_bytes(),
                    "the cookie came as {} bytes",
                    value.len()
                );
                Ok(Met::Pass)
            },
        ),
    ]
}
