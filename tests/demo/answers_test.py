"""What users are answered: one picture, another strength, a batch and its zip. Without Gradio."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.demo.answers import Answers
from cut_tf.demo.batch import DONE
from cut_tf.demo.models import Models
from cut_tf.demo.pictures import Limits


class _Inverter:
    """Counts what it translates."""

    calls = 0

    def __call__(self, picture: np.ndarray, where: str) -> np.ndarray:
        self.calls += 1
        return 255 - picture


@pytest.fixture(name="inverter")
def _inverter() -> _Inverter:
    return _Inverter()


@pytest.fixture(name="answers")
def _answers(inverter, tmp_path) -> Answers:
    (tmp_path / "downloads").mkdir()
    return Answers(Models({"inverter": lambda: inverter}), Limits(pixels=1200, batch_files=5), tmp_path / "downloads")


def _save(path: Path, level: int, width: int = 20) -> str:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, 16), (level, level, level)).save(path)
    return str(path)


def _told(done: int, total: int, name: str) -> None:
    return None


def test_a_picture_is_shown_beside_its_translation_and_can_be_downloaded(answers, tmp_path):
    answer = answers.picture(_save(tmp_path / "a.PNG", 200), "inverter", 1.0, False)
    before, after = answer.pair
    assert (before == 200).all() and (after == 55).all()
    assert answer.text.startswith("a.PNG: 20x16 px, translated in ") and answer.text.endswith(" s.")
    assert answer.download.name == "a_translated.PNG"
    np.testing.assert_array_equal(np.asarray(Image.open(answer.download)), after)


def test_a_gif_becomes_a_png(answers, tmp_path):
    assert answers.picture(_save(tmp_path / "a.gif", 200), "inverter", 1.0, False).download.name == "a_translated.png"


def test_another_strength_blends_and_does_not_translate_again(answers, inverter, tmp_path):
    first = answers.picture(_save(tmp_path / "a.png", 200), "inverter", 1.0, False)
    calls = inverter.calls
    second = answers.blended(first.translation, 0.5)
    assert inverter.calls == calls
    assert (second.pair[1] == 128).all() and (np.asarray(Image.open(second.download)) == 128).all()  # 127.5 to even
    assert second.download != first.download and (np.asarray(Image.open(first.download)) == 55).all()
    assert (answers.blended(second.translation, 1.0).pair[1] == 55).all()


@pytest.mark.parametrize("call", [lambda answers: answers.picture(None, "inverter", 1.0, False),
                                  lambda answers: answers.blended(None, 0.3)])
def test_without_a_picture_the_answer_asks_for_one(answers, call):
    assert call(answers) == ("Drop a picture to begin.", None, None, None)


def test_what_is_wrong_is_a_sentence_and_nothing_else(answers, tmp_path):
    (tmp_path / "a.txt").write_text("Dear diary")
    for file, model, text in ((str(tmp_path / "a.txt"), "inverter", "a.txt: must be a complete JPEG"),
                              (_save(tmp_path / "b.png", 0, width=100), "inverter", "at most 1200 pixels, found 100"),
                              (_save(tmp_path / "c.png", 0), "gone", "the model must be one of inverter"),
                              (str(tmp_path / "never.png"), "inverter", "never.png: must be a readable image file")):
        answer = answers.picture(file, model, 1.0, False)
        assert text in answer.text and answer[1:] == (None, None, None)
        assert str(tmp_path) not in answer.text.replace(str(tmp_path / "never.png"), "")


def test_a_batch_is_zipped_and_what_fails_is_told(answers, tmp_path):
    (tmp_path / "a.txt").write_text("Dear diary")
    files = [_save(tmp_path / "one" / "a.png", 200), str(tmp_path / "a.txt"), _save(tmp_path / "two" / "a.png", 100),
             _save(tmp_path / "b.gif", 10), _save(tmp_path / "c.png", 0, width=100)]
    told = []
    answer = answers.batch(files, "inverter", 1.0, False, lambda *step: told.append(step))
    assert answer.text == "3 of 5 pictures translated."
    assert [(row[0], row[1], row[3] == DONE) for row in answer.rows] == [
        ("a.png", "20x16", True), ("a.txt", "", False), ("a.png", "20x16", True), ("b.gif", "20x16", True),
        ("c.png", "", False)]
    assert "must be a complete JPEG" in answer.rows[1][3] and "at most 1200 pixels" in answer.rows[4][3]
    assert told == [(0, 5, "a.png"), (1, 5, "a.txt"), (2, 5, "a.png"), (3, 5, "b.gif"), (4, 5, "c.png"), (5, 5, "")]
    with zipfile.ZipFile(answer.download) as zipped:
        levels = {name: int(np.asarray(Image.open(io.BytesIO(zipped.read(name)))).max()) for name in zipped.namelist()}
    assert levels == {"a.png": 55, "a_2.png": 155, "b.png": 245}


def test_a_batch_of_failures_has_no_zip(answers, tmp_path):
    (tmp_path / "a.txt").write_text("Dear diary")
    answer = answers.batch([str(tmp_path / "a.txt")], "inverter", 1.0, False, _told)
    assert answer.text == "0 of 1 pictures translated." and answer.download is None


@pytest.mark.parametrize(("count", "found"), [(0, "found 0"), (6, "found 6")])
def test_a_batch_has_a_limit(answers, inverter, tmp_path, count, found):
    path = _save(tmp_path / "a.png", 1)
    answer = answers.batch([path] * count or None, "inverter", 1.0, False, _told)
    assert answer.text == f"a batch must have 1 to 5 pictures, {found}" and answer.rows == []
    assert inverter.calls == 0


def test_a_disk_that_refuses_is_a_sentence(answers, tmp_path):
    file = _save(tmp_path / "a.png", 1)
    (tmp_path / "downloads").rmdir()
    assert answers.picture(file, "inverter", 1.0, False).text.startswith("a.png: cannot be translated; the log")
    assert answers.batch([file], "inverter", 1.0, False, _told).text.startswith("translated.zip: cannot be translated")
