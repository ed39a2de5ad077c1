//! Files of other writers (tests/fixtures/score_files), and what is said of bad ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::DataResult;
use super::form::half;
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score_files").join(name)
}

fn read(bytes: &[u8], id_column: &str, score_column: &str) -> DataResult<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    rows((Path::new("t.parquet"), bytes), (id_column, score_column), |name, score| {
        found.insert(name.into_owned(), score);
        Ok(())
    })?;
    Ok(found)
}

fn read_fixture(name: &str, id_column: &str, score_column: &str) -> DataResult<BTreeMap<String, f64>> {
    read(&std::fs::read(fixture(name)).unwrap(), id_column, score_column)
}

/// What `make.py` says that the rows hold, as bits; NaN where they have no score.
fn expected(is_number: bool, missing: bool, score: impl Fn(u32) -> f64) -> BTreeMap<String, u64> {
    let name = |i: u32| if is_number { (1000 + i).to_string() } else { format!("{:032x}", 1000 + i) };
    let score = |i: u32| if missing && i % 9 == 4 { f64::NAN } else { score(7 * i % 40) };
    (0..40).map(|i| (name(i), score(i).to_bits())).collect()
}

fn bits(found: BTreeMap<String, f64>) -> BTreeMap<String, u64> {
    found.into_iter().map(|(name, score)| (name, score.to_bits())).collect()
}

#[test]
fn tables_of_every_writer_hold_what_they_were_made_of() {
    let sixty_fourths = |place| f64::from(place) / 64.0;
    for (file, id, score, missing) in [
        ("pandas.parquet", "uid", "clip_b32_similarity_score", true),
        ("pandas.parquet", "uid", "clip_l14_similarity_score", true),
        ("polars.parquet", "uid", "score", true),
        ("required.parquet", "uid", "score", false),
    ] {
        let found = bits(read_fixture(file, id, score).unwrap());
        assert_eq!(found, expected(file == "required.parquet", missing, sixty_fourths), "{file} {score}");
    }
}

#[test]
fn columns_of_every_type_and_encoding_are_read() {
    let whole = |place: u32| f64::from(place) - 5.0;
    let scores: [(&str, &dyn Fn(u32) -> f64); 10] = [
        ("f16", &|place| f64::from(place) / 64.0),
        ("f32", &|place| f64::from(place) / 64.0),
        ("f64", &|place| f64::from(place) / 64.0),
        ("i8", &whole),
        ("i16", &whole),
        ("i32", &whole),
        ("i64", &whole),
        ("u8", &|place| f64::from(place)),
        ("u32", &|place| f64::from(u32::MAX - place)),
        ("u64", &|_| 18_446_744_073_709_549_568.0),
    ];
    for file in ["types-gzip.parquet", "types-zstd.parquet"] {
        for (column, score) in scores {
            assert_eq!(bits(read_fixture(file, "text", column).unwrap()), expected(false, true, score), "{file} {column}");
        }
        for id in ["text", "large", "bytes", "fixed", "category", "number", "unsigned"] {
            let found = bits(read_fixture(file, id, "f32").unwrap());
            let is_number = matches!(id, "number" | "unsigned");
            assert_eq!(found, expected(is_number, true, |place| f64::from(place) / 64.0), "{file} {id}");
        }
    }
}

#[test]
fn numbers_of_sixteen_bits_are_exact() {
    for bits in 0..=u16::MAX {
        let (found, expected) = (half(bits), half::f16::from_bits(bits).to_f32());
        assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()), "{bits:#x}: {found}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_column() {
    let says = |file: &str, id: &str, score: &str| {
        let error = read_fixture(file, id, score).unwrap_err();
        format!("{error}; {}", error.hint().unwrap_or_default())
    };
    let types = |id: &str, score: &str| says("types-gzip.parquet", id, score);
    assert_eq!(types("text", "text"), "t.parquet: column `text` holds texts, expected numbers; name another column");
    assert_eq!(
        types("f64", "f64"),
        "t.parquet: column `f64` holds numbers with a fraction, expected texts or whole numbers; name another column"
    );
    for (column, holds) in [
        ("day", "dates or times"),
        ("cents", "decimal numbers"),
        ("flag", "truth values"),
        ("pair", "lists or records"),
        ("list", "lists or records"),
    ] {
        assert!(
            types("text", column).starts_with(&format!("t.parquet: column `{column}` holds {holds}, expected numbers")),
            "{column}"
        );
    }
    let known = "t.parquet: no column `score`, expected one of `uid`, `text`, `face_bboxes`, `clip_b32_similarity_score`, ";
    assert!(says("pandas.parquet", "uid", "score").starts_with(known));
    assert_eq!(says("encrypted.parquet", "uid", "score"), "t.parquet: its footer is encrypted; write it again without encryption");
    assert_eq!(
        says("encrypted-column.parquet", "uid", "score"),
        "t.parquet: column `score`: it is encrypted; write it again without encryption"
    );
    let brotli = says("brotli.parquet", "uid", "score");
    assert!(brotli.starts_with("t.parquet: row 1, column `uid`: compressed by Brotli, expected Snappy, gzip, Zstandard or none; "));
}

#[test]
fn damage_is_an_error_or_changes_values_and_never_a_panic() {
    for (file, id, score) in [
        ("pandas.parquet", "uid", "clip_b32_similarity_score"),
        ("types-gzip.parquet", "text", "i64"),
        ("types-zstd.parquet", "large", "f32"),
        ("required.parquet", "uid", "score"),
        ("polars.parquet", "uid", "score"),
    ] {
        let whole = std::fs::read(fixture(file)).unwrap();
        for cut in (0..whole.len()).step_by(13) {
            let error = read(&whole[..cut], id, score).unwrap_err();
            assert!(error.hint().is_some(), "{file} cut at {cut}: {error}");
        }
        assert!(read(&whole[..whole.len() / 2], id, score).unwrap_err().to_string().contains("a truncated Parquet file"));
        let mut refused = 0;
        let places = (0..whole.len()).step_by(5);
        for (at, value) in places.clone().zip([0, 0x80, 0xff, 1, 0x15].into_iter().cycle()) {
            let mut damaged = whole.clone();
            damaged[at] ^= value;
            refused += usize::from(read(&damaged, id, score).is_err());
        }
        assert!(refused > places.len() / 10, "{file}: {refused} of {} damaged files are refused", places.len());
    }
}
