//! Encoding of requests and decoding of replies.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::{SftpError, StatusCode};
use super::names::{HeldNames, NamesBudget, NoRoom};
use crate::text::Line;

/// Longest packet that is accepted from a server: OpenSSH sends at most 256 KiB.
pub(super) const PACKET_MAX: usize = 512 * 1024;
/// Longest handle (section 6.2 of the draft).
const HANDLE_MAX: usize = 256;

/// The version of the protocol.
pub(super) const VERSION: u32 = 3;

/// Types of packets (section 3 of the draft).
pub(super) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// Returns the name of a request's type, as in the draft.
pub(super) fn kind_name(kind: u8) -> &'static str {
    match kind {
        kind::OPEN => "OPEN",
        kind::CLOSE => "CLOSE",
        kind::READ => "READ",
        kind::WRITE => "WRITE",
        kind::LSTAT => "LSTAT",
        kind::FSTAT => "FSTAT",
        kind::SETSTAT => "SETSTAT",
        kind::FSETSTAT => "FSETSTAT",
        kind::OPENDIR => "OPENDIR",
        kind::READDIR => "READDIR",
        kind::REMOVE => "REMOVE",
        kind::MKDIR => "MKDIR",
        kind::RMDIR => "RMDIR",
        kind::REALPATH => "REALPATH",
        kind::RENAME => "RENAME",
        kind::READLINK => "READLINK",
        kind::SYMLINK => "SYMLINK",
        kind::EXTENDED => "EXTENDED",
        _ => "unknown",
    }
}

/// Flags that say which attributes are present (section 5 of the draft).
mod attribute {
    pub(super) const SIZE: u32 = 1;
    pub(super) const OWNER: u32 = 2;
    pub(super) const PERMISSIONS: u32 = 4;
    pub(super) const TIMES: u32 = 8;
    pub(super) const EXTENDED: u32 = 0x8000_0000;
}

/// Attributes as a server sends them; missing ones are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SftpAttributes {
    /// Length, bytes.
    pub size: Option<u64>,
    /// Owner and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permission bits, as in `st_mode`.
    pub permissions: Option<u32>,
    /// Last access and last change, seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// Attributes to set; `None` leaves one as it is.
pub type SftpSetAttributes = SftpAttributes;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameEntry {
    /// The name, byte for byte: a slice of the packet that it came in. A caller that keeps it copies it.
    pub name: Bytes,
    /// Its attributes; links are not followed.
    pub attributes: SftpAttributes,
}

impl NameEntry {
    fn take(packet: &mut Bytes) -> Result<Self, SftpError> {
        let name = take_string(packet, "name")?;
        // The line that `ls -l` would show: it says nothing that the attributes do not.
        take_string(packet, "name")?;
        Ok(Self { name, attributes: take_attributes(packet)? })
    }
}

/// A reply.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Status { code: StatusCode, message: String },
    Handle(Bytes),
    Data(Bytes),
    Name(NamesReply),
    Attributes(SftpAttributes),
    Extended(Bytes),
}

/// The names in a reply, undecoded: decoded, short names would take ten times as much memory.
#[derive(Debug)]
pub(super) struct NamesReply {
    count: u32,
    packet: Bytes,
    held: Option<HeldNames>,
}

impl PartialEq for NamesReply {
    fn eq(&self, other: &Self) -> bool {
        (self.count, &self.packet) == (other.count, &other.packet)
    }
}

impl NamesReply {
    /// Checks that all of the names are there.
    fn take(packet: &mut Bytes) -> Result<Self, SftpError> {
        let count = take_u32(packet, "names")?;
        let names = Self { count, packet: packet.clone(), held: None };
        for _ in 0..count {
            NameEntry::take(packet)?;
        }
        Ok(names)
    }

    /// Returns how many names there are.
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns the same names with memory reserved for them until they are dropped.
    pub(super) fn held_in(mut self, budget: &NamesBudget) -> Result<Self, NoRoom> {
        self.held = Some(budget.take(self.packet.len() as u64)?);
        Ok(self)
    }

    /// Returns how many bytes of them are left to decode.
    pub(super) fn bytes(&self) -> usize {
        self.packet.len()
    }
}

impl Iterator for NamesReply {
    type Item = NameEntry;

    fn next(&mut self) -> Option<NameEntry> {
        self.count = self.count.checked_sub(1)?;
        NameEntry::take(&mut self.packet).ok()
    }
}

/// A request under construction. It begins with space for its length.
pub(super) struct RequestPacket(BytesMut);

impl RequestPacket {
    /// Begins a request of a type, with its id.
    pub(super) fn new(kind: u8, id: u32) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        bytes.put_u32(id);
        Self(bytes)
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub(super) fn string(mut self, value: &[u8]) -> Self {
        self.0.reserve(value.len() + 4);
        self.0.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.put_slice(value);
        self
    }

    pub(super) fn attributes(mut self, set: &SftpSetAttributes) -> Self {
        let flag = |present: bool, flag: u32| if present { flag } else { 0 };
        self.0.put_u32(
            flag(set.size.is_some(), attribute::SIZE)
                | flag(set.owner.is_some(), attribute::OWNER)
                | flag(set.permissions.is_some(), attribute::PERMISSIONS)
                | flag(set.times.is_some(), attribute::TIMES),
        );
        if let Some(size) = set.size {
            self.0.put_u64(size);
        }
        if let Some((uid, gid)) = set.owner {
            self.0.put_u32(uid);
            self.0.put_u32(gid);
        }
        if let Some(permissions) = set.permissions {
            self.0.put_u32(permissions);
        }
        if let Some((accessed, modified)) = set.times {
            self.0.put_u32(accessed);
            self.0.put_u32(modified);
        }
        self
    }

    /// Returns the finished packet.
    pub(super) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.0.freeze()
    }
}

/// Returns the first packet (INIT): it has no id.
pub(super) fn init() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(5);
    bytes.put_u8(kind::INIT);
    bytes.put_u32(VERSION);
    bytes.freeze()
}

fn malformed(what: &str) -> SftpError {
    SftpError::Protocol(format!("malformed {what}"))
}

fn take_u32(bytes: &mut Bytes, what: &str) -> Result<u32, SftpError> {
    bytes.try_get_u32().map_err(|_| malformed(what))
}

fn take_u64(bytes: &mut Bytes, what: &str) -> Result<u64, SftpError> {
    bytes.try_get_u64().map_err(|_| malformed(what))
}

fn take_string(bytes: &mut Bytes, what: &str) -> Result<Bytes, SftpError> {
    let length = take_u32(bytes, what)? as usize;
    if length > bytes.len() {
        return Err(malformed(what));
    }
    Ok(bytes.split_to(length))
}

fn take_attributes(bytes: &mut Bytes) -> Result<SftpAttributes, SftpError> {
    const WHAT: &str = "attributes";
    let flags = take_u32(bytes, WHAT)?;
    let has = |flag| flags & flag != 0;
    let pair = |bytes: &mut Bytes| Ok::<_, SftpError>((take_u32(bytes, WHAT)?, take_u32(bytes, WHAT)?));
    let size = if has(attribute::SIZE) { Some(take_u64(bytes, WHAT)?) } else { None };
    let owner = if has(attribute::OWNER) { Some(pair(bytes)?) } else { None };
    let permissions = if has(attribute::PERMISSIONS) { Some(take_u32(bytes, WHAT)?) } else { None };
    let times = if has(attribute::TIMES) { Some(pair(bytes)?) } else { None };
    if has(attribute::EXTENDED) {
        // Each extension takes at least eight bytes, so a false count runs out of packet.
        for _ in 0..take_u32(bytes, WHAT)? {
            take_string(bytes, WHAT)?;
            take_string(bytes, WHAT)?;
        }
    }
    Ok(SftpAttributes { size, owner, permissions, times })
}

/// Decodes the reply to [`init`]: the extensions that the server announces, by name.
pub(super) fn decode_version(mut packet: Bytes) -> Result<Vec<Bytes>, SftpError> {
    if packet.try_get_u8() != Ok(kind::VERSION) {
        return Err(malformed("greeting"));
    }
    let version = take_u32(&mut packet, "greeting")?;
    // The draft forbids a reply with a higher version than requested, and later versions encode attributes differently.
    if version != VERSION {
        return Err(SftpError::Protocol(format!("it speaks version {version} of SFTP, and 3 is needed")));
    }
    let mut extensions = Vec::new();
    while !packet.is_empty() {
        extensions.push(take_string(&mut packet, "extension")?);
        take_string(&mut packet, "extension")?;
    }
    Ok(extensions)
}

/// Decodes a reply: its id and its content.
pub(super) fn decode(mut packet: Bytes) -> Result<(u32, Reply), SftpError> {
    let kind = packet.try_get_u8().map_err(|_| malformed("packet"))?;
    let id = take_u32(&mut packet, "packet")?;
    let reply = match kind {
        kind::STATUS => {
            let code = take_u32(&mut packet, "status")?.into();
            // Old servers leave the message out.
            let message = take_string(&mut packet, "status").unwrap_or_default();
            let message = Line::of(&String::from_utf8_lossy(&message)).into();
            Reply::Status { code, message }
        }
        kind::HANDLE => {
            let handle = take_string(&mut packet, "handle")?;
            if handle.len() > HANDLE_MAX {
                return Err(malformed("handle"));
            }
            Reply::Handle(handle)
        }
        kind::DATA => Reply::Data(take_string(&mut packet, "data")?),
        kind::NAME => Reply::Name(NamesReply::take(&mut packet)?),
        kind::ATTRS => Reply::Attributes(take_attributes(&mut packet)?),
        kind::EXTENDED_REPLY => Reply::Extended(packet),
        other => return Err(SftpError::Protocol(format!("unknown packet type {other}"))),
    };
    Ok((id, reply))
}

/// Decodes the numbers of an extension's reply.
pub(super) fn decode_numbers<const N: usize>(mut reply: Bytes) -> Result<[u64; N], SftpError> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = take_u64(&mut reply, "extended reply")?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn packet(build: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut bytes = BytesMut::new();
        build(&mut bytes);
        bytes.freeze()
    }

    #[test]
    fn a_status_may_lack_its_words_and_have_any_code() {
        let bare = packet(|b| {
            b.put_u8(kind::STATUS);
            b.put_u32(7);
            b.put_u32(31);
        });
        let expected = Reply::Status { code: StatusCode::Other(31), message: String::new() };
        assert_eq!(decode(bare).unwrap(), (7, expected));
    }

    #[test]
    fn the_words_of_a_status_are_one_line_of_what_is_seen() {
        let words = format!("full\n\u{1b}[2J\u{9b}31m\u{202e}scaup: {}", "x".repeat(100_000));
        let status = packet(|b| {
            b.put_u8(kind::STATUS);
            b.put_u32(7);
            b.put_u32(4);
            b.put_u32(u32::try_from(words.len()).unwrap());
            b.put_slice(words.as_bytes());
        });
        let (_, Reply::Status { message, .. }) = decode(status).unwrap() else { unreachable!() };
        assert!(message.starts_with("full \u{fffd}[2J\u{fffd}31m\u{fffd}scaup: xxx"), "{message:?}");
        assert!(message.len() < 1000 && message.chars().all(crate::text::is_visible), "{message:?}");
    }

    #[test]
    fn extended_attributes_inside_names_are_skipped_whole() {
        let names = packet(|b| {
            b.put_u8(kind::NAME);
            b.put_u32(1);
            b.put_u32(2);
            for name in [b"a", b"b"] {
                b.put_u32(1);
                b.put_slice(name);
                b.put_u32(0);
                b.put_u32(attribute::EXTENDED | attribute::SIZE);
                b.put_u64(5);
                b.put_u32(1);
                b.put_u32(1);
                b.put_slice(b"x");
                b.put_u32(2);
                b.put_slice(b"yz");
            }
        });
        let (_, Reply::Name(names)) = decode(names).unwrap() else { unreachable!() };
        assert_eq!(
            (names.len(), names.map(|n| n.name).collect::<Vec<_>>()),
            (2, vec!["a".into(), "b".into()])
        );
    }

    #[test]
    fn counts_and_lengths_that_lie_are_refused() {
        for (kind, numbers) in [
            (kind::NAME, &[u32::MAX][..]),
            (kind::DATA, &[100]),
            (kind::HANDLE, &[u32::MAX]),
            (kind::ATTRS, &[attribute::EXTENDED, u32::MAX]),
        ] {
            let lie = packet(|b| {
                b.put_u8(kind);
                b.put_u32(1);
                numbers.iter().for_each(|&number| b.put_u32(number));
            });
            assert!(matches!(decode(lie), Err(SftpError::Protocol(_))), "type {kind}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes: Vec<u8>, kind in 101..=105_u8) {
            let _ = decode(Bytes::from(bytes.clone()));
            let _ = decode_version(Bytes::from(bytes.clone()));
            let mut typed = vec![kind];
            typed.extend(bytes);
            let _ = decode(Bytes::from(typed));
        }
    }
}
