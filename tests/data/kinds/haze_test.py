"""`--dataset=haze:TRAIN_DIR[,TEST_DIR]`: every layout in a made-up tree, pairs, border, streams, and every message."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from absl import flags as absl_flags
from PIL import Image

from cut_tf import flags
from cut_tf.common.errors import InputError
from cut_tf.data import DATASETS, open_dataset
from cut_tf.data.domain import Domain, TranslationData
from cut_tf.data.kinds.haze import stems_of_gt, stems_without_numbers
from cut_tf.data.pipeline import TrainingStream, load_test_images
from cut_tf.settings import Settings

WIDTH, HEIGHT = 20, 16
# The red level says which scene a picture shows, the green level whether it is hazy.
CLEAR_LEVEL, HAZY_LEVEL = 10, 200
NTIRE = "O-HAZE, I-HAZE, NH-HAZE or Dense-Haze"
RESIDE = "RESIDE ITS, OTS or SOTS"


def _picture(path: Path, scene: int, hazy: bool, width: int = WIDTH, height: int = HEIGHT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), (scene, HAZY_LEVEL if hazy else CLEAR_LEVEL, 0), np.uint8)
    Image.fromarray(image).save(path, quality=100, subsampling=0)


def _tree(root: Path, hazy: dict[str, int], clear: dict[str, int]) -> Path:
    """Pictures by relative name, each with the number of its scene."""
    for names, is_hazy in ((hazy, True), (clear, False)):
        for name, scene in names.items():
            _picture(root / name, scene, is_hazy)
    return root


def _ots_like(root: Path, hazy: str = "hazy", clear: str = "clear") -> Path:
    """Three hazy pictures of two scenes, and a third clear scene without a hazy picture."""
    return _tree(root,
                 {f"{hazy}/0001_0.8_0.2.jpg": 40, f"{hazy}/0001_1_0.08.jpg": 40, f"{hazy}/0003_0.9_0.16.jpg": 120},
                 {f"{clear}/0001.jpg": 40, f"{clear}/0002.jpg": 80, f"{clear}/0003.png": 120})


def _open(dataset: object, **values: object) -> TranslationData:
    sizes = {"load_size_px": 18, "crop_size_px": 16, "discriminator_layers": 2}
    return open_dataset(Settings.of(**{"dataset": f"haze:{dataset}", **sizes, **values}))


def _seen(domain: Domain) -> list[tuple[int, bool]]:
    """(scene, hazy) of each picture, read from its pixels; JPEG may change a level by a few."""
    means = [domain.load(index).reshape(-1, 3).mean(axis=0) for index in range(len(domain))]
    return [(int(round(red / 40) * 40), bool(green > 100)) for red, green, _ in means]


def _message(*arguments: object, **values: object) -> str:
    with pytest.raises(InputError) as caught:
        _open(*arguments, **values)
    return str(caught.value)


# Layout: name in the description, hazy and clear files with the number of their scenes, all by hand.
LAYOUTS = {
    "its_v2": (RESIDE, {"hazy/1400_1.png": 40, "hazy/1400_10.png": 40, "hazy/1401_1.png": 80},
               {"clear/1400.png": 40, "clear/1401.png": 80}),
    "its_inside_train": ("RESIDE ITS", {"ITS_haze/1_1_0.90179.png": 40, "ITS_haze/2_10_0.7.png": 80},
                         {"ITS_clear/1.png": 40, "ITS_clear/2.png": 80}),
    "ots": ("RESIDE OTS", {"haze/OTS/0005_0.8_0.04.jpg": 40, "haze/OTS/0005_1_0.2.jpg": 40},
            {"clear/clear_images/0005.jpg": 40}),
    "ots_shallow": ("RESIDE OTS", {"haze/0005_0.8_0.04.jpg": 40}, {"clear/clear_images/0005.jpg": 40}),
    "sots": (RESIDE, {"hazy/0001_0.8_0.2.jpg": 40, "hazy/0003_0.8_0.08.jpg": 80},
             {"gt/0001.png": 40, "gt/0003.png": 80}),
    # The longest stem that is there counts: 1_2 belongs to 1_2 and not to 1.
    "same_names": (RESIDE, {"hazy/1_1.png": 40, "hazy/1_2.png": 80},
                   {"GT/1_1.png": 40, "GT/1_2.png": 80, "GT/1.png": 0}),
    "o_haze": (NTIRE, {"hazy/01_outdoor_hazy.jpg": 40, "hazy/02_outdoor_hazy.jpg": 80},
               {"GT/01_outdoor_GT.jpg": 40, "GT/02_outdoor_GT.jpg": 80}),
    "i_haze_upper_case": (NTIRE, {"Hazy/01_indoor_HAZY.JPG": 40}, {"gt/01_indoor_gt.jpg": 40}),
    "dense_haze": (NTIRE, {"hazy/01_hazy.png": 40, "hazy/55_hazy.png": 80}, {"GT/01_GT.png": 40, "GT/55_GT.png": 80}),
    "o_haze_one_folder": (f"{NTIRE}, one folder", {"01_outdoor_hazy.jpg": 40}, {"01_outdoor_GT.jpg": 40}),
    "nh_haze": (f"{NTIRE}, one folder", {"01_hazy.png": 40, "02_hazy.png": 80},
                {"01_GT.png": 40, "02_GT.png": 80, "03_GT.png": 120}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised_and_paired(tmp_path, layout):
    name, hazy, clear = LAYOUTS[layout]
    root = _tree(tmp_path, hazy, clear)
    data = _open(f"{root},{root}")
    assert data.test_paired
    assert data.description == (f"haze:{root} ({name}): {len(hazy)} hazy, {len(clear)} clear, "
                                f"{len(hazy)} test pairs of {root} ({name})")
    assert sorted(_seen(data.source)) == sorted((scene, True) for scene in hazy.values())
    assert sorted(_seen(data.target)) == sorted((scene, False) for scene in clear.values())
    scenes = [scene for scene, _ in _seen(data.test_source)]
    assert _seen(data.test_source) == [(scene, True) for scene in scenes]
    assert _seen(data.test_target) == [(scene, False) for scene in scenes]
    assert len(scenes) == len(hazy)


def test_its_root_trains_on_train_and_tests_on_val(tmp_path):
    root = _tree(tmp_path, {"train/ITS_haze/1_1_0.9.png": 40, "val/haze/10001_1_0.7.png": 80},
                 {"train/ITS_clear/1.png": 40, "val/clear/10001.png": 80})
    data = _open(f"{root},{root}")
    assert _seen(data.source) == [(40, True)] and _seen(data.target) == [(40, False)]
    assert _seen(data.test_source) == [(80, True)] and _seen(data.test_target) == [(80, False)]
    assert _seen(_open(f"{root},{root / 'val'}").test_target) == [(80, False)]
    assert _seen(_open(root / "val").target) == [(80, False)]


@pytest.mark.parametrize("hazy, clear", [("hazy", "clear"), ("hazy", "gt"), ("haze", "clear"), ("HAZE", "GT"),
                                         ("Hazy", "Clear")])
def test_one_clear_picture_serves_several_hazy_ones(tmp_path, hazy, clear):
    root = _ots_like(tmp_path, hazy, clear)
    data = _open(f"{root},{root}")
    assert [data.test_source.name(index) for index in range(3)] == [
        "0001_0.8_0.2.jpg", "0001_1_0.08.jpg", "0003_0.9_0.16.jpg"]
    assert [data.test_target.name(index) for index in range(3)] == ["0001.jpg", "0001.jpg", "0003.png"]
    assert _seen(data.test_target) == [(40, False), (40, False), (120, False)]
    assert [data.target.name(index) for index in range(len(data.target))] == ["0001.jpg", "0002.jpg", "0003.png"]


def test_without_test_folder_there_is_no_test_split(tmp_path):
    data = _open(_ots_like(tmp_path))
    assert data.test_source is None and data.test_target is None and not data.test_paired
    assert data.description == f"haze:{tmp_path} ({RESIDE}): 3 hazy, 3 clear, no test split"


def test_training_and_test_folders_may_differ_in_layout(tmp_path):
    train, test = _ots_like(tmp_path / "ots"), _tree(tmp_path / "nh", {"01_hazy.png": 80}, {"01_GT.png": 80})
    data = _open(f"{train},{test}")
    assert len(data.source) == len(data.target) == 3
    assert _seen(data.test_source) == [(80, True)] and _seen(data.test_target) == [(80, False)]


def test_training_is_unpaired_and_shows_every_picture(tmp_path):
    """Over two epochs of the larger domain, each domain shows each of its pictures equally often, never in pairs."""
    root = _tree(tmp_path, {f"hazy/{scene}_1.png": scene for scene in range(0, 240, 40)},
                 {f"clear/{scene}.png": scene for scene in range(0, 240, 40)})
    settings = Settings.of(dataset=f"haze:{root}", preprocess="crop", crop_size_px=16, batch_size=2,
                           discriminator_layers=2)
    stream = TrainingStream(open_dataset(settings), settings.data, seed=3)
    assert stream.steps_per_epoch() == 3
    scenes = {"source": [], "target": []}
    for batch in stream.dataset(first_step=0).take(6):
        for name, green in (("source", HAZY_LEVEL), ("target", CLEAR_LEVEL)):
            assert batch[name].shape == (2, 16, 16, 3)
            levels = np.rint((batch[name].numpy() + 1.0) * 127.5)
            assert (levels[..., 1] == green).all() and (levels[..., 2] == 0).all()
            scenes[name] += levels[:, 0, 0, 0].astype(int).tolist()
    for shown in scenes.values():
        assert sorted(shown[:6]) == sorted(shown[6:]) == list(range(0, 240, 40))
    assert scenes["source"] != scenes["target"]


def _bordered(root: Path, border_px: int) -> Path:
    """As SOTS indoor: a hazy picture of noise, and the same pixels with a white border as its clear picture."""
    inner = np.random.default_rng(5).integers(0, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    outer = np.full((HEIGHT + 2 * border_px, WIDTH + 2 * border_px, 3), 255, np.uint8)
    outer[border_px:border_px + HEIGHT, border_px:border_px + WIDTH] = inner
    for name, pixels in (("hazy/1400_1.png", inner), ("hazy/1400_2.png", inner), ("gt/1400.png", outer)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


@pytest.mark.parametrize("border_px", [2, 10])
def test_border_is_cut_from_clear_test_pictures_alone(tmp_path, border_px):
    root = _bordered(tmp_path, border_px)
    data = _open(f"{root},{root}", crop_border_px=border_px)
    inner = np.asarray(Image.open(root / "hazy/1400_1.png"))
    for index in range(2):
        np.testing.assert_array_equal(data.test_target.load(index), inner)
        np.testing.assert_array_equal(data.test_source.load(index), inner)
        assert data.test_target.load(index).flags.c_contiguous
    assert data.target.load(0).shape == (HEIGHT + 2 * border_px, WIDTH + 2 * border_px, 3)
    np.testing.assert_array_equal(load_test_images(data.test_target, Settings.of(preprocess="none").data)[0], inner)


def test_forgotten_border_of_sots_indoor(tmp_path):
    root = _bordered(tmp_path, 10)
    lines = _message(f"{root},{root}").splitlines()
    assert lines == [
        f"{root}/hazy: hazy test pictures must have the size of their clear pictures less 0 px on each side "
        "(--crop_border_px), found 2 pairs that differ:",
        f"  {root}/hazy/1400_1.png 20x16, {root}/gt/1400.png 40x36",
        f"  {root}/hazy/1400_2.png 20x16, {root}/gt/1400.png 40x36",
        "try --crop_border_px=10"]
    assert len(_open(root).target) == 1  # sizes of training pictures need not agree


def test_border_that_is_not_there(tmp_path):
    root = _ots_like(tmp_path)
    message = _message(f"{root},{root}", crop_border_px=10)
    assert "less 10 px on each side (--crop_border_px), found 3 pairs" in message
    assert f"{root}/hazy/0001_0.8_0.2.jpg 20x16, {root}/clear/0001.jpg 20x16" in message
    assert message.endswith("\ntry --crop_border_px=0")


@pytest.mark.parametrize("width, height", [(WIDTH + 20, HEIGHT), (WIDTH + 20, HEIGHT + 18), (WIDTH + 4, HEIGHT + 4),
                                           (WIDTH - 2, HEIGHT), (WIDTH, HEIGHT + 1)])
def test_other_differences_of_size_get_no_advice(tmp_path, width, height):
    _picture(tmp_path / "hazy/1_1.png", 40, True)
    _picture(tmp_path / "gt/1.png", 40, False, width, height)
    message = _message(f"{tmp_path},{tmp_path}")
    assert f"{tmp_path}/hazy/1_1.png 20x16, {tmp_path}/gt/1.png {width}x{height}" in message
    assert "try" not in message


def test_advice_is_only_given_where_it_helps_all_pairs(tmp_path):
    root = _bordered(tmp_path, 10)
    _picture(root / "hazy/1_1.png", 40, True)
    _picture(root / "gt/1.png", 40, False)
    message = _message(f"{root},{root}")
    assert "found 2 pairs that differ" in message and "try" not in message


def test_five_pairs_of_different_size_are_named(tmp_path):
    for number in range(7):
        _picture(tmp_path / f"hazy/{number}_1.png", 40, True)
        _picture(tmp_path / f"gt/{number}.png", 40, False, WIDTH + 2, HEIGHT)
    lines = _message(f"{tmp_path},{tmp_path}").splitlines()
    assert "found 7 pairs" in lines[0] and len(lines) == 7 and lines[-1] == "  and 2 more"


def test_size_of_a_turned_photograph_is_that_which_one_sees(tmp_path):
    """EXIF orientation 6 swaps width and height."""
    _picture(tmp_path / "GT/1_GT.png", 40, False)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "hazy").mkdir()
    Image.fromarray(np.full((WIDTH, HEIGHT, 3), 200, np.uint8)).save(tmp_path / "hazy/1_hazy.jpg", exif=exif)
    data = _open(f"{tmp_path},{tmp_path}")
    assert data.test_source.load(0).shape == data.test_target.load(0).shape == (HEIGHT, WIDTH, 3)


def test_sots_root_says_which_two_folders_there_are(tmp_path):
    for part in ("indoor", "outdoor"):
        _ots_like(tmp_path / "SOTS" / part, "hazy", "gt")
    root = tmp_path / "SOTS"
    message = _message(f"{root / 'indoor'},{root}")
    assert message.startswith(f"{root}: TEST_DIR of --dataset=haze:TRAIN_DIR,TEST_DIR must have one of these layouts, "
                              "found folders: indoor, outdoor; pictures: none\n")
    assert message.splitlines()[-1] == (f"indoor and outdoor in it have such a layout: name {root / 'indoor'} or "
                                        f"{root / 'outdoor'}")


def test_unknown_layout_tells_what_was_looked_for_and_found(tmp_path):
    _tree(tmp_path, {"trainA/1.png": 40, **{f"{number}.png": 40 for number in range(7)}}, {"trainB/1.png": 40})
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "hazy").mkdir()  # half of a layout
    lines = _message(tmp_path).splitlines()
    assert lines[0] == (f"{tmp_path}: TRAIN_DIR of --dataset=haze:TRAIN_DIR,TEST_DIR must have one of these layouts, "
                        "found folders: hazy, trainA, trainB; pictures: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more")
    assert lines[1:] == [
        "  RESIDE ITS: folder train/ITS_haze and folder train/ITS_clear",
        "  RESIDE ITS: folder ITS_haze and folder ITS_clear",
        "  RESIDE OTS: folder haze/OTS or hazy/OTS or OTS or haze or hazy and folder clear/clear_images",
        f"  {RESIDE}: folder hazy or haze and folder clear or gt",
        f"  {NTIRE}: folder hazy or haze and folder GT or clear",
        f"  {NTIRE}, one folder: pictures NAME_hazy and NAME_GT"]


def test_train_and_val_are_not_mixed_up(tmp_path):
    root = _tree(tmp_path, {"val/haze/1_1.png": 40}, {"val/clear/1.png": 40})
    assert _message(root).endswith(f"val in it has such a layout: name {root / 'val'}")
    assert len(_open(f"{root / 'val'},{root}").test_source) == 1


def test_several_layouts_in_one_folder(tmp_path):
    root = _ots_like(tmp_path, "hazy", "clear")
    _tree(root, {"haze/1_1.png": 40}, {})
    assert _message(root) == (f"{root}: must have one folder of hazy and one of clear pictures, found several: "
                              "hazy with clear; haze with clear")


def test_folders_that_differ_in_case_alone(tmp_path):
    root = _ots_like(tmp_path)
    (root / "HAZY").mkdir()
    assert _message(root) == f"{root}: must have one folder hazy in upper or lower case, found HAZY, hazy"


def test_hazy_pictures_without_a_clear_one(tmp_path):
    root = _tree(tmp_path, {f"hazy/{scene}_1.png": 40 for scene in range(8)}, {"clear/3.png": 40})
    assert _message(root).splitlines() == [
        f"{root}/hazy: every hazy picture must have its clear picture in {root}/clear, found none for 7 of 8:",
        *[f"  {scene}_1.png, looked for the stem {scene}_1 or {scene}" for scene in (0, 1, 2, 4, 5)],
        "  and 2 more", "clear pictures: 3.png"]


@pytest.mark.parametrize("hazy, clear, lines", [
    (("hazy/01_hazy.png", "hazy/02_hazy.png"), ("GT/01_GT.png",),
     ["ROOT/hazy: every hazy picture must have its clear picture in ROOT/GT, found none for 1 of 2:",
      "  02_hazy.png, looked for the stem 02_hazy or 02_GT", "clear pictures: 01_GT.png"]),
    (("01_hazy.png",), (),
     ["ROOT: every hazy picture must have its clear picture called NAME_GT, found no such picture:",
      "  01_hazy.png, looked for the stem 01_GT", "clear pictures: none"])])
def test_missing_partner_in_names_of_ntire(tmp_path, hazy, clear, lines):
    root = _tree(tmp_path, dict.fromkeys(hazy, 40), dict.fromkeys(clear, 40))
    assert _message(root).replace(str(root), "ROOT").splitlines() == lines


def test_one_folder_with_other_pictures(tmp_path):
    root = _tree(tmp_path, {"01_hazy.png": 40, "02_haze.png": 40}, {"01_GT.png": 40, "preview.png": 40})
    assert _message(root) == (f"{root}: every picture must be called NAME_hazy or NAME_GT where both are in one "
                              "folder, found 2 of 4 others: 02_haze.png, preview.png")


def test_several_clear_pictures_of_one_hazy_one(tmp_path):
    root = _tree(tmp_path, {"hazy/1_1.png": 40, "hazy/2_1.png": 80}, {"gt/1.png": 40, "gt/1.jpg": 40, "gt/2.png": 80})
    assert _message(root) == (f"{root}/hazy: every hazy picture must lead to exactly one clear picture, found several "
                              "for 1 of 2: 1_1.png (1.jpg or 1.png)")


@pytest.mark.parametrize("dataset", ["", ",", "a,", ",b", "a,b,c"])
def test_wrong_number_of_folders(dataset):
    assert _message(dataset) == ("--dataset must be haze:TRAIN_DIR or haze:TRAIN_DIR,TEST_DIR with the folders of a "
                                 f"dehazing data set, found 'haze:{dataset}'")


def test_missing_folder_and_file_instead_of_a_folder(tmp_path):
    assert _message(tmp_path / "none") == (f"{tmp_path / 'none'}: --dataset=haze:... must name folders with hazy and "
                                           "clear pictures, found: No such file or directory")
    (tmp_path / "file").write_text("x")
    root = _ots_like(tmp_path / "data")
    assert _message(f"{root},{tmp_path / 'file'}").endswith("found: Not a directory")


def test_folder_of_a_layout_without_pictures(tmp_path):
    root = _ots_like(tmp_path)
    for path in (root / "clear").iterdir():
        path.unlink()
    message = _message(root)
    assert re.match(rf"{re.escape(str(root))}/clear: must be a folder with images .*found 0 other files", message)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["hazy/0001_0.8_0.2.jpg", "clear/0001.jpg"])
def test_files_are_checked_by_their_headers(tmp_path, split, name):
    good, bad = _ots_like(tmp_path / "good"), _ots_like(tmp_path / "bad")
    (bad / name).write_text("This is not a picture.")
    dataset = bad if split == "train" else f"{good},{bad}"
    message, folder = _message(dataset), bad / name.split("/")[0]
    assert message.startswith(f"{folder}: 1 of ") and f"{bad / name}: must be a complete" in message


def test_size_limits_of_training_and_test_pictures(tmp_path):
    """The training crop must fit into training pictures; test pictures need 16 px only."""
    root = _ots_like(tmp_path)
    values = {"preprocess": "crop", "crop_size_px": 18}
    assert "sides must be at least the crop of 18 px with --preprocess=crop, found 20x16" in _message(root, **values)
    large = tmp_path / "large"
    _picture(large / "hazy/1.png", 40, True, 24, 24)
    _picture(large / "clear/1.png", 40, False, 24, 24)
    assert len(_open(f"{large},{root}", **values).test_source) == 3
    _picture(root / "hazy/0003_0.9_0.16.jpg", 40, True, 15, 24)
    assert "sides must be at least 16 px, found 15x24" in _message(f"{large},{root}", **values)


def test_clear_test_pictures_that_no_hazy_one_needs_may_be_anything(tmp_path):
    root, test = _ots_like(tmp_path / "train"), _ots_like(tmp_path / "test")
    (test / "clear/0002.jpg").write_text("This is not a picture.")
    assert len(_open(f"{root},{test}").test_target) == 3


@pytest.mark.parametrize("dataset", ["scenes", "a,b", "photos", "tfds:x", "haze:a"])
def test_border_without_test_folder(dataset):
    with pytest.raises(InputError) as caught:
        open_dataset(Settings.of(dataset=dataset, crop_border_px=10))
    assert str(caught.value) == ("--crop_border_px must be 0 unless --dataset=haze:TRAIN_DIR,TEST_DIR, "
                                 f"found 10 with --dataset={dataset}")


@pytest.mark.parametrize("rule, stem, stems", [
    (stems_without_numbers, "1400_1", ["1400_1", "1400"]), (stems_without_numbers, "0001", ["0001"]),
    (stems_without_numbers, "0001_0.8_0.2", ["0001_0.8_0.2", "0001_0.8", "0001"]),
    (stems_without_numbers, "1_1_0.90179", ["1_1_0.90179", "1_1", "1"]), (stems_without_numbers, "a_.5", ["a_.5"]),
    (stems_without_numbers, "a_b_3", ["a_b_3", "a_b"]), (stems_without_numbers, "_1", ["_1"]),
    (stems_of_gt, "01_hazy", ["01_GT"]), (stems_of_gt, "01_outdoor_HAZY", ["01_outdoor_GT"]),
    (stems_of_gt, "01_haze", []), (stems_of_gt, "hazy", []), (stems_of_gt, "hazy_1", [])])
def test_stems_of_clear_pictures(rule, stem, stems):
    assert rule(stem) == stems


def test_flags_round_trip(tmp_path):
    values = absl_flags.FlagValues()
    flags.define(values)
    root = _bordered(tmp_path, 10)
    values(["train", f"--dataset=haze:{root},{root}", "--crop_border_px=10"])
    settings = flags.settings_from(values)
    assert Settings.from_json(settings.to_json(), "x") == settings
    assert "haze" in DATASETS and open_dataset(settings).test_paired
    assert (settings.data.dataset, settings.haze.crop_border_px) == (f"haze:{root},{root}", 10)
    assert "haze:TRAIN_DIR[,TEST_DIR]" in values["dataset"].help and "SOTS indoor" in values["crop_border_px"].help
