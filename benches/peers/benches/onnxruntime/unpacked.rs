//! ONNX files as proto2 writes them, which keeps the elements of a list apart: rten 0.27 reads those of
//! attributes and extents in no other way.

use prost::DecodeError;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// The messages on the way to such lists.
#[derive(Clone, Copy)]
pub enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
}

enum Content {
    Message(Message),
    Floats,
    Integers,
    Other,
}

impl Message {
    fn field(self, number: u32) -> Content {
        match (self, number) {
            (Message::Model, 7) => Content::Message(Message::Graph),
            (Message::Graph, 1) => Content::Message(Message::Node),
            (Message::Graph, 5) | (Message::Attribute, 5) => Content::Message(Message::Tensor),
            (Message::Node, 5) => Content::Message(Message::Attribute),
            (Message::Attribute, 7) => Content::Floats,
            (Message::Attribute, 8) | (Message::Tensor, 1) => Content::Integers,
            _ => Content::Other,
        }
    }
}

pub fn unpacked(message: Message, mut from: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut to = Vec::with_capacity(from.len());
    while from.has_remaining() {
        let (number, wire) = decode_key(&mut from)?;
        if wire == WireType::Varint {
            encode_key(number, wire, &mut to);
            encode_varint(decode_varint(&mut from)?, &mut to);
            continue;
        }
        let len = match wire {
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            _ => decode_varint(&mut from)? as usize,
        };
        let (mut bytes, rest) = from.split_at(len);
        from = rest;
        if wire != WireType::LengthDelimited {
            encode_key(number, wire, &mut to);
            to.put_slice(bytes);
            continue;
        }
        match message.field(number) {
            Content::Message(inner) => {
                let bytes = unpacked(inner, bytes)?;
                encode_key(number, wire, &mut to);
                encode_varint(bytes.len() as u64, &mut to);
                to.put_slice(&bytes);
            }
            Content::Integers => {
                while bytes.has_remaining() {
                    encode_key(number, WireType::Varint, &mut to);
                    encode_varint(decode_varint(&mut bytes)?, &mut to);
                }
            }
            Content::Floats => {
                for float in bytes.chunks(4) {
                    encode_key(number, WireType::ThirtyTwoBit, &mut to);
                    to.put_slice(float);
                }
            }
            Content::Other => {
                encode_key(number, wire, &mut to);
                encode_varint(bytes.len() as u64, &mut to);
                to.put_slice(bytes);
            }
        }
    }
    Ok(to)
}
