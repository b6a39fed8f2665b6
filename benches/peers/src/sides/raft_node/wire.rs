//! Messages between nodes over TCP. A frame begins with its length. Then come, for each message,
//! its group and the message with its length, as protobuf writes them.

use super::event::Event;
use bytes::Bytes;
use logboat_bench::Failure;
use protobuf::{CodedInputStream, Message as _};
use raft::eraftpb::Message;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;

/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// One direction of a connection, written by one thread.
pub(crate) struct Link {
    stream: TcpStream,
    frame: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, frame: vec![0; LENGTH_BYTES] }
    }

    /// Adds a message to the frame.
    pub(crate) fn push(&mut self, group: u64, message: &Message) -> Result<(), Failure> {
        let mut group = group;
        while group >= 0x80 {
            self.frame.push(group as u8 | 0x80);
            group >>= 7;
        }
        self.frame.push(group as u8);
        message.write_length_delimited_to_vec(&mut self.frame)?;
        Ok(())
    }

    /// Sends what there is.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let bytes = self.frame.len() - LENGTH_BYTES;
        if bytes == 0 {
            return Ok(());
        }
        self.frame[..LENGTH_BYTES].copy_from_slice(&u32::try_from(bytes)?.to_le_bytes());
        self.stream.write_all(&self.frame)?;
        self.frame.truncate(LENGTH_BYTES);
        Ok(())
    }
}

/// Hands what arrives to a poller until the other side ends.
pub(crate) fn receive(stream: TcpStream, inbox: &Sender<Event>) -> Result<(), Failure> {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut length = [0; LENGTH_BYTES];
        match reader.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut frame)?;
        // A poller that has stopped reads no more.
        if inbox.send(Event::Messages(decode(&frame.into())?)).is_err() {
            return Ok(());
        }
    }
}

/// The entries' data borrows the frame.
fn decode(frame: &Bytes) -> Result<Vec<(u64, Message)>, Failure> {
    let mut input = CodedInputStream::from_carllerche_bytes(frame);
    let mut messages = Vec::new();
    while !input.eof()? {
        let group = input.read_raw_varint64()?;
        messages.push((group, input.read_message()?));
    }
    Ok(messages)
}
