//! What the server does with a request: an answer in one of the forms that HTTP/1 allows, or a fault.

use fastrand::Rng;

use super::exchange::{bytes, chunked, in_percent, pick};

/// Longer than `failover.response_timeout` of the test.
pub const TOO_LATE_MS: u64 = 4_000;

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// In milliseconds.
    Pause(u64),
}

/// What comes after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The connection waits for the next request.
    Keep,
    Close,
    /// Closed with RST.
    Reset,
}

#[derive(Clone, Debug)]
pub struct AnswerPlan {
    pub name: &'static str,
    pub steps: Vec<Step>,
    pub ending: Ending,
    /// Only the first attempt gets it; further ones a plain answer.
    pub only_first: bool,
    /// The answer is complete, so that its body is the same in all runs.
    pub is_complete: bool,
    /// Sent before the body of the request is read.
    pub is_early: bool,
}

/// The `Date` of every answer.
pub const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// How the body of an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    OddChunked,
    UntilClose,
    None,
}

impl AnswerPlan {
    pub fn plain() -> AnswerPlan {
        let text = format!(
            "HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nplain"
        );
        AnswerPlan {
            name: "plain",
            steps: vec![Step::Send(text.into_bytes())],
            ending: Ending::Keep,
            only_first: false,
            is_complete: true,
            is_early: false,
        }
    }

    /// Whether the server's connection cannot carry another request after it, although nothing may say so.
    pub fn ends_connection(&self) -> bool {
        self.ending != Ending::Keep || !self.is_complete || self.name == "extra bytes"
    }

    pub fn draw(random: &mut Rng, method: &str) -> AnswerPlan {
        match random.u32(..1_000) {
            0..740 => whole(random, method, "answer"),
            740..760 => {
                let mut plan = whole(random, method, "early answer");
                plan.is_early = true;
                plan
            }
            760..790 => informational(random, method),
            790..800 => {
                let mut plan = whole(random, method, "closed idle");
                plan.ending = Ending::Close;
                plan
            }
            800..810 => {
                // The proxy has kept the connection by then.
                let mut plan = whole(random, method, "closed idle, later");
                plan.steps.push(Step::Pause(25));
                plan.ending = Ending::Close;
                plan
            }
            810..825 => {
                let mut plan = AnswerPlan::plain();
                plan.name = "extra bytes";
                if method == "HEAD" {
                    return plan;
                }
                plan.steps.push(Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec()));
                plan
            }
            825..855 => cut(random, "no head", &[], Ending::Close),
            855..870 => cut(random, "no head, reset", &[], Ending::Reset),
            870..890 => {
                cut(random, "half a head", b"HTTP/1.1 200 OK\r\nContent-Type: text/pl", Ending::Close)
            }
            890..915 => cut_body(random),
            915..985 => malformed(random),
            985..995 => {
                let mut plan = whole(random, method, "slow head");
                plan.steps.insert(0, Step::Pause(150));
                plan
            }
            _ => {
                let mut plan = AnswerPlan::plain();
                plan.steps.insert(0, Step::Pause(TOO_LATE_MS));
                (plan.name, plan.ending, plan.is_complete) = ("head too late", Ending::Close, false);
                plan
            }
        }
    }
}

/// A complete answer.
fn whole(random: &mut Rng, method: &str, name: &'static str) -> AnswerPlan {
    let status = match random.u32(..100) {
        0..62 => "200 OK",
        62..66 => "201 Created",
        66..70 => "206 Partial Content",
        70..74 => "302 Found",
        74..78 => "304 Not Modified",
        78..82 => "204 No Content",
        82..85 => "401 Unauthorized",
        85..88 => "404 Not Found",
        88..91 => "500 Internal Server Error",
        91..94 => "503 Service Unavailable",
        94..96 => "200 ",
        96..98 => "299 Odd",
        _ => "403 Not \"allowed\" \u{e4}",
    };
    let mut framing = match random.u32(..100) {
        0..60 => Framing::Length,
        60..78 => Framing::Chunked,
        78..88 => Framing::OddChunked,
        _ => Framing::UntilClose,
    };
    if status.starts_with("204") {
        framing = Framing::None;
    }
    let minor = if in_percent(random, 8) && framing != Framing::Chunked && framing != Framing::OddChunked {
        0
    } else {
        1
    };
    let length = match random.u32(..20) {
        0..2 => 0,
        2..14 => random.usize(1..900),
        14..18 => random.usize(900..20_000),
        _ => random.usize(20_000..150_000),
    };
    let body = bytes(random, length);
    let mut closes = framing == Framing::UntilClose || minor == 0;
    let mut fields = fields(random, status);
    if in_percent(random, 8) {
        fields.push("Connection: close".to_owned());
        closes = true;
    } else if in_percent(random, 10) {
        fields.push(pick(random, &["Connection: keep-alive", "connection: Keep-Alive, X-Hop"]).to_owned());
        fields.push("Keep-Alive: timeout=5, max=100".to_owned());
        fields.push("X-Hop: only for the proxy".to_owned());
    }
    match framing {
        Framing::Length => fields.push(format!(
            "{}{}",
            pick(random, &["Content-Length: ", "content-length:", "CONTENT-LENGTH:  "]),
            body.len()
        )),
        Framing::Chunked | Framing::OddChunked => {
            fields
                .push(pick(random, &["Transfer-Encoding: chunked", "transfer-encoding: Chunked"]).to_owned());
        }
        Framing::UntilClose | Framing::None => {}
    }
    random.shuffle(&mut fields);
    let head = format!("HTTP/1.{minor} {status}\r\n{}\r\n\r\n", fields.join("\r\n"));
    let has_no_body = method == "HEAD" || framing == Framing::None || status.starts_with("304");
    let content = match framing {
        _ if has_no_body => Vec::new(),
        Framing::Length | Framing::UntilClose => body,
        Framing::Chunked | Framing::OddChunked => {
            chunked(&pieces(random, &body), framing == Framing::OddChunked)
        }
        Framing::None => Vec::new(),
    };
    let bytes = [head.as_bytes(), &content].concat();
    AnswerPlan {
        name,
        steps: split(random, bytes),
        ending: if closes { Ending::Close } else { Ending::Keep },
        // The next server may be able to serve.
        only_first: status.starts_with("503") && random.bool(),
        is_complete: true,
        is_early: false,
    }
}

fn fields(random: &mut Rng, status: &str) -> Vec<String> {
    let mut all = vec![format!("Date: {DATE}")];
    if status.starts_with("302") || status.starts_with("201") {
        let place = pick(
            random,
            &["/other.nsf?Open", "http://www.acme.example/x", "http://web1.acme.example/y", "z"],
        );
        all.push(format!("Location: {place}"));
    }
    let optional: [(u32, &[&str]); 17] = [
        (
            6,
            &[
                "Set-Cookie: DomAuthSessId=0123456789ABCDEF; Path=/",
                "Set-Cookie: LtpaToken=a; Domain=acme.example",
            ],
        ),
        (50, &["Server: Lotus-Domino"]),
        (60, &["Content-Type: text/html; charset=UTF-8"]),
        (20, &["Last-Modified: Sun, 31 Dec 2023 00:00:00 GMT", "ETag: \"abc\""]),
        (20, &["Cache-Control: private, max-age=0", "Expires: Tue, 01 Jan 1980 06:00:00 GMT"]),
        (12, &["Set-Cookie: a=1; Path=/", "set-cookie: b=2; Path=/; HttpOnly", "SET-COOKIE: a=3"]),
        (8, &["x-oDD-cAsE: Kept As Written", "X-Empty:", "X-Blank:   inner  blanks \t "]),
        (8, &["X-Many: 1", "Vary: Accept-Encoding", "x-many: 2", "X-MANY: 1"]),
        (5, &["X-Bytes: caf\u{e9}"]),
        (5, &["Content-Location: http://web1.acme.example/here", "Link: </style.css>; rel=preload"]),
        (5, &["Refresh: 5; url=http://web1.acme.example/there"]),
        (4, &["Strict-Transport-Security: max-age=1", "Alt-Svc: h3=\":443\""]),
        (4, &["WWW-Authenticate: Basic realm=\"/\"", "WWW-Authenticate: Bearer"]),
        (4, &["Proxy-Authenticate: Basic realm=x", "Proxy-Connection: keep-alive"]),
        (4, &["Upgrade: h2c", "X-Powered-By: x"]),
        (4, &["Trailer: X-Trailer"]),
        (4, &["Accept-Ranges: bytes", "Via: 1.1 inner", "Age: 5"]),
    ];
    for (percent, group) in optional {
        if in_percent(random, percent) {
            all.extend(group.iter().map(|line| (*line).to_owned()));
        }
    }
    if in_percent(random, 3) {
        all.extend((0..80).map(|n| format!("X-Number-{n}: {n}")));
    }
    all
}

fn pieces(random: &mut Rng, body: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let at = random.usize(1..=rest.len().min(9_000));
        let (piece, behind) = rest.split_at(at);
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces
}

/// At once, or in up to five pieces with short pauses.
fn split(random: &mut Rng, bytes: Vec<u8>) -> Vec<Step> {
    if in_percent(random, 70) {
        return vec![Step::Send(bytes)];
    }
    let mut steps = Vec::new();
    let mut rest = bytes.as_slice();
    for _ in 0..random.usize(1..5) {
        if rest.len() < 2 {
            break;
        }
        let (piece, behind) = rest.split_at(random.usize(1..rest.len()));
        steps.extend([Step::Send(piece.to_vec()), Step::Pause(random.u64(1..4))]);
        rest = behind;
    }
    steps.push(Step::Send(rest.to_vec()));
    steps
}

fn informational(random: &mut Rng, method: &str) -> AnswerPlan {
    let mut plan = whole(random, method, "1xx");
    let heads = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
    ];
    for _ in 0..random.usize(1..3) {
        let head = pick(random, &heads).as_bytes().to_vec();
        // Together with what follows, or before it.
        match plan.steps.first_mut() {
            Some(Step::Send(first)) if random.bool() => *first = [head.as_slice(), first].concat(),
            _ => {
                plan.steps.insert(0, Step::Pause(3));
                plan.steps.insert(0, Step::Send(head));
            }
        }
    }
    plan
}

/// No complete head.
fn cut(random: &mut Rng, name: &'static str, sent: &[u8], ending: Ending) -> AnswerPlan {
    AnswerPlan {
        name,
        steps: vec![Step::Send(sent.to_vec())],
        ending,
        only_first: random.bool(),
        is_complete: false,
        is_early: false,
    }
}

fn cut_body(random: &mut Rng) -> AnswerPlan {
    let texts = [
        "Content-Length: 100\r\n\r\nonly a part",
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n",
    ];
    let text = format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\n{}", pick(random, &texts));
    AnswerPlan {
        name: "half a body",
        steps: vec![Step::Send(text.into_bytes()), Step::Pause(2)],
        ending: pick(random, &[Ending::Close, Ending::Reset]),
        only_first: false,
        is_complete: false,
        is_early: false,
    }
}

/// A head that has no single reading, or none at all.
fn malformed(random: &mut Rng) -> AnswerPlan {
    let many: String = (0..400).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(300_000));
    let heads = [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 99 Low\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 2000 Long\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n: no name\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-Cr: a\rb\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nB\u{e4}d: name\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "<many>",
        "<long>",
    ];
    let text = match pick(random, &heads) {
        "<many>" => format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 5\r\n\r\nhello"),
        "<long>" => format!("HTTP/1.1 200 OK\r\n{long}Content-Length: 5\r\n\r\nhello"),
        text => text.to_owned(),
    };
    AnswerPlan {
        name: "malformed head",
        steps: vec![Step::Send(text.into_bytes())],
        ending: Ending::Close,
        only_first: random.bool(),
        is_complete: false,
        is_early: false,
    }
}
