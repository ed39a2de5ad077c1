"""scikit-learn's linear probe on the features that `scaledown features RUN FILE --to DIR` wrote.

    python benches/sklearn_probe.py DIR

For every linear probe of DIR: standardises by the train split, fits LogisticRegression at the lambda that scaledown chose
(C = 1 / (N lambda)), and prints the accuracy on each measured set. Needs scikit-learn, numpy and safetensors.
"""

import csv
import json
import pathlib
import sys
import warnings

import sklearn
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    with open(folder / "sets.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["evaluation"].startswith("linear-probe/")]
    print(f"scikit-learn {sklearn.__version__}")
    for evaluation in dict.fromkeys(row["evaluation"] for row in rows):
        own = [row for row in rows if row["evaluation"] == evaluation]
        train = load_file(folder / next(row["file"] for row in own if row["role"] == "fitted on"))
        fit = json.loads((folder / (evaluation.replace("/", "-") + ".json")).read_text())
        scale = StandardScaler().fit(train["pooled"].astype("float64"))
        count = len(train["labels"])
        classifier = LogisticRegression(C=1.0 / (count * fit["lambda"]), max_iter=5000, tol=1e-8)
        with warnings.catch_warnings(record=True) as said_by_fit:
            warnings.simplefilter("always")
            classifier.fit(scale.transform(train["pooled"].astype("float64")), train["labels"])
        note = ", not converged" if said_by_fit else ""
        for row in own:
            if row["role"] == "measured":
                measured = load_file(folder / row["file"])
                said = classifier.predict(scale.transform(measured["pooled"].astype("float64")))
                hits = int((said == measured["labels"]).sum())
                print(f"{evaluation} {row['set']}: {100.0 * hits / len(said):.4f} % ({hits} of {len(said)}), lambda {fit['lambda']:.3g}, {count} images{note}")


if __name__ == "__main__":
    main()
