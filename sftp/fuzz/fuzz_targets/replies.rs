//! What a server says: the input holds the replies to a client that makes every request in turn.
//!
//! An input is a row of replies, the greeting first, then one for each request: one byte what it is, two bytes how
//! long, and as many bytes. 0 is silence, 1 the bytes as they stand, 3 the bytes and the end of the stream; anything
//! else is the type of a packet whose length and id are right and whose body are the bytes. After the last answer the
//! stream ends.
//!
//! The clock is set forward while everybody waits, so that deadlines cost nothing.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use scaup_sftp::client::{Lane, OpenMode, Order, SftpSetAttributes, SftpError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(1);
/// No request is made of more than this many messages that wait for each other, apart from those the input has answers
/// for.
const MESSAGES: u32 = 8;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime"),
    );
}

/// Takes one answer off the input.
fn answer<'input>(input: &mut &'input [u8]) -> Option<(u8, &'input [u8])> {
    let (head, rest) = input.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([head[1], head[2]])).min(rest.len());
    let (body, rest) = rest.split_at(length);
    *input = rest;
    Some((head[0], body))
}

async fn serve(stream: DuplexStream, input: Vec<u8>) {
    let mut left = &input[..];
    let (mut requests, mut replies) = tokio::io::split(stream);
    let mut greeted = false;
    while let Ok(length) = requests.read_u32().await {
        let mut request = vec![0; length as usize];
        if requests.read_exact(&mut request).await.is_err() {
            return;
        }
        let Some((what, body)) = answer(&mut left) else { return };
        let bytes = match what {
            0 => continue,
            1 | 3 => body.to_vec(),
            kind => {
                let id = if greeted { request.get(1..5).unwrap_or_default() } else { &[] };
                let length = u32::try_from(1 + id.len() + body.len()).expect("a short packet");
                [&length.to_be_bytes()[..], &[kind], id, body].concat()
            }
        };
        greeted = true;
        if replies.write_all(&bytes).await.is_err() || what == 3 {
            return;
        }
    }
}

/// Each request ends by its deadlines, whatever comes.
async fn in_time<T>(answers: u32, request: impl Future<Output = Result<T, SftpError>>) -> Option<T> {
    timeout(DEADLINE * (answers + MESSAGES), request).await.expect("a request hangs").ok()
}

async fn converse(input: &[u8]) {
    let answers = u32::try_from(input.len() / 3).expect("a short input");
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve(theirs, input.to_vec()));
    let started = Instant::now();
    let Some(lane) = in_time(1, Lane::open(ours, DEADLINE)).await else { return };
    let nothing = SftpSetAttributes::default();
    in_time(1, lane.lstat(b"file")).await;
    if let Some(names) = in_time(answers, lane.list(b"directory")).await {
        let bytes: usize = names.iter().map(|entry| entry.name.len()).sum();
        assert!(bytes <= input.len() && names.len() <= input.len() / 12);
    }
    if let Some(handle) = in_time(1, lane.open_file(b"file", OpenMode::ReadWrite, &nothing)).await {
        for length in [10, 100_000] {
            let read = in_time(answers, lane.read_at(&handle, 0, length)).await;
            assert!(read.is_none_or(|data| data.len() <= length));
        }
        in_time(1, lane.write_at(&handle, 0, &Bytes::from_static(b"content"))).await;
        in_time(1, lane.write_whole(&handle, &Bytes::from_static(b"content"), &nothing, Order::AtOnce)).await;
        let start = in_time(answers, lane.read_start(&handle, 1000, None)).await;
        assert!(start.is_none_or(|(_, data)| data.len() <= 1000));
        in_time(1, lane.fstat(&handle)).await;
        in_time(1, lane.fsync(&handle)).await;
        in_time(1, lane.close(&handle)).await;
    }
    in_time(1, lane.readlink(b"link")).await;
    in_time(1, lane.realpath(b".")).await;
    in_time(1, lane.statistics(b".")).await;
    in_time(1, lane.set_attributes(b"file", &nothing)).await;
    in_time(1, lane.posix_rename(b"a", b"b")).await;
    if let Some(limit) = lane.open_handles_max() {
        assert!(limit > 0);
    }
    assert!(started.elapsed() <= DEADLINE * (16 + 5 * (answers + MESSAGES)));
}

fuzz_target!(|input: &[u8]| {
    RUNTIME.with_borrow(|runtime| runtime.block_on(converse(input)));
});
