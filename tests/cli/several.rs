//! Several experiment files in one command.

use crate::place::{Outcome, Place, SMALL, text_of};

/// An experiment that has one of its two points in common with [`SMALL`].
fn other() -> String {
    SMALL.replace("experiment: small", "experiment: other").replace("[1e-3, 2e-3]", "[2e-3, 4e-3]")
}

#[test]
fn files_are_planned_together_with_each_run_counted_once() -> Outcome {
    let place = Place::new(SMALL)?;
    std::fs::write(place.path().join("other.yaml"), other())?;
    let plan = |args: &[&str]| -> Result<serde_json::Value, Box<dyn std::error::Error>> {
        let said = place.scaledown(&[&["plan"], args, &["--device", "cpu", "--tflops", "0.5", "--format", "json"]].concat())?;
        assert_eq!(said.status.code(), Some(0), "{}", text_of(&said.stderr));
        Ok(serde_json::from_slice(&said.stdout)?)
    };
    let both = plan(&["small.yaml", "other.yaml"])?;
    let alone = plan(&["small.yaml"])?["gmacs"].as_f64().ok_or("no GMACs")?;
    let of = |row: &serde_json::Value| [&row["runs"], &row["shared"], &row["there"]].map(serde_json::Value::as_u64);
    assert_eq!(of(&both["experiments"][0]), [Some(4), Some(0), Some(0)]);
    assert_eq!(of(&both["experiments"][1]), [Some(4), Some(2), Some(0)]);
    assert_eq!(of(&both["together"]), [Some(6), Some(2), Some(0)]);
    let gmacs = both["together"]["gmacs"].as_f64().ok_or("no GMACs")?;
    assert!((gmacs / alone - 1.5).abs() < 1e-9, "{gmacs} and {alone}");
    let seconds = both["together"]["seconds"].as_f64().ok_or("no time")?;
    assert!((seconds / (gmacs * 6e9 / 0.5e12) - 1.0).abs() < 1e-9, "{seconds}");
    let dot = place.scaledown(&["plan", "small.yaml", "other.yaml", "--format", "dot"])?;
    assert_eq!(dot.status.code(), Some(2));
    Ok(())
}

#[test]
fn files_are_run_in_turn_and_checked_before_the_first() -> Outcome {
    let place = Place::new(SMALL)?;
    std::fs::write(place.path().join("bad.yaml"), other().replace("budget", "budgte"))?;
    let bad = place.scaledown(&["run", "small.yaml", "bad.yaml", "--device", "cpu", "-q"])?;
    assert_eq!(bad.status.code(), Some(3), "{}", text_of(&bad.stderr));
    assert!(!place.path().join("results").exists(), "nothing was trained before the mistake was found");

    // The first file's claim does not hold: the second is run all the same, and the code says so.
    std::fs::write(place.path().join("small.yaml"), SMALL.replace("limit: 100", "limit: -1"))?;
    std::fs::write(place.path().join("other.yaml"), other())?;
    let run = place.scaledown(&["run", "small.yaml", "other.yaml", "--device", "cpu", "--check"])?;
    assert_eq!(run.status.code(), Some(5), "{}", text_of(&run.stderr));
    let said = text_of(&run.stderr) + &text_of(&run.stdout);
    assert!(said.contains("4 trained") && said.contains("2 trained"), "{said}");
    for name in ["small", "other"] {
        assert!(place.path().join("results").join(name).join("runs.csv").is_file(), "{name}");
    }
    Ok(())
}
