//! Retrieval both ways: an image's captions among all captions, a caption's image among all images.
//!
//! **Source** `CLIP_benchmark` (`zeroshot_retrieval`): hit or miss a query; an image query hits if any of its captions is in
//! the top K.

use std::collections::BTreeMap;

use super::{Encoder, ImageFeatures, Measured, Outcome, for_each_similarity_row, percent, rank};
use crate::data::{Pack, Tokenizer};
use crate::trainer::TrainerError;

const CUTOFFS: [usize; 3] = [1, 5, 10];

/// `image_retrieval_recall@K` (query: a caption) and `text_retrieval_recall@K` (query: an image), percent.
pub(super) fn measure(
    encoder: &mut Encoder,
    tokenizer: &Tokenizer,
    pack: &Pack,
    features: &ImageFeatures,
) -> Result<Measured, TrainerError> {
    if pack.caption_count() == 0 {
        return Err(TrainerError::Input("retrieval needs captions".into()));
    }
    let captions: Vec<String> = (0..pack.caption_count()).map(|caption| pack.caption_at(caption).to_string()).collect();
    let texts = encoder.texts(tokenizer, &captions)?;
    let owned: Vec<_> = (0..pack.len()).map(|image| pack.caption_range(image)).collect();
    Ok(ranked(features.projected(), &texts, encoder.embed_dim, &owned))
}

fn ranked(images: &[f32], texts: &[f32], embed_dim: usize, owned: &[std::ops::Range<usize>]) -> Measured {
    let mut text_ranks = Vec::with_capacity(owned.len());
    for_each_similarity_row(images, texts, embed_dim, |image, similarities| {
        text_ranks.extend(owned[image].clone().map(|caption| rank(similarities, caption)).min());
    });
    let image_of: Vec<usize> =
        owned.iter().enumerate().flat_map(|(image, captions)| captions.clone().map(move |_| image)).collect();
    let mut image_ranks = Vec::with_capacity(image_of.len());
    for_each_similarity_row(texts, images, embed_dim, |caption, similarities| {
        image_ranks.push(rank(similarities, image_of[caption]));
    });
    let mut metrics = BTreeMap::new();
    for cutoff in CUTOFFS {
        let recall = |ranks: &[usize]| percent(ranks.iter().filter(|rank| **rank < cutoff).count(), ranks.len());
        metrics.insert(format!("image_retrieval_recall@{cutoff}"), recall(&image_ranks));
        metrics.insert(format!("text_retrieval_recall@{cutoff}"), recall(&text_ranks));
    }
    let outcome = |what: &str, ranks| Outcome { what: what.to_owned(), ranks };
    Measured { metrics, outcomes: vec![outcome("text_rank", text_ranks), outcome("image_rank", image_ranks)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_hits_with_any_of_its_captions_and_a_caption_with_its_one_image() {
        // Two images on the axes; image 0 owns captions 0 and 1, image 1 owns caption 2.
        let images = [1.0, 0.0, 0.0, 1.0];
        let texts = [0.0, 1.0, 1.0, 0.0, 0.6, 0.8];
        let Measured { metrics: found, outcomes } = ranked(&images, &texts, 2, &[0..2, 2..3]);
        // Image 0: caption 1 is first. Image 1: caption 0 (similarity 1) comes before its own (0.8).
        assert_eq!(found["text_retrieval_recall@1"], 50.0);
        assert_eq!(found["text_retrieval_recall@5"], 100.0);
        // Captions 1 and 2 find their image first, caption 0 does not.
        assert!((found["image_retrieval_recall@1"] - 200.0 / 3.0).abs() < 1e-12);
        let stored: Vec<(&str, &[usize])> = outcomes.iter().map(|o| (o.what.as_str(), o.ranks.as_slice())).collect();
        assert_eq!(stored, [("text_rank", &[0, 1][..]), ("image_rank", &[1, 0, 0])]);
    }
}
