//! What of a run is there for its seed to draw.

use super::{DataConfig, QualityBy, QualityConfig, RunConfig, SeedPart, SeedParts};

impl DataConfig {
    /// Whether a seed that draws this part of a run finds something to draw in its data. A pool without a stated size is all there is of
    /// its source; what a filter leaves may be fewer samples than are drawn of it, so that a drawn size behind a filter is not counted.
    #[must_use]
    pub fn has_drawn(&self, part: SeedPart) -> bool {
        let scorers = || self.quality.iter().flat_map(QualityConfig::measures).filter_map(QualityBy::scorer);
        match part {
            SeedPart::Init | SeedPart::Order => true,
            SeedPart::Pool => {
                let mut measures = self.quality.iter().flat_map(QualityConfig::measures);
                let is_random = measures.any(|measure| matches!(measure, QualityBy::Random));
                self.size.is_some() || is_random || scorers().any(|scorer| scorer.data.has_drawn(part))
            }
            SeedPart::Scorer => scorers().next().is_some(),
        }
    }
}

impl RunConfig {
    /// What its seed draws and is there to be drawn.
    #[must_use]
    pub fn drawn(&self) -> SeedParts {
        self.seeds_draw.iter().filter(|part| self.data.has_drawn(*part)).collect()
    }
}
