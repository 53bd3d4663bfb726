//! Kafka's protocol over a plain TCP connection, for the few requests that librdkafka does not offer. The messages are those of
//! `kafka-protocol`, which are generated from Kafka's own schemas.
//!
//! Deliberately absent: TLS and SASL, retries, more than one request at a time. Commands that a person runs need none of the
//! latter, and for the former there is Kafka's own tool.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

use crate::log::{LogError, Remedy};

/// One connection or request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer that claims to be larger is none.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection to one broker.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    name: String,
    requests: i32,
}

impl Wire {
    /// Connects to a broker by the name that it advertises.
    pub(super) fn connect(host: &str, port: u16) -> Result<Wire, LogError> {
        let name = format!("{host}:{port}");
        let failed = |error: std::io::Error| {
            LogError::new(Remedy::Reopen, format!("cannot connect to broker {name}: {error}"))
        };
        let mut last = std::io::Error::other("its name has no address");
        for address in (host, port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
                    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(Wire { stream, name, requests: 0 });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Sends a request of a version that both sides know, and waits for its answer.
    pub(super) fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, LogError> {
        self.requests += 1;
        let name = self.name.clone();
        let failed = |what: &dyn std::fmt::Display| {
            let key =
                ApiKey::try_from(R::KEY).map_or_else(|()| "?".to_owned(), |key| format!("{key:?}"));
            LogError::new(Remedy::Reopen, format!("broker {name} did not answer {key}: {what}"))
        };
        let frame = self.frame(request, version).map_err(|error| failed(&error))?;
        self.stream.write_all(&frame).map_err(|error| failed(&error))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|error| failed(&error))?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            return Err(failed(&format!("it claims an answer of {length} bytes")));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).map_err(|error| failed(&error))?;
        self.answer::<R>(Bytes::from(answer), version).map_err(|error| failed(&error))
    }

    fn frame<R: Request>(&self, request: &R, version: i16) -> Result<BytesMut, String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.requests)
            .with_client_id(Some(StrBytes::from_static_str("bellwether")));
        let mut body = BytesMut::new();
        encode_request_header_into_buffer(&mut body, &header).map_err(|error| error.to_string())?;
        request.encode(&mut body, version).map_err(|error| error.to_string())?;
        let length = i32::try_from(body.len()).map_err(|error| error.to_string())?;
        let mut frame = BytesMut::with_capacity(body.len() + 4);
        frame.put_i32(length);
        frame.put(body);
        Ok(frame)
    }

    fn answer<R: Request>(&self, mut answer: Bytes, version: i16) -> Result<R::Response, String> {
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|error| error.to_string())?;
        if header.correlation_id != self.requests {
            return Err("it answered another request".to_owned());
        }
        let decoded =
            R::Response::decode(&mut answer, version).map_err(|error| error.to_string())?;
        if answer.has_remaining() {
            return Err(format!("its answer is {} bytes too long", answer.remaining()));
        }
        Ok(decoded)
    }
}
