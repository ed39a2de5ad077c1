//! Files that are right: what they come to.
use scaledown::{grid, spec};
use std::path::Path;

#[test]
fn smoke() {
    let o = spec::LoadOptions::default();
    match spec::load(Path::new("tests/fixtures/spec/data-quality.yaml"), &o) {
        Ok(s) => {
            let e = grid::expand(&s);
            println!("{} points {} runs", e.num_points(), e.runs().len());
            for w in e.warnings() {
                println!("{w}");
            }
            println!("{}", serde_json::to_string_pretty(&e.config(0)).expect("j"));
        }
        Err(e) => panic!("{e}"),
    }
}
