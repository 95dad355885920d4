//! The body of shared object messages (rtmp 7.1.3). The text names the events only; the layout is what Adobe's programs send.

use bstr::BString;
use bytes::Bytes;

use super::message::DecodeError;

/// The body of a type 19 message, and of a type 16 message behind its leading byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedObject {
    /// The object's name.
    pub name: BString,
    /// Its version.
    pub version: u32,
    /// 2: persistent; 0: not.
    pub persistence: u32,
    /// Four bytes without a known meaning.
    pub reserved: u32,
    /// What happens to it.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// 1 use, 2 release, 3 request change, 4 change, 5 success, 6 send message, 7 status, 8 clear, 9 remove, 10 request remove, 11 use success.
    pub kind: u8,
    /// Its data: for several kinds a name (16-bit length) and an AMF value.
    pub data: Bytes,
}

impl SharedObject {
    /// Decodes a body.
    ///
    /// # Errors
    /// When it ends inside one of its parts.
    pub fn decode(body: &[u8]) -> Result<SharedObject, DecodeError> {
        let mut rest = body;
        let mut take = |what, n| {
            let (taken, after) =
                rest.split_at_checked(n).ok_or(DecodeError::Short { what, have: rest.len(), need: n })?;
            rest = after;
            Ok::<_, DecodeError>((taken, after.is_empty()))
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte));
        let len = number(take("the length of a shared object's name", 2)?.0);
        let name = take("a shared object's name", len as usize)?.0.into();
        let head = take("the head of a shared object", 12)?;
        let mut object = SharedObject {
            name,
            version: number(&head.0[..4]),
            persistence: number(&head.0[4..8]),
            reserved: number(&head.0[8..]),
            events: Vec::new(),
        };
        let mut done = head.1;
        while !done {
            let event = take("the head of a shared object event", 5)?.0;
            let (data, last) = take("a shared object event", number(&event[1..]) as usize)?;
            object.events.push(Event { kind: event[0], data: Bytes::copy_from_slice(data) });
            done = last;
        }
        Ok(object)
    }

    /// Appends the body to `out`; a name is cut at 65535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let len = u16::try_from(self.name.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&self.name[..usize::from(len)]);
        for word in [self.version, self.persistence, self.reserved] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        for event in &self.events {
            out.push(event.kind);
            out.extend_from_slice(&u32::try_from(event.data.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(&event.data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_by_hand() {
        let body =
            [&[0, 1, b's'][..], &[0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0], &[1, 0, 0, 0, 0], &[4, 0, 0, 0, 1, 9]];
        let body = body.concat();
        let event = |kind, data| Event { kind, data: Bytes::from_static(data) };
        let object = SharedObject {
            name: "s".into(),
            version: 3,
            persistence: 2,
            reserved: 0,
            events: vec![event(1, &[]), event(4, &[9])],
        };
        assert_eq!(SharedObject::decode(&body).as_ref(), Ok(&object));
        let mut out = Vec::new();
        object.encode(&mut out);
        assert_eq!(out, body);
        for cut in 0..body.len() {
            // Between events a body may end.
            assert_eq!(SharedObject::decode(&body[..cut]).is_ok(), [15, 20].contains(&cut), "{cut}");
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_is_an_error() {
        let body = [&[0, 0][..], &[0; 12], &[6, 0xFF, 0xFF, 0xFF, 0xFF, 1]].concat();
        let error = SharedObject::decode(&body).map_err(|e| e.to_string());
        assert_eq!(error, Err("a shared object event: 1 bytes where 4294967295 are needed".into()));
    }
}
