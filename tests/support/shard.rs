//! Tar shards, written by another library than the one that reads them.

/// The bytes of a shard with these members.
pub fn tar<N: AsRef<str>>(members: &[(N, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name.as_ref(), data.as_slice()).expect("names are short");
    }
    builder.into_inner().expect("a vector takes all bytes")
}
