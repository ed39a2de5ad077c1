//! CLIP's byte-pair encoding beside `open_clip`'s own tokenizer, on hard strings.
//!
//! Ids and the vocabulary file come from `tests/fixtures/open_clip/tokens.py`, which names its versions.

use std::path::Path;

use scaledown::data::Tokenizer;
use scaledown::run::TokenizerConfig;

/// What `tokens.py` recorded.
#[derive(serde::Deserialize)]
struct Recorded {
    /// Text, ids.
    texts: Vec<(String, Vec<u32>)>,
    /// Text, how often it is repeated, number of ids, CRC-32 of the ids.
    repeated: Vec<(String, usize, usize, u32)>,
    /// Text, ids at a context length of 77.
    rows: Vec<(String, Vec<u32>)>,
}

fn recorded() -> (Tokenizer, Recorded) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/open_clip");
    let file = folder.join("bpe_simple_vocab_16e6.txt.gz").to_string_lossy().into_owned();
    let tokenizer = Tokenizer::train(&TokenizerConfig::ClipBpe { file }, std::iter::empty()).unwrap();
    let recorded = serde_json::from_slice(&std::fs::read(folder.join("tokens.json")).unwrap()).unwrap();
    (tokenizer, recorded)
}

#[test]
fn ids_of_hard_strings_are_open_clips() {
    let (tokenizer, Recorded { texts, rows, .. }) = recorded();
    assert!(texts.len() > 500 && rows.len() == 5, "{} texts", texts.len());
    let wrong: Vec<String> = texts
        .iter()
        .filter(|(text, ids)| tokenizer.ids(text) != *ids)
        .map(|(text, ids)| {
            format!("{text:?}: {:?}, open_clip reads {:?}", tokenizer.decode(&tokenizer.ids(text)), tokenizer.decode(ids))
        })
        .collect();
    // A lone U+0345 is the one known difference (see `clean`): Python's `regex` takes it for a case of iota.
    let (known, unknown): (Vec<&String>, Vec<&String>) = wrong.iter().partition(|line| line.starts_with("\"\\u{345} "));
    assert!(unknown.is_empty(), "{} of {} differ: {unknown:#?}", unknown.len(), texts.len());
    assert_eq!(known.len(), 1, "U+0345 is read as open_clip reads it: the difference need not be stated any more");
    for (text, row) in rows {
        assert_eq!(tokenizer.encode(&text, 77).ids, row, "{text}");
    }
}

#[test]
fn ids_of_texts_of_a_hundred_kilobytes_are_open_clips_and_come_in_time() {
    let (tokenizer, Recorded { repeated, .. }) = recorded();
    for (text, times, count, crc) in repeated {
        let text = text.repeat(times);
        let ids = tokenizer.ids(&text);
        let mut found = flate2::Crc::new();
        ids.iter().for_each(|id| found.update(&id.to_le_bytes()));
        assert_eq!(
            (ids.len(), found.sum()),
            (count, crc),
            "{} bytes of {:?}",
            text.len(),
            text.chars().take(8).collect::<String>()
        );
    }
}
