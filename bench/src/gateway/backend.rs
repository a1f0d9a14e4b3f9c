//! The smallest MCP server of 2026-07-28 that can be: it answers what the gateway asks at the start, and
//! calls with one constant message.

use std::error::Error;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that runs until the process ends.
pub struct Backend {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

/// Starts it on threads of its own.
pub fn start() -> Result<Backend, Box<dyn Error>> {
    let (sender, receiver) = std::sync::mpsc::channel::<std::io::Result<SocketAddr>>();
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        else {
            return;
        };
        runtime.block_on(async move {
            let listener = match TcpListener::bind("127.0.0.1:0").await {
                Ok(listener) => listener,
                Err(error) => return drop(sender.send(Err(error))),
            };
            drop(sender.send(listener.local_addr()));
            while let Ok((stream, _)) = listener.accept().await {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the benchmark's own server lives as long as its process"
                )]
                tokio::spawn(serve(stream));
            }
        });
    });
    Ok(Backend { port: receiver.recv()??.port() })
}

async fn serve(mut stream: TcpStream) {
    // Small answers must not wait for an acknowledgement.
    let _ignored = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    let mut out = Vec::with_capacity(1024);
    loop {
        while let Some((body, end)) = request(&buffer) {
            answer(&buffer[body..end], &mut out);
            buffer.drain(..end);
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Where the body of the first whole request begins and ends.
fn request(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head + length.unwrap_or(0);
    (bytes.len() >= end).then_some((head, end))
}

fn answer(body: &[u8], out: &mut Vec<u8>) {
    let has = |word: &[u8]| body.windows(word.len()).any(|part| part == word);
    let result: &[u8] = if has(b"\"tools/call\"") {
        br#"{"resultType":"complete","content":[{"type":"text","text":"hello"}]}"#
    } else if has(b"\"tools/list\"") {
        br#"{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[{"name":"echo","description":"Says hello","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}},"annotations":{"readOnlyHint":true}}]}"#
    } else {
        br#"{"resultType":"complete","ttlMs":60000,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#
    };
    let id = id(body);
    out.clear();
    let size = br#"{"jsonrpc":"2.0","id":,"result":}"#.len() + id.len() + result.len();
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ");
    out.extend_from_slice(size.to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(result);
    out.push(b'}');
}

/// The id of the message, as it was written.
fn id(body: &[u8]) -> &[u8] {
    let key = br#""id":"#;
    let Some(at) = body.windows(key.len()).position(|part| part == key) else { return b"null" };
    let rest = &body[at + key.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b',' | b'}')).unwrap_or(rest.len());
    &rest[..end]
}
