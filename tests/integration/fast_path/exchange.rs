//! One request, and what the server does with it, drawn from a seed: the same number gives the same exchange in every run, for
//! the client that sends it and for the server that recognises it by a header.

use fastrand::Rng;

use super::answers::{AnswerPlan, Step};

/// The header that tells the server which exchange it is.
pub const SEED: &str = "X-Seed";

/// How the body of a request is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestBody {
    None,
    Length(Vec<u8>),
    /// Pieces, and whether there are extensions and trailers.
    Chunked(Vec<Vec<u8>>, bool),
}

/// A field with its name as written.
pub type Field = (String, Vec<u8>);

#[derive(Clone, Debug)]
pub struct Exchange {
    pub seed: u64,
    pub method: &'static str,
    pub target: String,
    /// The minor version of HTTP/1.
    pub minor: u8,
    /// Without the framing of the body.
    pub fields: Vec<Field>,
    pub body: RequestBody,
    /// The head is sent in two pieces.
    pub is_split: bool,
    /// The client closes its connection without waiting for the answer, which comes later.
    pub leaves: bool,
    /// The exchange before left a connection that the server has closed: whether the proxy tries it first is not defined.
    pub is_after_dead: bool,
    pub answer: AnswerPlan,
}

const PATHS: [&str; 12] = [
    "/all.nsf",
    "/all.nsf/view?OpenView&Start=1",
    "/a/b/c.gif?x=1&y=%20",
    "/%C3%A4/%2f%25",
    "//double//slash",
    "/a;b=c/d,e",
    "/names.nsf?Login",
    "/x?",
    "/a/../b/./c",
    "/sales/leads.nsf/0/E86886A81087A25805258E4F00502001?OpenDocument",
    "/icons/x.gif",
    "/a'b(c)*!~",
];

/// One of these.
pub fn pick<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

/// True in `percent` of all cases.
pub fn in_percent(random: &mut Rng, percent: u32) -> bool {
    random.u32(..100) < percent
}

pub fn bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.alphanumeric() as u8).collect()
}

impl Exchange {
    /// The exchange of a seed. After an answer that leaves the server's connection unusable it is a GET, which may be sent
    /// again on another one.
    pub fn of(seed: u64) -> Exchange {
        let mut exchange = Exchange::draw(seed);
        let before = seed.checked_sub(1).map(Exchange::draw);
        let is_after_dead_connection = before.is_some_and(|e| e.leaves || e.answer.ends_connection());
        if is_after_dead_connection {
            exchange.is_after_dead = true;
            exchange.method = "GET";
            exchange.body = RequestBody::None;
            exchange.leaves = false;
            exchange.answer = AnswerPlan::plain();
        }
        exchange
    }

    fn draw(seed: u64) -> Exchange {
        let mut random = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let random = &mut random;
        let method = match random.u32(..100) {
            0..55 => "GET",
            55..72 => "POST",
            72..80 => "HEAD",
            80..85 => "PUT",
            85..89 => "DELETE",
            89..93 => "OPTIONS",
            93..96 => "PATCH",
            _ => "PROPFIND",
        };
        let path = pick(random, &PATHS);
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut target = format!("{path}{separator}seed={seed}");
        let minor = if in_percent(random, 14) { 0 } else { 1 };
        if in_percent(random, 3) {
            target = format!("http://www.acme.example{target}");
        }
        let body = body(random, method, minor);
        let mut fields = vec![(
            pick(random, &["Host", "host", "HOST"]).to_owned(),
            pick(random, &["www.acme.example", "www.acme.example:8080"]).as_bytes().to_vec(),
        )];
        fields.extend(odd_fields(random));
        fields.push((SEED.to_owned(), seed.to_string().into_bytes()));
        match random.u32(..100) {
            0..8 => fields.push((pick(random, &["Connection", "connection"]).to_owned(), b"close".to_vec())),
            8..20 => {
                fields.push(("Connection".to_owned(), pick(random, &["keep-alive", "Keep-Alive"]).into()))
            }
            20..23 => {
                fields.push(("Connection".to_owned(), b"keep-alive, X-Hop".to_vec()));
                fields.push(("X-Hop".to_owned(), b"only for the proxy".to_vec()));
            }
            _ => {}
        }
        if !matches!(body, RequestBody::None) && minor == 1 && in_percent(random, 6) {
            fields.push(("Expect".to_owned(), b"100-continue".to_vec()));
        }
        let is_split = in_percent(random, 8);
        let mut answer = AnswerPlan::draw(random, method);
        let leaves = answer.name == "answer" && in_percent(random, 2);
        if leaves {
            answer.name = "answer to a client that has left";
            answer.steps.insert(0, Step::Pause(700));
        }
        Exchange { seed, method, target, minor, fields, body, is_split, leaves, is_after_dead: false, answer }
    }

    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    pub fn expects_continue(&self) -> bool {
        self.field("Expect").is_some()
    }

    /// May be sent together with the next one.
    pub fn may_be_pipelined(&self) -> bool {
        self.minor == 1 && !self.is_split && !self.leaves && !self.expects_continue()
    }

    /// The head as sent.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.{}\r\n", self.method, self.target, self.minor).into_bytes();
        for (name, value) in &self.fields {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        let framing = match &self.body {
            RequestBody::None => String::new(),
            RequestBody::Length(body) => format!("Content-Length: {}\r\n", body.len()),
            RequestBody::Chunked(..) => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        head.extend_from_slice(framing.as_bytes());
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The body as sent, framing included.
    pub fn framed_body(&self) -> Vec<u8> {
        match &self.body {
            RequestBody::None => Vec::new(),
            RequestBody::Length(body) => body.clone(),
            RequestBody::Chunked(pieces, is_odd) => chunked(pieces, *is_odd),
        }
    }

    /// The content of the body.
    pub fn content(&self) -> Vec<u8> {
        match &self.body {
            RequestBody::None => Vec::new(),
            RequestBody::Length(body) => body.clone(),
            RequestBody::Chunked(pieces, _) => pieces.concat(),
        }
    }
}

/// Chunks; with extensions, capital digits, leading zeros and trailers if `is_odd`.
pub fn chunked(pieces: &[Vec<u8>], is_odd: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        let size = match is_odd {
            true => format!("00{:X};name=\"value\";flag\r\n", piece.len()),
            false => format!("{:x}\r\n", piece.len()),
        };
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if is_odd { b"0;last\r\nX-Trailer: at the end\r\n\r\n" } else { b"0\r\n\r\n" });
    out
}

fn body(random: &mut Rng, method: &str, minor: u8) -> RequestBody {
    let has_body = match method {
        "POST" | "PUT" | "PATCH" => !in_percent(random, 8),
        "DELETE" | "PROPFIND" | "OPTIONS" => in_percent(random, 20),
        _ => in_percent(random, 2),
    };
    if !has_body {
        // Some clients frame the absence of a body.
        return if in_percent(random, 5) { RequestBody::Length(Vec::new()) } else { RequestBody::None };
    }
    if minor == 1 && in_percent(random, 30) {
        let count = random.usize(..5);
        let pieces: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let length = random.usize(1..400);
                bytes(random, length)
            })
            .collect();
        return RequestBody::Chunked(pieces, in_percent(random, 30));
    }
    let length = match random.u32(..10) {
        0..7 => random.usize(1..600),
        7..9 => random.usize(600..9_000),
        _ => random.usize(9_000..90_000),
    };
    RequestBody::Length(bytes(random, length))
}

/// Fields that come together.
type Group = &'static [(&'static str, &'static [u8])];

/// Fields of browsers, odd spellings, repetitions, and those that a proxy must not pass on.
fn odd_fields(random: &mut Rng) -> Vec<Field> {
    let all: [(u32, Group); 24] = [
        (60, &[("User-Agent", b"Mozilla/5.0 (X11; Linux x86_64)")]),
        (60, &[("Accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")]),
        (40, &[("Accept-Encoding", b"gzip, deflate, br")]),
        (30, &[("Referer", b"http://www.acme.example/all.nsf")]),
        (30, &[("Cookie", b"a=1; b=\"2\"; DomAuthSessId=0123456789ABCDEF")]),
        (6, &[("cookie", b"c=3"), ("Cookie", b"d=4;e"), ("COOKIE", b"")]),
        (10, &[("x-oDD-cAsE", b"Kept As Written")]),
        (10, &[("X-Many", b"1"), ("Accept-Language", b"de"), ("x-many", b"2"), ("X-MANY", b"1")]),
        (6, &[("X-Empty", b"")]),
        (6, &[("X-Blank", b"  \t inner  blanks \t ")]),
        (6, &[("X-Bytes", b"caf\xc3\xa9 \xe9 \xff")]),
        (5, &[("X_Underscore", b"1"), ("X.Dot", b"2"), ("X!#$%&'*+^`|~", b"3")]),
        (6, &[("Range", b"bytes=0-99")]),
        (6, &[("If-None-Match", b"\"one\", W/\"two\"")]),
        (6, &[("If-Modified-Since", b"Mon, 01 Jan 2024 00:00:00 GMT")]),
        (5, &[("Authorization", b"Basic SmFuZTpzZWNyZXQ=")]),
        (5, &[("X-Forwarded-For", b"10.1.2.3"), ("Forwarded", b"for=10.1.2.3"), ("X-Real-IP", b"10.1.2.3")]),
        (4, &[("$WSRU", b"CN=Admin/O=Acme"), ("$wsra", b"10.1.2.3"), ("Proxy", b"http://evil.example")]),
        (4, &[("TE", b"trailers"), ("Keep-Alive", b"timeout=5"), ("Proxy-Connection", b"keep-alive")]),
        (3, &[("Content_Length", b"5"), ("Transfer_Encoding", b"chunked")]),
        (4, &[("Via", b"1.1 other"), ("Max-Forwards", b"5")]),
        (3, &[("Upgrade", b"h2c"), ("HTTP2-Settings", b"AAMAAABkAAQAAP__")]),
        (
            4,
            &[
                ("Cache-Control", b"no-cache"),
                ("Pragma", b"no-cache"),
                ("DNT", b"1"),
                ("Priority", b"u=1, i"),
            ],
        ),
        (3, &[("Proxy-Authorization", b"Basic SmFuZTpzZWNyZXQ="), ("Trailer", b"X-Trailer")]),
    ];
    let mut fields = Vec::new();
    for (percent, group) in all {
        if in_percent(random, percent) {
            fields.extend(group.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())));
        }
    }
    if in_percent(random, 3) {
        fields.push(("X-Long".to_owned(), bytes(random, 5_000)));
    }
    if in_percent(random, 3) {
        fields.extend((0..60).map(|n| (format!("X-Number-{n}"), n.to_string().into_bytes())));
    }
    random.shuffle(&mut fields);
    fields
}
