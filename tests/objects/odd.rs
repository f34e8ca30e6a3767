//! A tiny S3 server of ours in this process, for what no real server does on demand: refusing or ignoring conditions, and faults.
//! It checks no signatures.

use super::Access;
use crate::common::Random;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with `If-None-Match: *` on a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Honours it.
    Honours,
    /// Takes no notice.
    Ignores,
    /// Answers 501.
    Refuses,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// 500, without effect.
    Internal,
    /// 503, without effect.
    SlowDown,
    /// The connection ends before anything happens.
    Reset,
    /// The work is done, and the connection ends before the answer.
    LostAnswer,
    /// Half of the body comes, then the connection ends.
    Truncated,
    /// Nothing comes for longer than anybody waits.
    Stalled,
    /// The body comes in pieces.
    Slow,
    /// A bit of the body is another one.
    Flipped,
    /// The range is said to be another one than asked for.
    WrongRange,
    /// An object that is there is denied.
    Denied,
    /// A page of HTML in place of the answer.
    Html,
}

const FAULTS: [Fault; 11] = [
    Fault::Internal,
    Fault::SlowDown,
    Fault::Reset,
    Fault::LostAnswer,
    Fault::Truncated,
    Fault::Stalled,
    Fault::Slow,
    Fault::Flipped,
    Fault::WrongRange,
    Fault::Denied,
    Fault::Html,
];

/// Keys in one page of a listing: few, so that every listing has pages.
const PAGE: usize = 7;

#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: HashMap<String, BTreeMap<u32, Vec<u8>>>,
    next_upload: u32,
}

struct Shared {
    manner: Manner,
    objects: Mutex<Objects>,
    /// Faults in a hundred requests.
    percent: AtomicU64,
    /// The number of the request from which on no request is answered, though connections are taken.
    hushed_from: AtomicU64,
    /// Whether answers come byte by byte.
    drips: AtomicBool,
    random: Mutex<Random>,
    hits: Mutex<HashMap<Fault, u64>>,
    requests: AtomicU64,
}

/// The server.
pub struct Odd {
    shared: Arc<Shared>,
    /// Where it is; every bucket is there.
    pub access: Access,
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Response {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(
            status,
            format!("<Error><Code>{code}</Code><Message>as ordered</Message></Error>"),
        )
    }
}

impl Odd {
    /// Starts a server whose faults, once there are any, follow from `seed`.
    pub fn start(manner: Manner, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            manner,
            objects: Mutex::default(),
            percent: AtomicU64::new(0),
            hushed_from: AtomicU64::new(u64::MAX),
            drips: AtomicBool::new(false),
            random: Mutex::new(Random::new(seed)),
            hits: Mutex::default(),
            requests: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self {
            shared,
            access: Access::new(&endpoint, "ANY", "ANY"),
        }
    }

    /// From now on so many of a hundred requests go wrong.
    pub fn faults(&self, percent: u64) {
        self.shared.percent.store(percent, Ordering::SeqCst);
    }

    /// After so many more requests none is answered any more.
    pub fn hush_after(&self, requests: u64) {
        let from = self.requests() + requests;
        self.shared.hushed_from.store(from, Ordering::SeqCst);
    }

    /// From now on the bytes of an answer come one by one, five in a second.
    pub fn drip(&self) {
        self.shared.drips.store(true, Ordering::SeqCst);
    }

    /// From now on requests are answered again, also those that wait.
    pub fn speak(&self) {
        self.shared.drips.store(false, Ordering::SeqCst);
        self.shared.hushed_from.store(u64::MAX, Ordering::SeqCst);
    }

    /// The kinds of faults that there were, and how many.
    pub fn hits(&self) -> HashMap<Fault, u64> {
        self.shared.hits.lock().unwrap().clone()
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Names of all objects, and the number of uploads in parts that were neither finished nor aborted.
    pub fn holds(&self) -> (Vec<String>, usize) {
        let objects = self.shared.objects.lock().unwrap();
        (objects.objects.keys().cloned().collect(), objects.uploads.len())
    }

    /// Removes stored objects.
    pub fn lose(&self, lost: impl Fn(&str) -> bool) {
        let mut objects = self.shared.objects.lock().unwrap();
        objects.objects.retain(|name, _| !lost(name));
    }

    /// Damages stored objects.
    pub fn damage(&self, change: impl Fn(&str, &mut Vec<u8>)) {
        let mut objects = self.shared.objects.lock().unwrap();
        objects.objects.iter_mut().for_each(|(name, data)| change(name, data));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while let Some(request) = read_request(&mut reader) {
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            while number >= self.hushed_from.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let fault = self.draw();
            if fault == Some(Fault::Reset) {
                return;
            }
            let response = match fault {
                Some(Fault::Internal) => Response::error(500, "InternalError"),
                Some(Fault::SlowDown) => Response::error(503, "SlowDown"),
                Some(Fault::Html) => Response::new(200, "<html><body>Please log in</body></html>"),
                Some(Fault::Denied) if request.method == "GET" => Response::error(404, "NoSuchKey"),
                _ => self.answer(&request),
            };
            if self.drips.load(Ordering::SeqCst) {
                return self.trickle(&mut writer, &request, &response);
            }
            let spot = self.random.lock().unwrap().next();
            if fault == Some(Fault::LostAnswer) || send(&mut writer, &request, response, fault, spot).is_none() {
                return;
            }
        }
    }

    /// Writes an answer byte by byte for as long as that is ordered, and ends the connection.
    fn trickle(&self, writer: &mut TcpStream, request: &Request, response: &Response) {
        let mut bytes = head(response).into_bytes();
        let told = bytes.len();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&response.body);
        }
        let (head, body) = bytes.split_at(told);
        let mut gone = writer.write_all(head).is_err();
        for byte in body {
            if gone || !self.drips.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
            gone = writer.write_all(&[*byte]).is_err();
        }
    }

    fn draw(&self) -> Option<Fault> {
        let mut random = self.random.lock().unwrap();
        if random.below(100) >= self.percent.load(Ordering::SeqCst) {
            return None;
        }
        let mut fault = *random.pick(&FAULTS);
        // One in eight of these: each costs its whole deadline.
        if fault == Fault::Stalled && random.below(8) != 0 {
            fault = Fault::Internal;
        }
        *self.hits.lock().unwrap().entry(fault).or_default() += 1;
        Some(fault)
    }

    fn answer(&self, request: &Request) -> Response {
        let mut state = self.objects.lock().unwrap();
        let (_, key) = request.path[1..].split_once('/').unwrap_or(("", ""));
        let query = |name: &str| request.query.get(name);
        match (request.method.as_str(), query("uploadId")) {
            ("GET", _) if query("list-type").is_some() => list(&state, request),
            ("GET" | "HEAD", _) => get(&state, key, request),
            ("PUT", Some(upload)) => {
                let number = query("partNumber").unwrap().parse().unwrap();
                match state.uploads.get_mut(upload) {
                    Some(parts) => drop(parts.insert(number, request.body.clone())),
                    None => return Response::error(404, "NoSuchUpload"),
                }
                etag(Response::new(200, ""))
            }
            ("PUT", None) => {
                let conditional = request.headers.contains_key("if-none-match");
                match self.manner {
                    Manner::Refuses if conditional => return Response::error(501, "NotImplemented"),
                    Manner::Honours if conditional && state.objects.contains_key(key) => {
                        return Response::error(412, "PreconditionFailed");
                    }
                    _ => {}
                }
                state.objects.insert(key.to_owned(), request.body.clone());
                etag(Response::new(200, ""))
            }
            ("POST", None) => {
                state.next_upload += 1;
                let id = format!("u{}", state.next_upload);
                state.uploads.insert(id.clone(), BTreeMap::new());
                let text = format!(
                    "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                );
                Response::new(200, text)
            }
            ("POST", Some(upload)) => {
                let Some(parts) = state.uploads.remove(upload) else {
                    return Response::error(404, "NoSuchUpload");
                };
                state
                    .objects
                    .insert(key.to_owned(), parts.into_values().flatten().collect());
                let text = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
                Response::new(200, text)
            }
            ("DELETE", Some(upload)) => {
                state.uploads.remove(upload);
                Response::new(204, "")
            }
            ("DELETE", None) => {
                state.objects.remove(key);
                Response::new(204, "")
            }
            (other, _) => panic!("{other}"),
        }
    }
}

fn etag(mut response: Response) -> Response {
    response.headers.push(("ETag", "\"e\"".to_owned()));
    response
}

fn get(state: &Objects, key: &str, request: &Request) -> Response {
    let Some(data) = state.objects.get(key) else {
        return Response::error(404, "NoSuchKey");
    };
    let Some(range) = request.headers.get("range") else {
        return etag(Response::new(200, data.clone()));
    };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let suffix = first.is_empty().then(|| last.parse::<usize>().unwrap());
    let first = suffix.map_or_else(|| first.parse().unwrap(), |len| data.len().saturating_sub(len));
    if first >= data.len() {
        return Response::error(416, "InvalidRange");
    }
    let last = suffix.map_or_else(|| last.parse::<usize>().unwrap(), |_| data.len());
    let end = last.saturating_add(1).min(data.len());
    let mut response = etag(Response::new(206, &data[first..end]));
    let told = format!("bytes {first}-{}/{}", end - 1, data.len());
    response.headers.push(("Content-Range", told));
    response
}

fn list(state: &Objects, request: &Request) -> Response {
    let empty = String::new();
    let prefix = request.query.get("prefix").unwrap_or(&empty);
    let after = request.query.get("continuation-token").unwrap_or(&empty);
    let mut left = state
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(prefix) && *key > after);
    let page: Vec<_> = left.by_ref().take(PAGE).collect();
    let mut text = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
    let more = left.next().is_some();
    text += &format!("<IsTruncated>{more}</IsTruncated>");
    if let Some((last, _)) = page.last().filter(|_| more) {
        text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    for (key, data) in page {
        let len = data.len();
        text += &format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-20T03:00:00.000Z</LastModified><ETag>e</ETag><Size>{len}</Size></Contents>"
        );
    }
    Response::new(200, text + "</ListBucketResult>")
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path: path.to_owned(),
        query,
        headers,
        body,
    })
}

/// Undoes `%2F`.
fn decode(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at(2);
        decoded.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        decoded += rest;
    }
    decoded
}

/// Status and headers of an answer.
fn head(response: &Response) -> String {
    let len = response.body.len();
    let mut head = format!("HTTP/1.1 {} Told\r\nContent-Length: {len}\r\n", response.status);
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Writes the answer, damaged as ordered, at a place that `spot` chooses; `None` if the connection shall end.
fn send(
    writer: &mut TcpStream,
    request: &Request,
    mut response: Response,
    fault: Option<Fault>,
    spot: u64,
) -> Option<()> {
    let good = response.status < 300;
    match fault {
        Some(Fault::Stalled) => {
            std::thread::sleep(Duration::from_secs(8));
            return None;
        }
        Some(Fault::Flipped) if good && request.method == "GET" && !request.query.contains_key("list-type") => {
            let len = response.body.len().max(1);
            let at = usize::try_from(spot >> 8).unwrap() % len;
            if let Some(byte) = response.body.get_mut(at) {
                *byte ^= 1 << (spot % 8);
            }
        }
        Some(Fault::WrongRange) => {
            for (name, value) in &mut response.headers {
                if *name == "Content-Range" {
                    *value = value.replacen("bytes ", "bytes 1", 1);
                }
            }
        }
        _ => {}
    }
    writer.write_all(head(&response).as_bytes()).ok()?;
    let body: &[u8] = if request.method == "HEAD" { &[] } else { &response.body };
    match fault {
        Some(Fault::Truncated) if !body.is_empty() => {
            writer.write_all(&body[..body.len() / 2]).ok()?;
            None
        }
        Some(Fault::Slow) => body.chunks(body.len() / 3 + 1).try_for_each(|piece| {
            std::thread::sleep(Duration::from_millis(100));
            writer.write_all(piece).ok()
        }),
        _ => writer.write_all(body).ok(),
    }
}

/// All kinds of faults.
pub fn kinds() -> HashSet<Fault> {
    FAULTS.into()
}
