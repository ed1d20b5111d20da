//! Deadlines, resets and interim responses of HTTP/2 connections, given as frames.

use bytes::Bytes;

use super::*;

pub fn client_limits() -> ClientLimits {
    ClientLimits::from(&crate::config::settings::Limits { min_rate: 100, ..Default::default() })
}

fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
    frame_of(1, kind, flags, &vec![0; payload])
}

pub fn frame_of(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Reads these bytes to the end, as the library does.
pub fn feed(http2: &mut Http2, mut bytes: &[u8]) -> Result<()> {
    let mut space = vec![0; bytes.len() + 100];
    loop {
        let mut buf = tokio::io::ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match http2.poll_read(&mut bytes, &mut cx, &mut buf, &client_limits()) {
            Poll::Ready(done) => done?,
            Poll::Pending => return Ok(()),
        }
        if buf.filled().is_empty() {
            return Ok(());
        }
    }
}

/// Whether a deadline runs after these frames, which must not depend on the pieces in which they come.
async fn has_deadline(frames: &[Vec<u8>]) -> Result<bool> {
    let bytes = [PREFACE.to_vec(), frames.concat()].concat();
    let (mut whole, mut single) = (Http2::default(), Http2::default());
    let second = bytes.iter().try_for_each(|byte| feed(&mut single, &[*byte]));
    let first = feed(&mut whole, &bytes);
    assert_eq!(first.is_ok(), second.is_ok());
    first?;
    assert_eq!(whole.deadline.is_some(), single.deadline.is_some());
    Ok(whole.deadline.is_some())
}

#[tokio::test]
async fn a_header_block_has_a_deadline_and_nothing_between_frames_has_one() {
    let settings = frame(SETTINGS, 0, 18);
    assert!(!has_deadline(std::slice::from_ref(&settings)).await.unwrap());
    assert!(!has_deadline(&[settings.clone(), frame(HEADERS, END_HEADERS, 40)]).await.unwrap());
    assert!(has_deadline(&[settings.clone(), frame(HEADERS, 0, 40)]).await.unwrap());
    assert!(
        has_deadline(&[settings.clone(), frame(HEADERS, 0, 40), frame(CONTINUATION, 0, 0)]).await.unwrap()
    );
    let ended = frame(CONTINUATION, END_HEADERS, 5);
    assert!(!has_deadline(&[settings.clone(), frame(HEADERS, 0, 40), ended]).await.unwrap());
    let mut partly = frame(HEADERS, END_HEADERS, 40);
    partly.pop();
    assert!(has_deadline(&[settings.clone(), partly]).await.unwrap());
    // A body has only a minimum rate.
    assert!(!has_deadline(&[settings, frame(HEADERS, END_HEADERS, 40), vec![0, 0, 9, 0, 0]]).await.unwrap());
}

#[tokio::test]
async fn the_first_frame_after_the_preface_must_be_settings() {
    assert!(has_deadline(&[frame(HEADERS, END_HEADERS, 3)]).await.is_err());
    assert!(feed(&mut Http2::default(), b"GET / HTTP/1.1\r\n").is_err());
}

/// A connection whose client has sent SETTINGS and begun a body on each of these streams.
pub fn with_bodies(streams: &[u32]) -> Http2 {
    let mut http2 = Http2::default();
    let heads = streams.iter().map(|stream| frame_of(*stream, HEADERS, END_HEADERS, &[0x82]));
    let all = [PREFACE.to_vec(), frame_of(0, SETTINGS, 0, &[])].into_iter().chain(heads);
    feed(&mut http2, &all.collect::<Vec<_>>().concat()).unwrap();
    http2
}

/// Seconds until the client is overdue if nothing happens; a day at most.
async fn seconds_until_overdue(http2: &mut Http2) -> u64 {
    let (begin, mut timer) = (Instant::now(), Timer::default());
    let overdue = std::future::poll_fn(|cx| http2.poll_timeout(cx, &client_limits(), &mut timer, || None));
    let _ = tokio::time::timeout(std::time::Duration::from_secs(86_400), overdue).await;
    begin.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_body_has_a_deadline_until_either_side_ends_it() {
    assert!((29..32).contains(&seconds_until_overdue(&mut with_bodies(&[1])).await));
    assert_eq!(
        seconds_until_overdue(&mut with_bodies(&[])).await,
        86_400,
        "a slow server does not end the connection"
    );
    for (by_client, end) in [
        (true, frame_of(1, DATA, END_STREAM, b"x")),
        (true, frame_of(1, DATA, END_STREAM, b"")),
        (true, frame_of(1, RST_STREAM, 0, &[0, 0, 0, 8])),
        (false, frame_of(1, RST_STREAM, 0, &[0, 0, 0, 0])),
        (false, frame_of(1, HEADERS, END_STREAM | END_HEADERS, &[0x88])),
        (false, frame_of(1, DATA, END_STREAM, b"")),
        (false, frame_of(0, GOAWAY, 0, &[0; 8])),
    ] {
        let mut http2 = with_bodies(&[1]);
        if by_client {
            feed(&mut http2, &end).unwrap();
        } else {
            http2.track_written(&end, &client_limits());
        }
        assert_eq!(seconds_until_overdue(&mut http2).await, 86_400, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_window_has_no_deadline() {
    let mut http2 = with_bodies(&[1]);
    http2.track_written(&frame_of(0, WINDOW_UPDATE, 0, &(1_u32 << 20).to_be_bytes()), &client_limits());
    for _ in 0..INITIAL_STREAM_WINDOW / 16_384 {
        feed(&mut http2, &frame_of(1, DATA, 0, &[0; 16_384])).unwrap();
    }
    assert_eq!(seconds_until_overdue(&mut http2).await, 86_400);
    http2.track_written(&frame_of(1, WINDOW_UPDATE, 0, &[0, 0, 0, 1]), &client_limits());
    assert!((29..32).contains(&seconds_until_overdue(&mut http2).await));
    // The same with the window of the connection.
    let mut http2 = with_bodies(&[1, 3]);
    for _ in 0..4 {
        feed(&mut http2, &frame_of(1, DATA, 0, &[0; 16_384])).unwrap();
    }
    assert_eq!(seconds_until_overdue(&mut http2).await, 86_400);
}

#[tokio::test(start_paused = true)]
async fn the_minimum_rate_counts_for_each_open_body() {
    async fn trickle(streams: &[u32], bytes: usize) -> bool {
        let mut http2 = with_bodies(streams);
        for _ in 0..600 {
            let mut timer = Timer::default();
            let overdue =
                std::future::poll_fn(|cx| http2.poll_timeout(cx, &client_limits(), &mut timer, || None));
            if tokio::time::timeout(std::time::Duration::from_secs(1), overdue).await.is_ok() {
                return false;
            }
            http2.track_written(&frame_of(0, WINDOW_UPDATE, 0, &[0, 0, 4, 0]), &client_limits());
            http2.track_written(&frame_of(1, WINDOW_UPDATE, 0, &[0, 0, 4, 0]), &client_limits());
            feed(&mut http2, &frame_of(1, DATA, 0, &vec![0; bytes])).unwrap();
        }
        true
    }
    assert!(trickle(&[1], 110).await);
    assert!(!trickle(&[1], 50).await);
    assert!(trickle(&[1, 3], 220).await);
    assert!(!trickle(&[1, 3], 110).await, "the second body counts as much as the first");
}

/// A connection with a response on each of these streams. Their windows are closed, and all have pending bytes.
fn with_closed_windows(streams: &[u32]) -> (Http2, Vec<Bytes>) {
    let mut http2 = with_bodies(&[]);
    feed(&mut http2, &frame_of(0, SETTINGS, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 0, 0])).unwrap();
    let pending = Arc::clone(&http2.pending);
    let mut chunks = Vec::new();
    for stream in streams {
        feed(&mut http2, &frame_of(*stream, HEADERS, END_HEADERS | END_STREAM, &[0x82])).unwrap();
        http2.track_written(&frame_of(*stream, HEADERS, END_HEADERS, &[0x88]), &client_limits());
        chunks.push(pending.track_single_chunk(Bytes::from_static(b"waits")));
    }
    (http2, chunks)
}

async fn overdue(http2: &mut Http2, seconds: u64) -> Option<Overdue> {
    let mut timer = Timer::default();
    let overdue = std::future::poll_fn(|cx| http2.poll_timeout(cx, &client_limits(), &mut timer, || None));
    tokio::time::timeout(std::time::Duration::from_secs(seconds), overdue).await.ok()
}

fn grant(http2: &mut Http2, stream: u32, bytes: u32) {
    feed(http2, &frame_of(stream, WINDOW_UPDATE, 0, &bytes.to_be_bytes())).unwrap();
}

fn send(http2: &mut Http2, stream: u32, bytes: usize) {
    http2.track_written(&frame_of(stream, DATA, 0, &vec![0; bytes]), &client_limits());
}

#[tokio::test(start_paused = true)]
async fn a_response_with_pending_bytes_and_a_closed_window_is_overdue_and_one_without_bytes_is_not() {
    let (mut http2, chunks) = with_closed_windows(&[1]);
    let begin = Instant::now();
    assert_eq!(overdue(&mut http2, 35).await, Some(Overdue::Stream(1)));
    assert!(begin.elapsed().as_secs() >= 29);
    http2.reset_stream(1);
    let frame = http2.take_notices().unwrap();
    assert_eq!(frame[..9], [0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1]);
    let (mut space, mut read) = ([0; 5], Vec::new());
    loop {
        let mut buf = ReadBuf::new(&mut space);
        if !http2.read_injected(&mut buf) {
            break;
        }
        read.extend_from_slice(buf.filled());
    }
    assert_eq!(read, frame, "into a small buffer");
    assert_eq!(overdue(&mut http2, 86_400).await, None);
    drop(chunks);
    // The server is slow, so nothing is pending. Then something is.
    let (mut http2, chunks) = with_closed_windows(&[1]);
    drop(chunks);
    assert_eq!(overdue(&mut http2, 3600).await, None);
    let late = http2.pending.track_single_chunk(Bytes::from_static(b"late"));
    assert_eq!(overdue(&mut http2, 25).await, None);
    assert_eq!(overdue(&mut http2, 10).await, Some(Overdue::Stream(1)));
    drop(late);
}

#[tokio::test(start_paused = true)]
async fn tiny_window_updates_do_not_keep_a_response_alive_and_the_minimum_rate_does() {
    for (bytes, lives) in [(1, false), (99, false), (500, true)] {
        let (mut http2, _chunks) = with_closed_windows(&[1]);
        let mut ended = None;
        for _ in 0..100 {
            ended = ended.or(overdue(&mut http2, 5).await);
            grant(&mut http2, 1, bytes);
            send(&mut http2, 1, bytes as usize);
        }
        assert_eq!(ended.is_none(), lives, "{bytes} bytes every 5 seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_stalled_stream_is_overdue() {
    let (mut http2, _chunks) = with_closed_windows(&[1, 3]);
    let mut ended = None;
    for _ in 0..7 {
        ended = ended.or(overdue(&mut http2, 5).await);
        grant(&mut http2, 3, 2000);
        send(&mut http2, 3, 2000);
    }
    assert_eq!(ended, Some(Overdue::Stream(1)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_closed_window_must_reach_the_rate_of_all_pending_responses() {
    for (a_second, lives) in [(0, false), (200, false), (310, true)] {
        let (mut http2, _chunks) = with_closed_windows(&[1, 3, 5]);
        for stream in [1, 3, 5] {
            grant(&mut http2, stream, 1 << 20);
        }
        send(&mut http2, 1, 65_535);
        let mut ended = None;
        for n in 0..100 {
            ended = ended.or(overdue(&mut http2, 16).await);
            grant(&mut http2, 0, a_second * 16);
            // The library distributes the window over all streams.
            send(&mut http2, [1, 3, 5][n % 3], a_second as usize * 16);
        }
        assert_eq!(ended, (!lives).then_some(Overdue::Connection), "{a_second} bytes a second");
    }
}

#[test]
fn an_interim_response_goes_between_two_frames_before_the_final_response() {
    let interim = |http2: &mut Http2, stream: u32| {
        http2.pending.interims.push(stream, vec![stream as u8]);
        http2.take_notices()
    };
    let mut http2 = with_bodies(&[1, 3]);
    assert_eq!(interim(&mut http2, 1), Some(vec![1]));
    let (response, end) = (frame_of(3, HEADERS, 0, &[0x88]), frame_of(3, CONTINUATION, END_HEADERS, &[]));
    http2.track_written(&response[..7], &client_limits());
    assert_eq!((interim(&mut http2, 1), http2.write_limit()), (None, Some(2)));
    http2.track_written(&response[7..9], &client_limits());
    assert_eq!((http2.take_notices(), http2.write_limit()), (None, Some(1)));
    http2.track_written(&response[9..], &client_limits());
    assert_eq!(http2.take_notices(), None, "a header block has not ended");
    http2.track_written(&end, &client_limits());
    assert_eq!((http2.take_notices(), http2.write_limit()), (Some(vec![1]), None));
    // the final response has begun, or there is no such stream.
    for stream in [3, 5] {
        assert_eq!(interim(&mut http2, stream), Some(vec![]));
    }
    feed(&mut http2, &frame_of(1, RST_STREAM, 0, &[0; 4])).unwrap();
    assert_eq!(interim(&mut http2, 1), Some(vec![]));
    // Only the library can acknowledge a smaller HPACK table.
    let mut http2 = with_bodies(&[1]);
    feed(&mut http2, &frame_of(0, SETTINGS, 0, &[0, 1, 0, 0, 0x10, 0])).unwrap();
    assert_eq!(interim(&mut http2, 1), Some(vec![1]));
    feed(&mut http2, &frame_of(0, SETTINGS, 0, &[0, 1, 0, 0, 0, 0])).unwrap();
    assert_eq!(interim(&mut http2, 1), Some(vec![]));
}
