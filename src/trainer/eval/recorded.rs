//! What scikit-learn and numpy found, as recorded by `tests/fixtures/probe/make.py`.

use serde::Deserialize;

/// The whole record.
#[derive(Deserialize)]
pub struct Recorded {
    pub classes: usize,
    pub width: usize,
    divisor: f32,
    pub train: Samples,
    pub test: Samples,
    pub probe: RecordedProbe,
    pub fewshot: Vec<RecordedFewshot>,
}

/// Labelled samples.
#[derive(Deserialize)]
pub struct Samples {
    features: Vec<f32>,
    pub labels: Vec<usize>,
}

#[derive(Deserialize)]
pub struct RecordedProbe {
    pub fits: Vec<RecordedFit>,
    pub held_out: Vec<usize>,
    pub tried: Vec<RecordedTry>,
    pub lam: f64,
    pub predictions: Vec<usize>,
}

#[derive(Deserialize)]
pub struct RecordedFit {
    pub lam: f64,
    pub weights: Vec<f64>,
    pub biases: Vec<f64>,
}

#[derive(Deserialize)]
pub struct RecordedTry {
    pub lam: f64,
    pub hits: usize,
    pub least_margin: f64,
}

#[derive(Deserialize)]
pub struct RecordedFewshot {
    pub shots: u64,
    pub seed: u64,
    pub chosen: Vec<usize>,
    pub scores: Vec<f64>,
    pub predictions: Vec<usize>,
}

impl Recorded {
    pub fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probe/probe.json");
        let text = std::fs::read_to_string(path).expect("the record is in the repository");
        serde_json::from_str(&text).expect("it was written by make.py")
    }

    /// Features [N, width] of samples.
    pub fn features(&self, samples: &Samples) -> Vec<f32> {
        samples.features.iter().map(|value| value / self.divisor).collect()
    }
}

/// Samples whose predicted class is their label.
pub fn hits(predictions: &[usize], labels: &[usize]) -> Vec<bool> {
    predictions.iter().zip(labels).map(|(predicted, label)| predicted == label).collect()
}
