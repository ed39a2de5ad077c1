//! Walking the headers of a tar file.
//!
//! Input: the bytes of a tar. Output: name and byte range of each regular member. Invariants: every header's checksum is checked;
//! a file that ends early is an error that names the byte; memory is bounded by the number of members and the length of a name,
//! whatever sizes the headers state. Reads ustar with prefixes, GNU long names, pax paths and sizes, and base-256 sizes; sparse
//! members, links and devices are counted and passed over. Own code, not the `tar` crate's reader: that copies members, and its
//! errors name no byte.

use std::ops::Range;
use std::path::Path;

use super::super::tally::Oddities;
use super::super::{DataError, DataResult};

const BLOCK: usize = 512;
/// Longest extended header (pax records of one member), bytes.
const MAX_EXTENDED: usize = 1 << 20;
/// Longest name of a member, bytes. **Source**: Linux's `PATH_MAX`.
const MAX_NAME: usize = 4096;
/// Most members of one tar.
const MAX_MEMBERS: usize = 4_000_000;

/// A regular member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub name: String,
    pub data: Range<usize>,
}

/// What a tar holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Walked {
    /// The regular members in order.
    pub members: Vec<Member>,
    /// Members passed over, by kind.
    pub oddities: Oddities,
    /// Whether it ends with an end-of-archive marker.
    pub has_end: bool,
}

/// Walks a tar from its first header to its last.
pub(super) fn walk(path: &Path, bytes: &[u8]) -> DataResult<Walked> {
    let mut walked = Walked::default();
    let mut next = Extended::default();
    let mut at = 0;
    while at < bytes.len() {
        let header = slice(path, bytes, "header", at, BLOCK)?;
        if header.iter().all(|&byte| byte == 0) {
            walked.has_end = true;
            break;
        }
        let bad = |what: String| DataError::BadTar { path: path.to_path_buf(), at: at as u64, what };
        check(header).map_err(bad)?;
        let kind = header[156];
        let is_extended = matches!(kind, b'x' | b'g' | b'L' | b'K');
        let stated = number(&header[124..136]).ok_or_else(|| bad("a size that is no number".to_owned()))?;
        let size = if is_extended { stated } else { next.size.unwrap_or(stated) };
        let size = usize::try_from(size).map_err(|_| bad(format!("a member of {size} bytes")))?;
        if is_extended && size > MAX_EXTENDED {
            return Err(bad(format!("an extended header of {size} bytes, expected at most {MAX_EXTENDED}")));
        }
        let name = next.path.clone().unwrap_or_else(|| name_of(header));
        let start = at + BLOCK + sparse_map(path, bytes, header, at)?;
        let data = slice(path, bytes, &format!("member `{name}`"), start, size)?;
        match kind {
            b'x' => next.read_pax(data).ok_or_else(|| bad("an extended header that cannot be read".to_owned()))?,
            b'L' => next.path = Some(text(data)),
            b'g' | b'K' => {}
            _ => {
                walked.push(kind, Member { name, data: start..start + size }, next.is_sparse);
                next = Extended::default();
            }
        }
        if next.path.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
            return Err(bad(format!("a name of more than {MAX_NAME} bytes")));
        }
        if walked.members.len() > MAX_MEMBERS {
            return Err(bad(format!("more than {MAX_MEMBERS} members")));
        }
        at = start + size.next_multiple_of(BLOCK);
    }
    Ok(walked)
}

impl Walked {
    fn push(&mut self, kind: u8, member: Member, is_sparse: bool) {
        match kind {
            b'S' => self.oddities.sparse += 1,
            b'0' | 0 | b'7' if is_sparse => self.oddities.sparse += 1,
            b'0' | 0 | b'7' if !member.name.ends_with('/') => self.members.push(member),
            // A folder, also in the form that had no kind of its own for them.
            b'0' | 0 | b'7' | b'5' => {}
            b'1' | b'2' => self.oddities.links += 1,
            _ => self.oddities.special += 1,
        }
    }
}

/// Bytes of the map that follows the header of an old GNU sparse member: blocks, each of which says whether another follows.
fn sparse_map(path: &Path, bytes: &[u8], header: &[u8], at: usize) -> DataResult<usize> {
    let (mut length, mut has_more) = (0, header[156] == b'S' && header[482] != 0);
    while has_more {
        let block = slice(path, bytes, "sparse map", at + BLOCK + length, BLOCK)?;
        has_more = block[504] != 0;
        length += BLOCK;
    }
    Ok(length)
}

/// What an extended header says about the member after it.
#[derive(Debug, Default)]
struct Extended {
    path: Option<String>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Extended {
    /// Records of the form "length key=value\n".
    fn read_pax(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
            let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" => self.path = Some(String::from_utf8_lossy(value).into_owned()),
                b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                key if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                _ => {}
            }
            records = &records[length..];
        }
        Some(())
    }
}

fn slice<'a>(path: &Path, bytes: &'a [u8], what: &str, at: usize, length: usize) -> DataResult<&'a [u8]> {
    let needs = at.saturating_add(length);
    bytes.get(at..needs).ok_or_else(|| DataError::TruncatedTar {
        path: path.to_path_buf(),
        what: what.to_owned(),
        at: at as u64,
        needs: needs as u64,
        len: bytes.len() as u64,
    })
}

/// The checksum is the sum of the header's bytes with its own field taken as spaces.
fn check(header: &[u8]) -> Result<(), String> {
    let stated = number(&header[148..156]);
    let field: u64 = header[148..156].iter().map(|&byte| u64::from(byte)).sum();
    let sum = header.iter().map(|&byte| u64::from(byte)).sum::<u64>() - field + 8 * u64::from(b' ');
    match stated {
        Some(stated) if stated == sum => Ok(()),
        _ if header.starts_with(&[0x1f, 0x8b]) => Err("gzip data".to_owned()),
        Some(stated) => Err(format!("a header whose checksum is {sum}, not {stated} as it says")),
        None => Err("a header without a checksum".to_owned()),
    }
}

/// Octal digits, or base-256 where the top bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let push = |value: u64, byte: &u8| value.checked_mul(256)?.checked_add(u64::from(*byte));
        return field[1..].iter().try_fold(u64::from(field[0] & 0x7f), push);
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

fn name_of(header: &[u8]) -> String {
    let name = text(&header[..100]);
    let prefix = if &header[257..263] == b"ustar\0" { text(&header[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// A field up to its first zero byte.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn walk(bytes: &[u8]) -> DataResult<(Vec<Member>, bool)> {
        walked(bytes).map(|walked| (walked.members, walked.has_end))
    }

    fn walked(bytes: &[u8]) -> DataResult<Walked> {
        super::walk(Path::new("x.tar"), bytes)
    }

    /// A tar of entries of any kind: kind, name, size as stated, bytes.
    fn entries(list: &[(tar::EntryType, &str, u64, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, name, size, data) in list {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_path(name).unwrap();
            header.set_size(*size);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(data);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out
    }

    #[test]
    fn members_are_found_with_long_names_and_any_size() {
        let long = format!("{}/a.txt", "d".repeat(150));
        let big = vec![7u8; 1025];
        let bytes = tar_of(&[("a.txt", b"one"), (&long, b""), ("b.bin", &big)]);
        let (members, has_end) = walk(&bytes).unwrap();
        let read: Vec<(&str, &[u8])> = members.iter().map(|m| (m.name.as_str(), &bytes[m.data.clone()])).collect();
        assert_eq!(read, [("a.txt", &b"one"[..]), (long.as_str(), b""), ("b.bin", big.as_slice())]);
        assert!(has_end);
    }

    #[test]
    fn pax_paths_replace_the_name_of_the_next_member() {
        let path = "é".repeat(80) + ".txt";
        let record = |length: usize| format!("{length} path={path}\n");
        let record = record(record(100).len());
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, data) in [(tar::EntryType::XHeader, record.as_bytes()), (tar::EntryType::Regular, b"x")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_entry_type(kind);
            header.set_path("short").unwrap();
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        let (members, _) = walk(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].name, path);
    }

    #[test]
    fn a_truncated_tar_names_the_byte_in_header_and_member() {
        let bytes = tar_of(&[("a.txt", &[b'x'; 600]), ("b.txt", b"y")]);
        let error = walk(&bytes[..900]).unwrap_err().to_string();
        assert_eq!(
            error,
            "x.tar: truncated tar: member `a.txt` at byte 512 needs the file to reach byte 1112, it ends at byte 900"
        );
        let error = walk(&bytes[..1536 + 100]).unwrap_err().to_string();
        assert_eq!(error, "x.tar: truncated tar: header at byte 1536 needs the file to reach byte 2048, it ends at byte 1636");
    }

    #[test]
    fn a_cut_between_members_lacks_the_end_marker() {
        let bytes = tar_of(&[("a.txt", b"x"), ("b.txt", b"y")]);
        let (members, has_end) = walk(&bytes[..1024]).unwrap();
        assert_eq!((members.len(), has_end), (1, false));
        assert_eq!(walk(&[]).unwrap(), (Vec::new(), false));
    }

    #[test]
    fn damage_and_other_formats_name_the_byte() {
        let mut bytes = tar_of(&[("a.txt", b"x"), ("b.txt", b"y")]);
        bytes[1024 + 3] ^= 1;
        assert!(matches!(walk(&bytes), Err(DataError::BadTar { at: 1024, .. })));
        let mut gzip = vec![0u8; 600];
        gzip[..2].copy_from_slice(&[0x1f, 0x8b]);
        let error = walk(&gzip).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("gunzip")), "{error}");
    }

    #[test]
    fn members_that_are_no_files_are_counted_and_passed_over() {
        use tar::EntryType as Kind;
        let sparse_record = b"22 GNU.sparse.major=1\n";
        let mut bytes = entries(&[
            (Kind::Symlink, "a.jpg", 0, b""),
            (Kind::Link, "b.jpg", 0, b""),
            (Kind::Fifo, "pipe", 0, b""),
            (Kind::Directory, "folder", 0, b""),
            (Kind::XHeader, "x", 22, sparse_record),
            (Kind::Regular, "s.jpg", 3, b"abc"),
            (Kind::Regular, "c.jpg", 3, b"abc"),
        ]);
        // An old GNU sparse member whose map takes two more blocks, then another file.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(Kind::GNUSparse);
        header.set_path("old.jpg").unwrap();
        header.set_size(5);
        header.as_mut_bytes()[482] = 1;
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        let mut map = [0u8; 2 * BLOCK];
        map[504] = 1;
        bytes.extend_from_slice(&map);
        bytes.extend_from_slice(&[b'x'; BLOCK]);
        bytes.extend(entries(&[(Kind::Regular, "d.jpg", 1, b"z")]));
        let Walked { members, oddities, .. } = walked(&bytes).unwrap();
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["c.jpg", "d.jpg"]);
        assert_eq!(oddities, Oddities { links: 2, sparse: 2, special: 1, ..Oddities::default() });
    }

    #[test]
    fn sizes_and_names_that_headers_claim_are_bounded() {
        use tar::EntryType as Kind;
        let error = |bytes: &[u8]| walk(bytes).unwrap_err().to_string();
        for kind in [Kind::XHeader, Kind::GNULongName] {
            let text = error(&entries(&[(kind, "x", 3 << 30, b"")]));
            assert_eq!(text, "x.tar: not a tar at byte 0: an extended header of 3221225472 bytes, expected at most 1048576");
        }
        let long = vec![b'n'; MAX_NAME + 1];
        let text = error(&entries(&[(Kind::GNULongName, "x", long.len() as u64, &long), (Kind::Regular, "a", 0, b"")]));
        assert!(text.ends_with("a name of more than 4096 bytes"), "{text}");
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[124..136].copy_from_slice(&[0xff; 12]);
        header.set_cksum();
        assert!(error(header.as_bytes()).contains("a size that is no number"));
        header.as_mut_bytes()[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        header.set_cksum();
        assert!(error(header.as_bytes()).starts_with("x.tar: truncated tar: member"), "{}", error(header.as_bytes()));
    }
}
