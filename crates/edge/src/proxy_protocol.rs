//! The PROXY header, versions 1 and 2, before everything else on a connection. It is read byte by byte, so that
//! nothing after it is consumed from the stream.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The signature at the start of a version 2 header.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest version 1 header, its line break included (the specification, section 2.1).
const MAX_V1_BYTES: usize = 107;

/// The longest accepted rest of a version 2 header: addresses are 216 bytes at most, and the additions of load
/// balancers are short.
const MAX_V2_BYTES: usize = 4096;

/// Reads the header and returns the source it names; `None` for the proxy's own health checks.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_rest_of_v2(stream, &mut header).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() == MAX_V1_BYTES {
                return Err(invalid());
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(invalid());
    }
    let (parsed, length) =
        ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_invalid| invalid())?;
    if length != header.len() {
        return Err(invalid());
    }
    Ok(parsed.proxied_address().map(|address| address.source.ip().to_canonical()))
}

async fn read_rest_of_v2(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> io::Result<()> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    header.extend(fixed);
    let [_, _, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2_BYTES {
        return Err(invalid());
    }
    let start = header.len();
    header.resize(start + length, 0);
    let rest = header.get_mut(start..).ok_or_else(invalid)?;
    stream.read_exact(rest).await?;
    Ok(())
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a PROXY header")
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;

    use super::*;

    fn v2(source: &str) -> Vec<u8> {
        let destination = if source.starts_with('[') { "[::1]:443" } else { "127.0.0.1:443" };
        let address = ProxiedAddress::stream(source.parse().unwrap(), destination.parse().unwrap());
        let mut bytes = Vec::new();
        ProxyHeader::with_address(address).encode_v2(&mut bytes).unwrap();
        bytes
    }

    async fn read_all(bytes: &[u8]) -> (io::Result<Option<IpAddr>>, usize) {
        let mut stream = bytes;
        let result = read(&mut stream).await;
        (result, stream.len())
    }

    #[tokio::test]
    async fn both_versions_name_the_source_and_leave_the_rest() {
        let cases: [(Vec<u8>, Option<&str>); 5] = [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 443\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 5000 443\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2("192.0.2.7:5000"), Some("192.0.2.7")),
            (v2("[2001:db8::7]:5000"), Some("2001:db8::7")),
        ];
        for (mut bytes, source) in cases {
            bytes.extend(b"GET / HTTP/1.1");
            let (result, left) = read_all(&bytes).await;
            assert_eq!(result.unwrap(), source.map(|source| source.parse().unwrap()));
            assert_eq!(left, b"GET / HTTP/1.1".len());
        }
    }

    #[tokio::test]
    async fn malformed_headers_are_refused() {
        let mut long = SIGNATURE.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), long, endless, b"PROXY".to_vec()] {
            assert!(read_all(&bytes).await.0.is_err());
        }
        assert!(read_all(b"PROXY TCP4 nonsense 1 2 3\r\n").await.0.is_err());
    }
}
