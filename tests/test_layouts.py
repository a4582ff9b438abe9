"""Miniature copies of the published layouts: their rows are read, missing parts are named."""

import os
import re
import shutil
import warnings

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone

from dfa_utils import layouts
from dfa_utils.dataset import scan
from dfa_utils.layouts import DataError, expand, find_audio


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A function that puts a short clip, wav or flac, at a path."""
    folder = tmp_path_factory.mktemp("clip")
    for suffix in (".wav", ".flac"):
        soundfile.write(folder / f"clip{suffix}", tone(np.random.default_rng(0), seconds=0.1), RATE)

    def put(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"clip{path.suffix}", path)

    return put


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def facts(manifest, *columns):
    """{file name without suffix: (split, label, system, speaker, *columns)}"""
    names = [os.path.splitext(os.path.basename(path))[0] for path in manifest.path]
    rows = zip(*(manifest[name] for name in ("split", "label", "system", "speaker", *columns)), strict=True)
    return dict(zip(names, rows, strict=True))


def for_layout(home, clip):
    for split in layouts.SPLITS:
        for label in layouts.CLASSES:
            clip(home / split / label / f"{split}.wav")
    return home


def asvspoof2019(root, clip, track="LA", third="-"):
    for part, protocol, system in (
        ("train", "train.trn", "A01"),
        ("dev", "dev.trl", "A02"),
        ("eval", "eval.trl", "A07"),
    ):
        names = [f"{track}_{part[0].upper()}_{number}" for number in (1, 2)]
        write(
            root / f"ASVspoof2019_{track}_cm_protocols" / f"ASVspoof2019.{track}.cm.{protocol}.txt",
            f"{track}_0079 {names[0]} {third} - bonafide",
            f"{track}_0080 {names[1]} {third} {system} spoof",
        )
        for name in names:
            clip(root / f"ASVspoof2019_{track}_{part}" / "flac" / f"{name}.flac")
    return root


def asvspoof2021(root, clip, track, keys="keys"):
    """One clip a line, four lines, of which two are of the subset eval."""
    tail = " neural_vocoder - - - -" if track == "DF" else ""
    none = "-" if track == "DF" else "bonafide"
    subsets = (
        ("eval", none, "bonafide"),
        ("eval", "A07", "spoof"),
        ("progress", "A08", "spoof"),
        ("hidden", none, "bonafide"),
    )
    lines = [
        f"LA_000{i} {track}_E_{i} alaw ita_tx {attack} {key} notrim {subset}{tail}"
        for i, (subset, attack, key) in enumerate(subsets)
    ]  # fmt: skip
    write(root / keys / track / "CM" / "trial_metadata.txt", *lines)
    for i in range(4):
        clip(root / f"ASVspoof2021_{track}_eval" / "flac" / f"{track}_E_{i}.flac")
    return root


def asvspoof5(root, clip):
    for part, folder, system in (("train", "T", "A01"), ("dev.track_1", "D", "A09"), ("eval.track_1", "E_eval", "A17")):
        names = [f"{folder[0]}_{number:010d}" for number in (1, 2)]
        write(
            root / "ASVspoof5_protocols" / f"ASVspoof5.{part}.tsv",
            f"{folder[0]}_4850 {names[0]} F - - - AC3 {system} spoof -",
            f"{folder[0]}_0011 {names[1]} M C04 4 {names[0]} bonafide bonafide bonafide -",
        )
        for name in names:
            clip(root / f"flac_{folder}" / f"{name}.flac")
    return root


def in_the_wild(home, clip):
    write(home / "meta.csv", "file,speaker,label", "0.wav,Alec Guinness,spoof", "1.wav,Barack Obama,bona-fide")
    for name in ("0.wav", "1.wav"):
        clip(home / name)
    return home


@pytest.mark.parametrize(
    "inside", ["for-original/for-original", "for-norm", "for-2sec/for-2seconds", "for-rerec/for-rerecorded", "."]
)
def test_every_variant_of_fake_or_real(tmp_path, clip, inside):
    for_layout(tmp_path / inside, clip)
    manifest = scan(tmp_path)
    assert sorted(zip(manifest.split, manifest.label, strict=True)) == sorted(
        (split, label) for split in layouts.SPLITS for label in (0, 1)
    )


def test_several_data_sets_side_by_side_are_listed_and_each_can_be_chosen(tmp_path, clip):
    homes = [for_layout(tmp_path / name, clip) for name in ("for-norm/for-norm", "for-2sec/for-2seconds")]
    homes.append(in_the_wild(tmp_path / "release_in_the_wild", clip))
    (tmp_path / "__MACOSX" / "training").mkdir(parents=True)
    with pytest.raises(DataError, match="3 data sets side by side; name one") as caught:
        scan(tmp_path)
    assert all(str(home) in str(caught.value) for home in homes)
    assert [len(scan(home, splits=None)) for home in homes] == [6, 6, 2]


@pytest.mark.parametrize("named", ["", "LA", "LA/ASVspoof2019_LA_cm_protocols"])
def test_asvspoof2019(tmp_path, clip, named):
    asvspoof2019(tmp_path / "LA", clip)
    assert facts(scan(tmp_path / named)) == {
        "LA_T_1": ("training", 0, "", "LA_0079"),
        "LA_T_2": ("training", 1, "A01", "LA_0080"),
        "LA_D_1": ("validation", 0, "", "LA_0079"),
        "LA_D_2": ("validation", 1, "A02", "LA_0080"),
        "LA_E_1": ("testing", 0, "", "LA_0079"),
        "LA_E_2": ("testing", 1, "A07", "LA_0080"),
    }


def test_asvspoof2019_pa_has_the_environment(tmp_path, clip):
    manifest = scan(asvspoof2019(tmp_path / "PA", clip, "PA", "aaa"))
    assert set(manifest.environment) == {"aaa"}
    assert len(manifest) == 6


@pytest.mark.parametrize(
    ("track", "keys", "further"),
    [
        ("LA", "keys", {"codec": "alaw", "transmission": "ita_tx"}),
        ("LA", "LA-keys-full/keys", {"codec": "alaw"}),
        ("DF", "ASVspoof2021_DF_eval/keys", {"codec": "alaw", "source": "ita_tx", "vocoder": "neural_vocoder"}),
    ],
)
def test_asvspoof2021_takes_the_subset_eval(tmp_path, clip, track, keys, further):
    manifest = scan(asvspoof2021(tmp_path, clip, track, keys), splits=("testing",))
    tail = tuple(further.values())
    assert facts(manifest, *further) == {
        f"{track}_E_0": ("testing", 0, "", "LA_0000", *tail),
        f"{track}_E_1": ("testing", 1, "A07", "LA_0001", *tail),
    }
    assert "subset" not in manifest


def test_both_tracks_of_asvspoof2021_in_one_folder(tmp_path, clip):
    for track in ("LA", "DF"):
        asvspoof2021(tmp_path, clip, track)
    with pytest.raises(DataError, match="side by side"):
        scan(tmp_path, splits=None)
    assert scan(tmp_path / "ASVspoof2021_DF_eval", splits=None).path.str.contains("DF_E").all()


def test_asvspoof5(tmp_path, clip):
    manifest = scan(asvspoof5(tmp_path, clip))
    assert facts(manifest, "gender", "codec", "codec_q") == {
        f"{part}_{number:010d}": (split, *row)
        for part, split, system in (("T", "training", "A01"), ("D", "validation", "A09"), ("E", "testing", "A17"))
        for number, row in (
            (1, (1, system, f"{part}_4850", "F", "", "")),
            (2, (0, "", f"{part}_0011", "M", "C04", "4")),
        )
    }


def test_in_the_wild(tmp_path, clip):
    manifest = scan(in_the_wild(tmp_path / "release_in_the_wild", clip).parent, splits=("testing",))
    assert facts(manifest) == {
        "0": ("testing", 1, "", "Alec Guinness"),
        "1": ("testing", 0, "", "Barack Obama"),
    }


@pytest.mark.parametrize(("name", "root"), [("manifest.csv", "."), ("mine.csv", "mine.csv")])
def test_a_table_without_splits_is_for_testing(tmp_path, clip, name, root):
    for number in (0, 1):
        clip(tmp_path / "clips" / f"{number}.flac")
    write(tmp_path / name, "label,path,codec", "real,clips/0.flac,mp3", f"SPOOF,{tmp_path}/clips/1.flac,")
    manifest = scan(tmp_path / root, splits=("testing",))
    assert facts(manifest, "codec") == {"0": ("testing", 0, "", "", "mp3"), "1": ("testing", 1, "", "", "")}


def test_a_manifest_comes_before_the_folders_beside_it(tmp_path, clip):
    for_layout(tmp_path, clip)
    write(tmp_path / "manifest.csv", "path,label", "training/real/training.wav,real", "testing/fake/testing.wav,fake")
    assert len(layouts.read(tmp_path)) == 2


def test_missing_files_give_one_warning_that_names_the_first(tmp_path, clip):
    asvspoof2019(tmp_path, clip)
    shutil.rmtree(tmp_path / "ASVspoof2019_LA_train")
    shutil.rmtree(tmp_path / "ASVspoof2019_LA_dev")
    with pytest.warns(UserWarning, match="4 of 6 audio files are missing") as caught:
        manifest = scan(tmp_path, splits=("testing",))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert all(f"LA_{part}_{i}.flac" in str(caught[0].message) for part in "TD" for i in (1, 2))
    assert set(facts(manifest)) == {"LA_E_1", "LA_E_2"}


def test_when_all_audio_is_missing_that_is_an_error(tmp_path, clip):
    shutil.rmtree(asvspoof2021(tmp_path, clip, "LA") / "ASVspoof2021_LA_eval" / "flac")
    with pytest.raises(DataError, match=r"none of its 2 audio files is there, e\.g\. .*LA_E_0\.flac; unpack"):
        scan(tmp_path, splits=None)


def test_missing_protocols_are_named(tmp_path, clip):
    shutil.rmtree(asvspoof2021(tmp_path, clip, "DF") / "keys")
    with pytest.raises(DataError, match=r"unpack .* keys to .*keys/DF/CM/trial_metadata\.txt"):
        scan(tmp_path, splits=None)
    protocols = asvspoof2019(tmp_path / "LA", clip) / "ASVspoof2019_LA_cm_protocols"
    (protocols / "ASVspoof2019.LA.cm.dev.trl.txt").unlink()
    assert set(scan(protocols, splits=None).split) == {"training", "testing"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("LA_0079 LA_E_1 - bonafide", "4 columns, not 5 .*fetch it again"),
        ("LA_0079 LA_E_1 - - maybe", "maybe.* unknown"),
        ("", "cannot be read as a table"),
        ("LA_0079 LA_E_1 - - bonafide\nLA_0079 LA_E_2 -", r"labels none \(1\) are unknown"),
    ],
)
def test_a_protocol_of_another_kind_is_refused(tmp_path, clip, line, error):
    asvspoof2019(tmp_path, clip)
    write(tmp_path / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.eval.trl.txt", line)
    with pytest.raises(DataError, match=rf"ASVspoof2019\.LA\.cm\.eval\.trl\.txt: .*{error}"):
        scan(tmp_path)


def test_a_file_that_is_not_a_table_is_refused(tmp_path, clip):
    clip(tmp_path / "a.flac")
    with pytest.raises(DataError, match=r"a\.flac: not a table in UTF-8"):
        scan(tmp_path / "a.flac")
    write(tmp_path / "manifest.csv", "file,label", "a.flac,real")
    with pytest.raises(DataError, match="no column path"):
        scan(tmp_path)


def test_a_set_without_training_is_refused_by_default_with_the_cure(tmp_path, clip):
    in_the_wild(tmp_path, clip)
    with pytest.raises(DataError, match=r"no usable real clip for training.*splits=\('testing',\)"):
        scan(tmp_path)


def test_the_wanted_splits_need_both_classes(tmp_path, clip):
    for_layout(tmp_path, clip)
    for split in ("training", "validation"):
        shutil.rmtree(tmp_path / split / "fake")
    assert len(scan(tmp_path, splits=None)) == 4
    with pytest.raises(DataError, match="no usable fake clip for validation"):
        scan(tmp_path, splits=("testing", "validation"))
    shutil.rmtree(tmp_path / "testing" / "real")
    with pytest.raises(DataError, match="no split with usable clips of both classes"):
        scan(tmp_path, splits=None)


@pytest.mark.parametrize("splits", ["testing", ("test",)])
def test_unknown_splits_are_refused(tiny_root, splits):
    with pytest.raises(DataError, match="use a tuple of training, validation, testing"):
        scan(tiny_root, splits=splits)


def test_a_large_set_is_listed_by_folder_and_not_by_file(tmp_path, monkeypatch):
    looked, listed = [], []
    exists, listing = os.stat, os.listdir
    (tmp_path / "clips").mkdir()
    for number in range(300):
        (tmp_path / "clips" / f"{number}.wav").touch()
    write(tmp_path / "manifest.csv", "path,label", *(f"clips/{i}.wav,{i % 2}" for i in range(300)))
    monkeypatch.setattr(os, "stat", lambda *a, **k: (looked.append(a), exists(*a, **k))[1])
    monkeypatch.setattr(os, "listdir", lambda *a: (listed.append(a), listing(*a))[1])
    assert len(layouts.read(tmp_path)) == 300
    assert len(listed) == 1
    assert len(looked) < 30


@pytest.mark.filterwarnings("ignore:.*passed over 2 files")
def test_folders_are_walked_in_order_without_hidden_files(tmp_path):
    for name in ("b/2.wav", "b/10.WAV", "a.wav", "a/x.flac", ".hidden/y.wav", "b/.z.wav", "notes.txt", "folder.wav/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in expand([tmp_path / "b", tmp_path, tmp_path / "empty"])]
    assert found == ["b/10.WAV", "b/2.wav", "a/x.flac", "a.wav", "b/10.WAV", "b/2.wav", "empty"]
    assert [str(path) for path in expand(["missing.wav", "n" * 300])] == ["missing.wav", "n" * 300]


READ_BY_LIBSNDFILE_OR_FFMPEG = """wav wave flac mp3 mp2 ogg oga opus spx m4a m4b aac ac3 webm weba mp4 mkv mka mov avi
3gp amr caf aif aiff aifc au snd w64 rf64 wv wma asf ts mpg mpeg flv voc"""


@pytest.mark.parametrize("ending", READ_BY_LIBSNDFILE_OR_FFMPEG.split())
def test_whatever_is_read_when_named_is_also_found_in_folders(tmp_path, ending):
    names = [f"a.{ending}", f"b.{ending.upper()}", f"c.{ending.title()}"]
    for name in names:
        (tmp_path / name).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [path.name for path in find_audio(tmp_path)] == names


def test_files_with_other_endings_are_counted_in_one_line(tmp_path, clip):
    clip(tmp_path / "a.wav")
    for name in ("in/a.txt", "in/deeper/b.TXT", "README", ".hidden.txt", "in/c.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="passed over") as caught:
        assert list(expand([tmp_path])) == [tmp_path / "a.wav"]
    endings = r"\.txt \(2\), (none \(1\), \.pdf|\.pdf \(1\), none) \(1\)"
    assert len(caught) == 1
    assert re.fullmatch(f"{tmp_path}: passed over 4 files without an audio ending: {endings}", str(caught[0].message))


def test_files_of_a_data_set_that_are_not_taken_are_counted_in_one_line_each(tmp_path, clip):
    for_layout(tmp_path, clip)
    for name in ("training/real/notes.txt", "LICENSE.txt"):
        (tmp_path / name).touch()
    for name in ("training/human/1.wav", "training/human/deep/2.wav", "holdout/real/3.wav", "testing/4.wav"):
        clip(tmp_path / name)
    with pytest.warns(UserWarning, match="left out|passed over") as caught:
        assert len(layouts.read(tmp_path)) == 6
    passed, left = sorted((str(warning.message) for warning in caught), reverse=True)
    assert passed == f"{tmp_path}: passed over 2 files without an audio ending: .txt (2)"
    assert f"{tmp_path}: left out 4 audio files outside the folders SPLIT/{{real,fake}}: training/human (2), " in left
    assert "holdout/real (1)" in left
    assert "testing/4.wav (1)" in left


def test_a_folder_that_cannot_be_read_stands_for_itself(tmp_path, clip, monkeypatch):
    for name in ("a/1.wav", "b/2.wav", "c/3.wav"):
        clip(tmp_path / name)

    def scandir(folder, original=os.scandir):
        if os.path.basename(folder) == "b":  # root, who may run the tests, can read every folder
            raise PermissionError(13, "Permission denied", folder)
        return original(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)] == ["a/1.wav", "b", "c/3.wav"]
    assert list(expand([tmp_path / "b"])) == [tmp_path / "b"]


def test_links_are_followed_without_loops(tmp_path, clip):
    clip(tmp_path / "real" / "a.wav")
    clip(tmp_path / "elsewhere" / "e.wav")
    places = {"b.wav": "real/a.wav", "c.wav": "real", "loop": "real", "d.wav": "real/d.wav", "up": ""}
    for name, place in (places | {"f": "elsewhere", "g.wav": "elsewhere"}).items():
        os.symlink(tmp_path / place, tmp_path / "real" / name)
    os.symlink(tmp_path / "real", tmp_path / "elsewhere" / "back")
    found = [path.relative_to(tmp_path / "real").as_posix() for path in find_audio(tmp_path / "real")]
    assert found == ["a.wav", "b.wav", "d.wav", "f/e.wav", "g.wav/e.wav"]
    os.symlink(tmp_path / "real", tmp_path / "to real")
    assert len(find_audio(tmp_path / "to real")) == 5


@pytest.mark.parametrize("place", ["training/real", "training/real/speaker1", "training", "mine"])
def test_a_data_set_may_be_made_of_links(tmp_path, clip, place):
    for_layout(tmp_path / "mine", clip)
    clip(tmp_path / "mine" / "training" / "real" / "speaker1" / "a.wav")
    home = tmp_path if place == "mine" else tmp_path / "mine"
    (home / place).rename(tmp_path / "moved")
    os.symlink(tmp_path / "moved", home / place)
    os.symlink(tmp_path, tmp_path / "loop")
    assert len(scan(home / "mine" if place == "mine" else home)) == 7


def test_a_loop_of_links_is_not_another_data_set(tmp_path, clip):
    for_layout(tmp_path / "for-norm", clip)
    os.symlink(tmp_path, tmp_path / "a loop")
    assert len(scan(tmp_path)) == 6


ROWS = [("clips/0.wav", "real"), ("clips/1.wav", "fake")]


def table_of(root, clip, *lines):
    """A table of two clips; the lines may name them as {0} and {1}."""
    for path, _ in ROWS:
        clip(root / path)
    write(root / "mine.csv", *lines)
    return root / "mine.csv"


@pytest.mark.parametrize(
    "lines",
    [
        ("path;label;split", "clips/0.wav;real;test", "clips/1.wav;fake;test"),
        ("path\tlabel\tsplit", "clips/0.wav\treal\ttest", "clips/1.wav\tfake\ttest"),
        ("path|label|split", "clips/0.wav|real|test", "clips/1.wav|fake|test"),
        ("", '"path";"label"', '"clips/0.wav";"real"', '"clips/1.wav";"fake"'),
        (" Path , LABEL,Split ", " clips/0.wav , real , Testing ", "clips/1.wav,FAKE, test"),
        ('"path", "label", "split"', '"clips/0.wav", "real", "testing "', '"clips/1.wav" ,"fake" ,"test"'),
        ("\ufeffpath,label", "clips/0.wav,0.0", "clips/1.wav,1.0"),
        ("path,label", "clips/0.wav,0", "clips/1.wav,1"),
        ("path,label", "clips\\0.wav,real", ".\\clips\\1.wav,fake"),
        ("path,label", "clips/0.flac,bona fide", "clips/1.FLAC,spoof"),
        ("path,label", "clips/0,genuine", "clips\\1.mp3,deepfake"),
        ("path,label,split", "clips/0.wav,real,evaluation", "clips/1.wav,fake,eval"),
        ("path,label,split,note", "clips/0.wav,real,test", "clips/1.wav,fake,test"),
        ("path,label", "clips/0.wav,real,", "clips/1.wav,fake,"),
    ],
)
@pytest.mark.filterwarnings("ignore::pandas.errors.ParserWarning")
def test_tables_are_read_however_they_are_written(tmp_path, clip, lines):
    manifest = scan(table_of(tmp_path, clip, *lines), splits=("testing",))
    assert [(os.path.normpath(path), label) for path, label in zip(manifest.path, manifest.label, strict=True)] == [
        (str(tmp_path / "clips" / f"{number}.wav"), number) for number in (0, 1)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("first", ["", "sep=;\n", '"SEP=;"\r\n'])
def test_tables_are_read_as_spreadsheets_save_them(tmp_path, clip, first, encoding):
    for name in ("\N{LATIN SMALL LETTER U WITH DIAERESIS}.wav", "1.wav"):
        clip(tmp_path / name)
    rows = "Path;Label\n\N{LATIN SMALL LETTER U WITH DIAERESIS}.wav;real\n1.wav;fake\n"
    (tmp_path / "mine.csv").write_bytes((first + rows).encode(encoding))
    assert facts(scan(tmp_path / "mine.csv", splits=None)).keys() == {"\N{LATIN SMALL LETTER U WITH DIAERESIS}", "1"}


@pytest.mark.parametrize("content", [b"PK\3\4\x14\0" + bytes(range(256)), b"path,label\n\x81,real\n"])
def test_a_table_in_no_known_encoding_is_refused_with_the_expected_ones(tmp_path, content):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(
        DataError, match=r"mine\.csv: not a table in UTF-8, UTF-16 or cp1252; .* save it as CSV in UTF-8"
    ):
        scan(tmp_path / "mine.csv")


@pytest.mark.parametrize("name", ["dev", " Development ", "VAL", "valid", "devel", "validation "])
def test_other_names_of_splits_are_known(tmp_path, clip, name):
    table = table_of(tmp_path, clip, "path,label,split", f"clips/0.wav,real,{name}", f"clips/1.wav,fake,{name}")
    assert set(scan(table, splits=("validation",)).split) == {"validation"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file:label", "a:real"), "no column label, path.*found file:label, separated by ','; expected path, label"),
        (("Path;Klasse", "a;real"), "no column label; found path, klasse, separated by ';'"),
        (("path,Path,label", "a,b,real"), "more than one column path; found path, path, label"),
        (("path,label,label", "a,real,fake"), "more than one column label; found path, label, label"),
        (
            ("path,label", "a,true", "b,true", "c,2"),
            r"labels true \(2\), 2 \(1\) are unknown; use real and fake, or 0 = r",
        ),
        (("path,label", "a,real", "b"), r"labels none \(1\) are unknown"),
        (
            ("path,label,set", "a,real,train", "b,fake,test"),
            r"no column split, but set looks like it: train \(1\), test",
        ),
        (
            ("path,label,what", "a,real,dev", "b,fake,x", "c,fake,dev"),
            r"no column split, but what looks like it: dev \(2\)",
        ),
        (("path,label,split", "a,real,one", "b,fake,one"), r"nothing but 2 rows with a split other than .*: one \(2\)"),
        (("path,label", "a.wav,real"), "none of its 1 audio files is there.*relative to its folder"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_what_was_found(tmp_path, clip, lines, message):
    with pytest.raises(DataError, match=rf"mine\.csv: {message}"):
        scan(table_of(tmp_path, clip, *lines), splits=None)


def test_rows_of_unknown_splits_are_counted(tmp_path, clip):
    rows = [f"{path},{label},{split}" for path, label in ROWS for split in ("test", "trainning", "trainning ", "")]
    table = table_of(tmp_path, clip, "path,label,split", *rows)
    with pytest.warns(UserWarning, match="left out") as caught:
        assert len(scan(table, splits=None)) == 2
    assert [str(warning.message).removeprefix(f"{table}: ") for warning in caught] == [
        "left out 6 rows with a split other than training, validation, testing: trainning (4), none (2)"
    ]
    assert caught[0].filename == __file__


def test_a_column_that_may_be_the_split_is_named(tmp_path, clip):
    table = table_of(tmp_path, clip, "path,label,fold", "clips/0.wav,real,1", "clips/1.wav,fake,2")
    with pytest.warns(UserWarning, match="no column split, so all rows are testing; fold is not used"):
        assert set(scan(table, splits=None).split) == {"testing"}


@pytest.mark.parametrize("again", ["clips/0.wav", "./clips//0.wav", "clips\\0.wav", "clips/0.flac", "link.wav"])
def test_a_file_with_both_labels_is_an_error(tmp_path, clip, again):
    (tmp_path / "link.wav").symlink_to(tmp_path / "clips" / "0.wav")
    lines = ["path,label", *(",".join(row) for row in ROWS), f"{again},spoof"]
    with pytest.raises(DataError, match=r"1 file labelled both real and fake, such as .*clips/0\.wav; keep one label"):
        scan(table_of(tmp_path, clip, *lines), splits=None)


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("file;speaker;label", "{}.wav;A;{}"),
        ('"file","speaker","label"', '"{}.wav","A","{}"'),
        ("file, speaker, label", "{}.wav, A, {}"),
        ("File\tSpeaker\tLabel", "{}.wav\tA\t{} "),
    ],
)
def test_in_the_wild_however_its_table_is_written(tmp_path, clip, head, row):
    home = in_the_wild(tmp_path / "release_in_the_wild", clip)
    write(home / "meta.csv", head, row.format(0, "spoof"), row.format(1, "bona-fide"))
    assert facts(scan(tmp_path, splits=None)) == {"0": ("testing", 1, "", "A"), "1": ("testing", 0, "", "A")}


@pytest.mark.parametrize("ending", [".wav", ".FLAC"])
def test_clips_with_another_ending_than_the_protocol_says(tmp_path, clip, ending):
    for path in list(asvspoof2019(tmp_path, clip).rglob("*.flac")):
        clip(path.with_suffix(".wav"))
        path.with_suffix(".wav").rename(path.with_suffix(ending))
        path.unlink()
    manifest = scan(tmp_path)
    assert len(manifest) == 6
    assert manifest.path.str.endswith(ending).all()


def test_a_clip_keeps_its_own_ending_where_there_are_several(tmp_path, clip):
    for ending in (".wav", ".flac"):
        clip(tmp_path / f"a{ending}")
    (tmp_path / "b").mkdir()
    write(tmp_path / "t.csv", "path,label", "a.flac,real", "a.wav,fake", "b.wav,fake")
    with pytest.warns(UserWarning, match=r"1 of 3 audio files are missing: .*b\.wav"):
        manifest = layouts.read(tmp_path / "t.csv")
    assert [os.path.basename(path) for path in manifest.path] == ["a.flac", "a.wav"]


def test_errors_say_what_is_there(tmp_path, clip):
    for_layout(tmp_path / "one" / "two" / "three" / "four", clip)
    with pytest.raises(DataError, match=r"in it or up to 3 folders below \(found folders one/two\)"):
        scan(tmp_path)
    table = table_of(tmp_path, clip, "path,label,split", "clips/0.wav,real,train", "clips/1.wav,fake,test")
    with pytest.raises(
        DataError, match=r"both classes; found clips: training/real \(1\), testing/fake \(1\); found no fold"
    ):
        scan(table, splits=None)
