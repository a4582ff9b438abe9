"""Put the benchmarks' figures, from results/*.json, into docs/speed.md and docs/security.md, between two markers."""

import json
import re

from common import RESULTS, ROOT


def speed_rows(found: dict) -> list[tuple[str, str]]:
    """What is measured of speed and memory, and the figures."""
    decode, features, epoch, scoring = (found[name] for name in ("decode", "features", "epoch", "scoring"))
    training, judging = (values for name, values in found["arithmetic"].items() if "% of the time" in name)
    growth = {name: values["exponent"] for name, values in found["growth"].items() if name != "machine"}
    memory = found["memory"]
    elsewhere = "" if scoring["machine"] == epoch["machine"] else f" (on an {scoring['machine']['processor']})"
    return [
        *((f"reading a {kind}, ms", listed(ways, " (ms)")) for kind, ways in decode.items() if kind != "machine"),
        ("mel spectrogram, one thread, ms", listed(features, " (ms a clip)")),
        (
            "data path up to the spectrogram, two cores, ms",
            f"ours {epoch['ours: data path (ms a clip)']}, plain {epoch['plain: data path (ms a clip)']}: "
            f"**{epoch['data path: plain / ours']} times as fast**",
        ),
        (
            "training epoch, two cores, ms",
            f"ours {epoch['ours: epoch (ms a clip)']}, plain {epoch['plain: epoch (ms a clip)']}: "
            f"**{epoch['epoch: plain / ours']} times as fast** (plain with our arithmetic "
            f"{epoch['plain: epoch with our arithmetic (ms a clip)']}), and "
            f"{epoch['epoch: ours / in memory'] - 1:.0%} longer than with all waveforms in memory",
        ),
        *((f"{what}{elsewhere}", figures) for what, figures in scoring_rows(scoring)),
        (
            "convolutions and FFT, share of the time",
            f"training {training['convolution and FFT']:.0f} %, scoring {judging['convolution and FFT']:.0f} %",
        ),
        ("time against work, exponent", ", ".join(f"{name} {exponent}" for name, exponent in growth.items())),
        (
            "peak memory of `predict`, MB",
            f"{joined(memory['predict, clips (MB)'])} clips; one file of {joined(memory['predict, one file (MB)'])}",
        ),
        ("peak memory of filling the cache, MB", f"{joined(memory['cache, files of 0.1 s (MB)'])} files"),
    ]


def is_equal(whole) -> bool:
    """Whether these are figures of a work that was killed and ended like the undisturbed one."""
    return isinstance(whole, dict) and whole.get("all equal", False)


def safety_rows(found: dict) -> list[tuple[str, str]]:
    """What was tried to break it, and what came of it."""
    kills, fuzz, resources = found["kills"], found["fuzz"], found["resources"]["after"]
    first, *_, last = (number for number in resources if number != "1")
    refused = {name: figures for name, figures in found["not_speech"].items() if name != "machine"}
    verdicts = {name: v for name, v in found["adversaries"].items() if name not in ("machine", "fakes")}
    return [
        (
            f"{len(kills['table: rows when killed'])} kills each",
            f"of {kills['cache: entries, clips'][1]:,} clips {kills['cache: entries, clips'][0]:,} in the cache, and "
            f"{kills['table: rows, files'][0]:,} rows in the table"
            + "".join(f"; {name}: all equal" for name, whole in kills.items() if is_equal(whole)),
        ),
        (
            "files damaged at random, and how many of them gave a bare error, a crash or a hang",
            "; ".join(
                f"{name}: {v['inputs']:,}, {len(v['findings'])}" for name, v in fuzz.items() if name != "machine"
            ),
        ),
        (
            f"held after {int(first):,} and {int(last):,} predictions",
            "; ".join(f"{name} {resources[first][name]}, {resources[last][name]}" for name in resources[first]),
        ),
        (
            "refused as no speech, half a second or a telephone, %",
            "; ".join(f"{name} {v['refused']} ({v['clips']:,})" for name, v in refused.items()),
        ),
        (
            f"{found['adversaries']['fakes']} fakes that try to pass: called real, uncertain, fake, %",
            "; ".join(f"{name}: {', '.join(map(str, v.values()))}" for name, v in verdicts.items()),
        ),
    ]


def scoring_rows(scoring: dict) -> list[tuple[str, str]]:
    """Those of scoring.json."""
    ratios = [
        f"{name.split(', ')[-1]} {figure}" for name, figure in scoring.items() if name.startswith("time, released")
    ]
    return [
        ("scoring files, decoding included, clips a second", listed(scoring, " (clips a second)", "files, ")),
        ("scoring from memory, clips a second", listed(scoring, " (clips a second)", "memory, ")),
        ("released detector, time against the default CNN", "; ".join(ratios)),
        (
            "released detector, files, decoding included, clips a second",
            listed(scoring, " (clips a second)", "released detector, "),
        ),
        (
            "the same, exported to ONNX, clips a second",
            listed(scoring, " (clips a second)", "exported, "),
        ),
    ]


def listed(figures: dict, ending: str, beginning: str = "") -> str:
    """The figures whose names begin and end so, with what is left of the names."""
    names = [name for name in figures if name.startswith(beginning) and name.endswith(ending)]
    return "; ".join(f"{name.removeprefix(beginning).removesuffix(ending)} {figures[name]}" for name in names)


def joined(figures: dict) -> str:
    """figure (setting), one after the other."""
    return ", ".join(f"{figure} ({setting})" for setting, figure in figures.items())


def put(text: str, name: str, heading: str, rows: list[tuple[str, str]]) -> str:
    """The text with the table between the markers of this name."""
    markers = f"<!-- {name} -->", f"<!-- end of {name} -->"
    lines = [
        markers[0],
        f"| {heading} | |",
        "|---|---|",
        *(f"| {what} | {figures} |" for what, figures in rows),
        markers[1],
    ]
    return re.sub("(?s)" + ".*".join(map(re.escape, markers)), lambda _: "\n".join(lines), text)


found = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
machine = found["epoch"]["machine"]
heading = f"2 s clips, {machine['cores']} cores of an {machine['processor']}"
for page, *table in (
    ("speed", "benchmarks", heading, speed_rows(found)),
    ("security", "trials", "what was tried", safety_rows(found)),
):
    path = ROOT / "docs" / f"{page}.md"
    path.write_text(put(path.read_text(encoding="utf-8"), *table), encoding="utf-8")
