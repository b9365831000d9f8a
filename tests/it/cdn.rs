//! A vendor's host that misbehaves as the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;

use crate::harness::{NO_RATES, SITE};

/// The reply to every request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
    /// The same after a delay.
    Slow(Duration, Vec<u8>),
    /// Nothing, until the other side gives up.
    Silence,
    /// These bytes, and then a reset.
    Reset(Vec<u8>),
    /// An endless script.
    Endless,
}

impl Reply {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.into())
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) | Self::Slow(_, bytes) | Self::Reset(bytes) => bytes,
            Self::Silence | Self::Endless => Vec::new(),
        }
    }
}

/// A valid reply.
pub(crate) fn ok(content_type: &str, more: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{more}connection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// The host of the scripts.
pub(crate) struct Cdn {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    reply: Mutex<Reply>,
    asked: Mutex<Vec<String>>,
    stopped: AtomicBool,
    /// Endless replies that the other side ended.
    ended: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Cdn {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            reply: Mutex::new(Reply::Silence),
            asked: Mutex::default(),
            stopped: AtomicBool::new(false),
            ended: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let own = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream.unwrap()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn reply(&self, reply: Reply) {
        *self.state.reply.lock() = reply;
    }

    /// A valid reply with an entity tag.
    pub(crate) fn script(&self, text: &str) {
        self.reply(ok("text/javascript", "etag: \"one\"\r\n", text));
    }

    /// The heads of the requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().clone()
    }

    pub(crate) fn ended(&self) -> usize {
        self.state.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// Rejects connections from now on.
    pub(crate) fn stop(&self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        while TcpStream::connect(self.address).is_ok() {}
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) {
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap_or(0) > 2 {
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        self.asked.lock().push(head);
        let reply = self.reply.lock().clone();
        if let Reply::Slow(time, _) = &reply {
            // A delay: the other side sends nothing more.
            stream.set_read_timeout(Some(*time)).unwrap();
            drop(reader.read_line(&mut String::new()));
        }
        // Before the other side can know the end of the reply, and begin another request.
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        match reply {
            Reply::Bytes(bytes) | Reply::Slow(_, bytes) => drop(stream.write_all(&bytes)),
            Reply::Silence => drop(reader.read_line(&mut String::new())),
            Reply::Reset(bytes) => {
                drop(stream.write_all(&bytes));
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            Reply::Endless => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/javascript\r\n\r\n";
                drop(stream.write_all(head.as_bytes()));
                while stream.write_all(&[b';'; 4096]).is_ok() {}
                self.ended.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// The settings of a site whose GA4 scripts come from the host.
pub(crate) fn settings(cdn: &Cdn, scripts: &str) -> String {
    let address = cdn.address;
    format!(
        "{NO_RATES}[scripts]\nscript_bytes = \"200KiB\"\ntimeout = \"300ms\"\n{scripts}\n{SITE}\
         [sites.vendors.ga4]\nscripts = \"proxy\"\nids = [\"G-1\"]\nscript_endpoint = \"http://{address}\"\n"
    )
}
