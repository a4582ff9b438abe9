"""The page that judges recordings in the browser, built and used as a reader uses it.

It needs `npm ci --prefix web --ignore-scripts` once, and Chromium. No request may leave this computer.
"""

import csv
import functools
import json
import re
import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import PATIENCE, RATE, ROOT, broken_by_silence
from playwright.sync_api import expect

from dfa_utils import inference
from dfa_utils.audio import AudioError, load_audio, resample
from dfa_utils.display import MEANING
from dfa_utils.inference import Prediction
from dfa_utils.support import HEADINGS
from dfa_utils.windows import cut_windows, find_sounds, in_pieces
from web import build

TOY = ROOT / "data" / "toy"
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
RATES = (8_000, 22_050, 44_100, 48_000)  # Hz
FORMATS = {"u8.wav": "PCM_U8", "s16.wav": "PCM_16", "s24.wav": "PCM_24", "s32.wav": "PCM_32", "f32.wav": "FLOAT"}
FORMATS |= {"16.flac": "PCM_16", "24.flac": "PCM_24", "vorbis.ogg": "VORBIS", "layer3.mp3": "MPEG_LAYER_III"}
RARE = {"f64.wav": "DOUBLE", "alaw.wav": "ALAW", "ulaw.wav": "ULAW", "opus.ogg": "OPUS"}
TOLERANCE = 1e-3  # of scores against Python's
HEAR = "globalThis.heard = []; const begin = AudioBufferSourceNode.prototype.start;" + (
    "AudioBufferSourceNode.prototype.start = function () { heard.push(this.buffer.duration); begin.call(this); };"
)
WIDE = {"viewport": {"width": 1280, "height": 900}}
requests = []  # of all pages and workers


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and writes no log."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory, browser):
    """The page as `python web/build.py` makes it."""
    path = tmp_path_factory.mktemp("page") / "site"
    assert build.main([str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def address(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextmanager
def visit(browser, address, **detector):
    """The page in a context of its own, ready; `detector` replaces entries of detector.json."""
    with browser.new_context(**WIDE, permissions=["microphone"]) as context:
        context.on("request", lambda request: requests.append(request.url))
        context.add_init_script(HEAR)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        if detector:
            page.route("**/detector.json", lambda route: route.fulfill(json=route.fetch().json() | detector))
        page.goto(address)
        expect(page.locator("#status")).to_have_text("Ready.")
        yield page


@pytest.fixture(scope="module")
def shared(browser, address):
    with visit(browser, address) as page:
        yield page


@pytest.fixture
def page(shared):
    """The page without recordings; it is loaded once, since that takes seconds."""
    if shared.locator("#clear").is_visible():
        shared.locator("#clear").click()
    yield shared
    shared.emulate_media(color_scheme="light", reduced_motion="no-preference")
    shared.set_viewport_size(WIDE["viewport"])


@pytest.fixture(autouse=True)
def nothing_leaves_this_computer(address):
    yield
    assert [url for url in requests if not url.startswith((address, "blob:", "data:"))] == []


@functools.cache
def toy_voices():
    """All toy voices, one after the other: [T] float32 at 16 kHz."""
    return np.concatenate([soundfile.read(path, dtype="float32")[0] for path in sorted(TOY.glob("*/*/*.wav"))])


def voice(start, seconds=2.3, rate=RATE):
    """A part of the toy voices that begins at `start` s: [T] float32."""
    samples = toy_voices()[int(start * RATE) :][: int(seconds * RATE)] * np.float32(0.8)
    new, old = Fraction(rate, RATE).as_integer_ratio()
    return samples if rate == RATE else resample(samples, old, new)


def in_many_formats(folder):
    """Write 50 recordings: every rate in every format, then channels, pauses, offsets, short ones, and rarer kinds."""
    sounds = {}
    for i, rate in enumerate(RATES):
        for j, end in enumerate(FORMATS):
            sounds[f"{rate}-{end}"] = voice(20 * i + 2 * j, rate=rate), rate
    left, right = voice(8, rate=44_100), 0.3 * voice(14, rate=44_100)
    two, against = np.stack([left, right], axis=1), np.stack([left, -left], axis=1)
    sounds |= {f"two-{end}": (two, 44_100) for end in FORMATS if end not in ("u8.wav", "s32.wav", "f32.wav")}
    sounds |= {"against-s16.wav": (against, 44_100), "against-24.flac": (against, 44_100)}
    pauses = np.concatenate([np.zeros(9_000), voice(50, 2.5), np.zeros(40_000), voice(60, 0.7), np.zeros(500)])
    sounds |= {
        "pauses-s16.wav": (pauses, RATE),
        "pauses-16.flac": (pauses, RATE),
        "offset-f32.wav": (pauses + 0.1, RATE),
    }
    sounds |= {"short-s16.wav": (voice(70, 1.3), RATE), "shorter-f64.wav": (voice(71, 0.4), RATE)}
    sounds |= {"96k-s24.wav": (voice(72, rate=96_000), 96_000), "odd-s16.wav": (voice(75), 15_999)}
    sounds |= {"telephone-alaw.wav": (voice(78), RATE), "telephone-ulaw.wav": (voice(81), RATE)}
    sounds |= {"opus.ogg": (voice(84, rate=48_000), 48_000), "tagged-layer3.mp3": (voice(87), RATE)}
    for name, (samples, rate) in sounds.items():
        soundfile.write(folder / name, samples, rate, subtype=(FORMATS | RARE)[re.split("-", name)[-1]])
    mp3 = folder / "tagged-layer3.mp3"
    mp3.write_bytes(b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + mp3.read_bytes())
    return [folder / name for name in sounds]


def judge(page, paths):
    """Choose files and wait until all are judged."""
    before = page.locator("#status").inner_text()
    page.locator("#choose").set_input_files(paths)
    expect(page.locator("#status")).not_to_have_text(before)
    expect(page.locator("#status")).to_have_text(re.compile("judged", re.IGNORECASE))


def download(page, button, path):
    """What a button lets the browser save."""
    with page.expect_download() as saved:
        page.locator(button).click()
    saved.value.save_as(path)
    return saved.value.suggested_filename


def table_of(page, folder):
    """The rows of the CSV by their path."""
    assert download(page, "#csv", folder / "scores.csv") == "scores.csv"
    with open(folder / "scores.csv", encoding="utf-8", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def wav(path, samples, rate=RATE, **settings):
    soundfile.write(path, samples, rate, **settings)
    return path


def test_a_recording_gets_its_verdict_in_words(page, python):
    path = TOY / "testing" / "fake" / "voice16-019.wav"
    label = python.predict(path).label
    judge(page, path)
    expect(page.locator("#verdict h2")).to_have_text(f"{label} voice16-019.wav")
    expect(page.locator("#announcement")).to_have_text(f"voice16-019.wav: {label}.")
    expect(page.locator("#verdict")).to_contain_text(MEANING[label])
    expect(page.locator("#verdict")).to_contain_text(f"P(fake) {python.predict(path).score:.3f}")
    expect(page.locator("#verdict svg")).to_have_attribute("aria-label", re.compile("uncertain from .* threshold"))
    expect(page.locator("#detector")).to_have_text(f"{python.fingerprint}-onnx")


def test_labels_are_those_of_python_and_real_is_no_proof(page, python):
    scores = np.unique([0, *(python.uncertain_band), python.threshold, *np.linspace(0, 1, 41)])
    ask = """async ([scores, figures]) => { const { explain, labelOf } = await import("/src/verdict.js");
        return [scores.map((score) => labelOf(score, figures)), explain({ label: "real" }, figures)]; }"""
    figures = {"threshold": python.threshold, "uncertain": python.uncertain_band, "meaning": MEANING}
    labels, real = page.evaluate(ask, [scores.tolist(), figures])
    given = (python.threshold, 1.0, 1.0, *np.empty((3, 0)), python.uncertain_band)
    assert labels == [Prediction("", score, *given).label for score in scores.tolist()]
    assert real == MEANING["real"]


def test_evidence_and_suspicious_stretches_are_those_of_python(page, python):
    rng, band = np.random.default_rng(0), python.uncertain_band
    times, ask = (
        np.arange(12.0),
        """async ([results, figures]) => { const it = await import("/src/verdict.js");
        return results.map((each) => [it.likelihoodRatio(each, figures), it.supportOf(each, figures),
            it.suspiciousStretch(each, figures)]); }""",
    )
    cases = [(score, rng.choice([0.0, 1.0, 0.5], 12), "") for score in (*rng.uniform(0, 1, 60), 0, 0.5, 1, 1 - 1e-6)]
    cases += [(0.9, np.ones(12), "no clear speech in it"), (0.2, np.zeros(12), "")]
    for evidence in ((99, 20_000), None):
        figures = {"threshold": python.threshold, "uncertain": band, "evidence": evidence}
        figures["support"] = list(inference.SUPPORT.items())
        results = [
            {
                "score": float(s),
                "scores": w.tolist(),
                "times": times.tolist(),
                "ends": (times + 2).tolist(),
                "reason": r,
            }
            for s, w, r in cases
        ]
        for (score, scores, reason), found in zip(cases, page.evaluate(ask, [results, figures]), strict=True):
            place = (python.threshold, 13.0, 13.0, times, times + 2, scores)
            truth = Prediction("", float(score), *place, band, reason, evidence)
            assert found[0] == pytest.approx(truth.likelihood_ratio)
            assert found[1] == truth.support
            assert (found[2] and tuple(found[2])) == truth.suspicious


def test_a_file_can_be_dropped(page, python):
    path = TOY / "testing" / "fake" / "voice16-019.wav"
    make = """bytes => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.wav")); return data; }"""
    data = page.evaluate_handle(make, list(path.read_bytes()))
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": data})
    expect(page.locator("#verdict h2")).to_have_text(f"{python.predict(path).label} dropped.wav")


def test_scores_are_those_of_python_whatever_the_format(page, python, tmp_path):
    paths = in_many_formats(tmp_path)
    assert len(paths) >= 50
    judge(page, paths)
    rows, worst = table_of(page, tmp_path), 0
    for path, expected in python.predict_files(paths):
        row = rows[Path(path).name]
        assert row["error"] == "", row
        assert float(row["score"]) == pytest.approx(expected.score, abs=TOLERANCE), row
        assert float(row["seconds"]) == pytest.approx(expected.seconds, abs=2e-3), row
        assert (row["label"], row["reason"]) == (expected.label, expected.reason)
        assert (row["support"] == "") == (expected.support == "")
        assert float(row["likelihood_ratio"] or 0) == pytest.approx(expected.likelihood_ratio or 0, rel=0.05), row
        worst = max(worst, abs(float(row["score"]) - expected.score))
    print(f"largest difference of {len(paths)} scores from Python's: {worst:.1e}")


def odd_files(folder):
    """Files that could be taken for something else or for less than they hold, and a plain one with the same sound."""
    plain = wav(folder / "plain.wav", voice(3))
    raw = plain.read_bytes()
    pairs = {}
    for kind in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):  # RIFX: the bytes of a number the other way round
        pairs[wav(folder / f"rifx {kind}.wav", voice(3), subtype=kind, endian="BIG")] = plain
    edits = {"tagged": b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + raw, "no size": raw[:40] + bytes(4) + raw[44:]}
    edits |= {
        "a byte missing": raw[:-1],
        "8 bytes too many": raw[:40] + (len(raw) - 36).to_bytes(4, "little") + raw[44:],
    }
    for name, content in edits.items():
        pairs[folder / f"{name}.wav"] = plain
        (folder / f"{name}.wav").write_bytes(content)
    mp3, junk = wav(folder / "plain.mp3", voice(3, rate=44_100), 44_100), folder / "junk.mp3"
    junk.write_bytes(b"\xff\xe3\x20\0" + bytes(2_996) + mp3.read_bytes())  # it begins like a frame of 11,025 Hz
    return pairs | {junk: mp3}


def test_files_are_what_they_hold_and_not_what_they_look_like(page, python, tmp_path):
    pairs = odd_files(tmp_path)
    judge(page, list(pairs))
    rows = table_of(page, tmp_path)
    for path, plain in pairs.items():
        row, expected = rows[path.name], python.predict(plain)
        assert row["error"] == "", row
        assert float(row["seconds"]) == pytest.approx(expected.seconds, abs=0.05), row
        assert float(row["score"]) == pytest.approx(expected.score, abs=10 * TOLERANCE), row  # one has a sample less


def test_parts_of_other_rates_that_were_joined_are_judged_at_their_own(page, python, tmp_path):
    parts = [(voice(3, 2.3, 44_100), 44_100), (voice(9, 3.1, 48_000), 48_000), (voice(20, 2.7, 22_050), 22_050)]
    paths = [wav(tmp_path / f"{rate}.mp3", samples, rate) for samples, rate in parts]
    (tmp_path / "joined.mp3").write_bytes(b"".join(path.read_bytes() for path in paths))
    judge(page, tmp_path / "joined.mp3")
    (row,) = table_of(page, tmp_path).values()
    expected = python.predict(np.concatenate([load_audio(path) for path in paths]))
    assert float(row["seconds"]) == pytest.approx(8.1, abs=0.05)
    assert float(row["score"]) == pytest.approx(expected.score, abs=3 * TOLERANCE)  # where parts meet, filters differ


def test_a_page_that_was_opened_as_a_file_says_how_to_open_it(page):
    explain = """([message, protocol]) => import("/src/engine.js").then((it) =>
        it.explainFailure(new Error(message), protocol))"""
    assert page.evaluate(explain, ["null is no URL", "file:"]).endswith("Open it through a web server.")
    assert page.evaluate(explain, ["out of memory", "https:"]).startswith("The detector could not be loaded: out of")


def test_window_scores_and_times_are_those_of_python(page, python, tmp_path):
    path = wav(tmp_path / "pauses.wav", np.concatenate([voice(0, 5.3), np.zeros(40_000), voice(9, 3.2)]))
    judge(page, path)
    expected, timeline = python.predict(path), page.locator("#timeline svg")
    timeline.press("Home")
    for i, (start, score) in enumerate(zip(expected.times, expected.scores, strict=True)):
        said = timeline.get_attribute("aria-valuetext")
        place, of, begin, _, probability = map(float, re.findall(r"\d+\.?\d*", said))
        assert (place, of) == (i + 1, len(expected.scores))
        assert begin == pytest.approx(start, abs=0.051)
        assert probability == pytest.approx(score, abs=TOLERANCE + 5e-4)
        timeline.press("ArrowRight")


def test_windows_are_those_of_python(page):
    size, hop, piece = 300, 170, 1_000
    recordings = list(broken_by_silence(np.random.default_rng(1), 60))
    ask = """async ([recordings, size, hop, piece]) => {
        const { Pieces, cutWindows, findSounds } = await import("/src/windows.js");
        return recordings.map((recording) => {
            const [samples, pieces, cut] = [Float32Array.from(recording), new Pieces(piece), []];
            const blocks = [0, 0.3, 0.7].map((part) => Math.floor(part * samples.length));
            const found = blocks.flatMap((at, i) => [...pieces.push(samples.subarray(at, blocks[i + 1]))]);
            for (const part of [...found, ...pieces.end()]) {
                const windows = [...cutWindows(part, findSounds(part, size), size, hop)];
                cut.push(windows.map(({ start, samples }) => [start, [...samples]]));
            }
            return cut;
        });
    }"""
    asked = [[recording.tolist() for recording in recordings], size, hop, piece]
    for recording, found in zip(recordings, page.evaluate(ask, asked), strict=True):
        pieces = in_pieces([recording], piece)
        cut = [cut_windows(part, find_sounds(part, size), size, hop) for part in pieces]
        assert found == [[[start, window.tolist()] for start, window in windows] for windows in cut]


def test_long_recordings_are_cut_into_the_same_pieces(browser, address, folder, python, tmp_path, monkeypatch):
    figures = json.loads((folder / "detector.json").read_text())
    assert figures["piece_samples"] == inference.PIECE_SECONDS * RATE
    path = wav(tmp_path / "long.wav", np.concatenate([voice(0, 7), np.zeros(3 * RATE), voice(9, 6.5)]))
    monkeypatch.setattr(inference, "PIECE_SECONDS", 3)  # so that the recording has five pieces
    expected = python.predict(path)
    with visit(browser, address, piece_samples=3 * RATE) as page:
        judge(page, path)
        (row,) = table_of(page, tmp_path).values()
        assert float(row["score"]) == pytest.approx(expected.score, abs=TOLERANCE)
        assert float(row["seconds"]) == pytest.approx(expected.seconds, abs=2e-3)
        page.locator("#timeline svg").press("End")
        last = f"Window {len(expected.times)} of {len(expected.times)}: {expected.times[-1]:.1f} to"
        expect(page.locator("#window")).to_contain_text(last)


def test_what_is_no_speech_is_uncertain_and_says_why(page, tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    judge(page, [wav(tmp_path / "noise.wav", noise), wav(tmp_path / "short.wav", voice(2, 0.2))])
    rows = table_of(page, tmp_path)
    assert {row["label"] for row in rows.values()} == {"uncertain"}
    assert rows["noise.wav"]["reason"].startswith("no clear speech")
    assert rows["short.wav"]["reason"].startswith("less than 0.5 s of sound")


def bad_files(folder):
    """Files that cannot be judged, and a word that the reason holds."""
    (folder / "text.mp3").write_text("no audio " * 500)
    (folder / "empty.wav").touch()
    whole = wav(folder / "whole.wav", voice(0)).read_bytes()
    (folder / "cut.wav").write_bytes(whole[:-5_000])
    wav(folder / "silent.wav", np.zeros(RATE))
    wav(folder / "nothing.wav", np.zeros(0))
    wav(folder / "absurd.wav", np.full(RATE, np.nan), subtype="FLOAT")
    wav(folder / "slow.wav", voice(0), 3_000)
    words = {"text.mp3": "no audio", "empty.wav": "empty", "cut.wav": "truncated", "silent.wav": "silent"}
    return words | {"nothing.wav": "no samples", "absurd.wav": "NaN", "slow.wav": "3000 Hz"}


def test_a_file_that_cannot_be_judged_says_why_and_stops_nothing(page, python, tmp_path):
    words = bad_files(tmp_path)
    paths = [tmp_path / name for name in [*words, "whole.wav"]]
    assert [isinstance(result, AudioError) for _, result in python.predict_files(paths)] == [True] * 7 + [False]
    judge(page, paths)
    expect(page.locator("#status")).to_contain_text("7 could not be judged")
    rows = table_of(page, tmp_path)
    for name, word in words.items():
        assert word in rows[name]["error"], rows[name]
        assert rows[name]["score"] == rows[name]["label"] == ""
    assert rows["whole.wav"]["error"] == ""
    page.get_by_role("button", name="absurd.wav").click()
    expect(page.locator("#verdict p")).to_have_text(re.compile(r"^absurd\.wav: holds samples .*; .*\.$"))


def test_what_is_longer_than_the_page_takes_is_refused_at_once(page, tmp_path):
    long = wav(tmp_path / "long.wav", np.full(31 * 60 * 4_000, 0.1), 4_000, subtype="PCM_U8")
    packed = wav(tmp_path / "long.flac", np.zeros(31 * 60 * 8_000), 8_000)
    judge(page, [long, packed])
    errors = [row["error"] for row in table_of(page, tmp_path).values()]
    assert [("lasts 31 minutes" in error, "30" in error) for error in errors] == [(True, True)] * 2


def test_a_minute_is_judged_in_seconds(page, tmp_path):
    path = wav(tmp_path / "minute.wav", voice(0, 60, 44_100), 44_100)
    began = time.monotonic()
    judge(page, path)
    took = time.monotonic() - began
    print(f"one minute of sound: verdict after {took:.1f} s")
    expect(page.locator("#window")).to_contain_text("Window 1 of 59")


def test_the_table_is_sorted_and_its_csv_is_pythons(page, python, tmp_path):
    paths = [
        wav(tmp_path / name, voice(start)) for name, start in {'b "x", y.wav': 0, "a.wav": 40, "c.wav": 80}.items()
    ]
    (tmp_path / "bad.wav").write_text("no audio")
    judge(page, [*paths, tmp_path / "bad.wav"])
    scores = page.locator("#table tbody td:nth-child(3)")
    for direction, step in (("ascending", 1), ("descending", -1)):
        page.get_by_role("button", name="P(fake)").click()
        expect(page.locator("#table th", has_text="P(fake)")).to_have_attribute("aria-sort", direction)
        shown = scores.all_inner_texts()
        assert shown == [*sorted(shown[:3])[::step], "-"]
    page.get_by_role("button", name="File", exact=True).click()
    names = page.locator("#table tbody th").all_inner_texts()
    assert names == ["a.wav", 'b "x", y.wav', "bad.wav", "c.wav"]
    rows = table_of(page, tmp_path)
    assert list(next(iter(rows.values()))) == HEADINGS
    assert list(rows) == ['b "x", y.wav', "a.wav", "c.wav", "bad.wav"]
    assert {row["detector"] for row in rows.values()} == {f"{python.fingerprint}-onnx"}
    assert rows["bad.wav"]["error"].startswith("bad.wav: ")


def test_the_report_needs_nothing_else(page, browser, tmp_path):
    name = "a <b> & c.wav"
    judge(page, wav(tmp_path / name, voice(20)))
    download(page, "#report", tmp_path / "report.html")
    context, asked = browser.new_context(offline=True), []
    context.on("request", lambda request: asked.append(request.url))
    report = context.new_page()
    report.goto((tmp_path / "report.html").as_uri())
    expect(report.locator("h2")).to_contain_text(name)
    expect(report.locator("svg.timeline circle")).to_have_count(2)
    assert report.locator("svg image").evaluate("image => image.decode().then(() => true)")
    report.set_viewport_size({"width": 390, "height": 844})
    assert report.evaluate("document.documentElement.scrollWidth") <= 390
    assert report.locator("script").count() == 0
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_all_can_be_done_with_the_keyboard(page, tmp_path):
    with page.expect_file_chooser() as chooser:
        page.reload()
        expect(page.locator("#status")).to_have_text("Ready.")
        tab_to(page, "#choose")
        page.keyboard.press("Enter")
    chooser.value.set_files(wav(tmp_path / "mine.wav", voice(0, 5)))
    expect(page.locator("#verdict h2")).to_contain_text("mine.wav")
    tab_to(page, "#examples button")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict h2")).to_contain_text("simulated-voice.wav")
    page.get_by_role("button", name="mine.wav").press("Enter")
    tab_to(page, "#timeline svg")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#window")).to_contain_text("Window 2 of 4")
    page.wait_for_timeout(300)
    assert page.evaluate("heard") == pytest.approx([2], abs=1e-3)


def tab_to(page, target):
    """Press Tab until an element has the focus, which must be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("target => document.activeElement.matches(target)", target):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    pytest.fail(f"Tab does not reach {target}")


def test_a_click_on_a_window_lets_it_be_heard(page, tmp_path):
    judge(page, wav(tmp_path / "eight bits.wav", voice(0, 9, 8_000), 8_000, subtype="PCM_U8"))
    page.evaluate("heard.length = 0")
    box = page.locator("#timeline svg").bounding_box()
    page.locator("#timeline svg").click(position={"x": box["width"] / 2, "y": 80})
    expect(page.locator("#window")).to_contain_text(re.compile(r"Window [45] of 8"))
    page.wait_for_timeout(300)
    assert page.evaluate("heard") == pytest.approx([2], abs=1e-3)


def test_the_microphone_is_recorded_and_judged(page, tmp_path):
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#status")).to_contain_text("Recording: speak")
    page.wait_for_timeout(1_500)
    page.get_by_role("button", name="Stop and judge").click()
    expect(page.locator("#verdict h2")).to_contain_text("recording-")
    (row,) = table_of(page, tmp_path).values()
    assert 1 < float(row["seconds"]) < 10


def test_without_a_microphone_it_says_so(page):
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('denied'); }; }")
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#status")).to_have_text(re.compile("^Nothing was recorded: .*allow this page"))
    page.evaluate("() => { delete navigator.mediaDevices.getUserMedia; }")


def test_a_browser_that_records_nothing_says_so(page):
    page.evaluate("""() => { const { prototype } = AudioContext;
        globalThis.source = prototype.createMediaStreamSource;
        prototype.createMediaStreamSource = () => ({ connect() {} }); }""")
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop and judge").click()
    expect(page.locator("#status")).to_have_text(re.compile("^Nothing was recorded: the browser gave no sound"))
    page.evaluate("() => { AudioContext.prototype.createMediaStreamSource = source; }")


def contrast(page, selector, of):
    """The contrast of an element's colour (color, fill ...) against its card, as WCAG 2 defines it: 1 to 21."""
    script = """([selector, of]) => [getComputedStyle(document.querySelector(selector))[of],
        getComputedStyle(document.querySelector("section")).backgroundColor]"""
    luminances = []
    for colour in page.evaluate(script, [selector, of]):
        parts = np.array(re.findall(r"\d+", colour)[:3], float) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        luminances.append(linear @ [0.2126, 0.7152, 0.0722])
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(page, scheme, tmp_path):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    (tmp_path / "bad.wav").write_text("no audio")
    judge(page, [wav(tmp_path / "voice.wav", voice(0, 6)), tmp_path / "bad.wav"])
    assert contrast(page, "svg text", "fill") >= 4.5
    assert contrast(page, ".dot.fake", "fill") >= 3
    assert contrast(page, "body", "color") >= 4.5
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in serious] == []


def test_it_fits_on_a_phone(page, tmp_path):
    page.set_viewport_size({"width": 390, "height": 844})
    name = "a_recording_with_a_very_long_name_that_has_no_spaces_at_all_and_goes_on_and_on.wav"
    judge(page, [wav(tmp_path / name, voice(0, 12)), wav(tmp_path / "b.wav", voice(30))])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert 300 < page.locator("#timeline svg").bounding_box()["width"] < 390


def test_the_worker_is_seen_and_neither_it_nor_the_page_can_reach_another_host(shared, address):
    assert f"{address}lib/ort.wasm.bundle.min.mjs" in requests
    other = address.replace("127.0.0.1", "localhost")
    ask = "url => fetch(url, { mode: 'no-cors' }).then(() => 'reached', () => 'refused')"
    for place in (shared, shared.workers[0]):
        assert (place.evaluate(ask, address), place.evaluate(ask, other)) == ("reached", "refused")


def test_a_build_never_removes_what_it_did_not_make(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert build.main([str(tmp_path)]) == 1
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert "give another folder" in capsys.readouterr().err


def test_without_its_libraries_a_build_says_how_to_get_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "PACKAGES", tmp_path)
    assert build.main([str(tmp_path / "site")]) == 1
    assert "run npm ci --prefix web" in capsys.readouterr().err
