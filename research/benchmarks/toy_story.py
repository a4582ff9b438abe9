"""What the toy data must show, for three seeds: the EER of a plain and of an augmented network on the notebooks' clips.

Validation 1 to 6 %; testing 12 to 25 %, most of it from the vocoder that training never heard; noise at 10 dB SNR adds
10 points or more to the plain network. Notebooks 04 and 06 show seed 0.
"""

from dataclasses import replace

from common import scratch, write

from dfa_utils import Config, Detector, fit, metrics, scan, toy
from dfa_utils.augment import CHANNELS
from research.conditions import CLEAN, score_conditions

CONDITIONS = [CLEAN, ("noise", 10), ("noise", 0), ("mp3", 32), ("band", 2000), ("telephone", 8)]
SEEDS = (0, 1, 2)


def figures(config: Config, manifest, folder) -> dict[str, float]:
    """EER in percent on validation and testing, by system and under degradations."""
    detector = Detector.load(fit(config, manifest, folder).folder)
    parts = {split: manifest[manifest.split == split].reset_index(drop=True) for split in ("validation", "testing")}
    found = {"validation": rate(parts["validation"], score_conditions(detector, parts["validation"].path, [CLEAN])[0])}
    testing, (clean, *degraded) = parts["testing"], score_conditions(detector, parts["testing"].path, CONDITIONS)
    new = testing.system == toy.UNSEEN
    found |= {"testing": rate(testing, clean), "testing, known vocoders": rate(testing[~new], clean[~new])}
    found["testing, new vocoder"] = rate(testing[new | (testing.label == 0)], clean[new | (testing.label == 0)])
    return found | {
        f"{name} {level}": rate(testing, s) for (name, level), s in zip(CONDITIONS[1:], degraded, strict=True)
    }


def rate(part, scores) -> float:
    """The EER in percent."""
    return round(100 * metrics.eer_rate(part.label, scores), 1)


def main() -> None:
    """Train six networks and print their figures, one list of three seeds each."""
    with scratch() as folder:
        manifest = scan(toy.write(folder / "toy", "lesson"))
        usual = Config().scaled_to(int((manifest.split == "training").sum()))
        configs = {"plain": usual, "augmented": replace(usual, augment=CHANNELS)}
        results = {}
        for name, config in configs.items():
            runs = [figures(replace(config, seed=s), manifest, folder / f"{name} {s}") for s in SEEDS]
            results[f"{name}: EER (%) of seeds 0, 1, 2"] = {key: [run[key] for run in runs] for key in runs[0]}
    write("toy_story", results)


if __name__ == "__main__":
    main()
