"""What a context is worth: the sequence of images, the context's size, the choice from it, with small random networks."""
from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib.cli import main
from InteractiveSegLib.context import ContextSet
from InteractiveSegLib.evaluation import sequence_report as report
from InteractiveSegLib.evaluation.annotators import Growing, MultiverSeg, Soft, UniverSegStart
from InteractiveSegLib.evaluation.context_curve import run_contexts
from InteractiveSegLib.evaluation.sequence import annotate, draw_order, run_sequences
from InteractiveSegLib.evaluation.tasks import Item
from InteractiveSegLib.robot import Robot


def disks(count, per_subject=2, task="made/disk", size=48):
    """Bright disks on noise, two slices per subject."""
    rows, columns = np.mgrid[:size, :size]
    noise = np.random.default_rng(0)
    truths = [np.hypot(rows - 18 - n, columns - 30 + n) < 8 for n in range(count)]
    return [Item(task, "made", f"s{n // per_subject}", str(n), n, 100 * truth + noise.normal(0, 5, truth.shape), truth, None, ())
            for n, truth in enumerate(truths)]


class Student:
    """Cuts at a grey value; before it has accepted `lessons` images it needs a click to dare."""

    def __init__(self, name="student", lessons=2):
        self.name, self.lessons, self.log = name, lessons, []

    def begin(self):
        self.seen = 0
        self.log.append("begin")

    def start(self, image, spacing=None):
        self.image = image
        return image > 50 if self.seen >= self.lessons else np.zeros(image.shape, bool)

    def add(self, prompt):
        self.log.append(prompt)
        return self.image > 50

    def accept(self, truth):
        self.seen += 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch
    from safetensors.torch import save_file

    from InteractiveSegLib.models.multiverseg import MultiverSegConfig, MultiverSegNet
    from InteractiveSegLib.models.universeg import UniverSegConfig, UniverSegNet

    torch.manual_seed(0)
    folder, networks = tmp_path_factory.mktemp("weights"), {}
    for name, network in (("multiverseg", MultiverSegNet(MultiverSegConfig((4, 4)))),
                          ("universeg", UniverSegNet(UniverSegConfig((4, 4))))):
        networks[name] = folder / f"{name}.safetensors"
        save_file(network.state_dict(), networks[name])
    return networks


@pytest.fixture
def a_pack(tmp_path):
    items = disks(6)
    np.savez(tmp_path / "made.npz", images=np.stack([item.image.clip(0, 200).astype(np.uint8) for item in items]),
             masks=np.stack([item.truth for item in items]).astype(np.uint8), roi_yxhw=np.tile([0, 0, 48, 48], (6, 1)),
             subject=np.array([item.subject for item in items]), id=np.arange(6).astype(str), labels=json.dumps({"1": "disk"}))
    return tmp_path / "made.npz"


def test_a_sequence_counts_the_prompts_that_each_image_needed():
    items = disks(6)
    rows = list(annotate(Student(lessons=2), draw_order(items, 18, 0), Robot(), 20))
    assert [row["prompts"] for row in rows] == [1, 1, 0, 0, 0, 0]
    assert all(row["reached"] and row["dice_end"] > 0.95 for row in rows)
    assert [row["dice_0"] > 0.9 for row in rows] == [False, False, True, True, True, True]


def test_prompts_end_at_the_cap_and_the_failure_is_told():
    class Stubborn(Student):
        def add(self, prompt):
            return np.zeros(self.image.shape, bool)

    (row, *_) = annotate(Stubborn(), disks(2), Robot(), 7)
    assert (row["prompts"], row["reached"], row["dice_end"]) == (7, 0, 0)


def test_orders_differ_hold_each_image_once_and_take_new_subjects_first():
    items = disks(12)
    one, two = (draw_order(items, 5, order) for order in (0, 1))
    assert len(one) == 6 and len({item.source for item in one}) == 6
    assert len({item.subject for item in one}) == 6, "twelve slices of six subjects: one of each"
    assert [item.source for item in one] != [item.source for item in two]
    assert [item.source for item in one] == [item.source for item in draw_order(items, 5, 0)]
    assert len(draw_order(items, 18, 0)) == 12


def test_an_interrupted_run_goes_on_and_what_is_done_is_not_done_again(tmp_path):
    items, path = disks(4) + disks(4, task="made/other"), tmp_path / "rows.csv"
    student = Student()
    running = run_sequences([student], items, Robot(), 3, 1, path)
    for _ in range(6):  # the first task and part of what the second yields
        next(running)
    running.close()
    assert student.log.count("begin") == 2
    again, late = Student(), Student("late")
    rows = list(run_sequences([again, late], items, Robot(), 3, 2, path))
    assert again.log.count("begin") == 2, "two tasks in the second order"
    assert late.log.count("begin") == 4
    assert len(rows) == 2 * 2 * 2 * 4
    assert rows == list(run_sequences([again, late], items, Robot(), 3, 2, path)), "read back as written"


def test_the_table_leaves_the_seed_image_out_and_tells_what_is_saved(tmp_path):
    slow, quick = Student("scribbleprompt", lessons=99), Student("quick", lessons=2)
    rows = list(run_sequences([slow, quick], disks(9, per_subject=1), Robot(), 8, 2, tmp_path / "rows.csv"))
    table = report.sequence_table(rows)
    assert "| scribbleprompt | 1.00 [1.00, 1.00] | 16 | - | 0/16 |" in table
    assert "| quick | 0.12 [" in table and "| 88% [" in table  # one of eight images
    assert "16 images of 9 subjects" in table
    assert report.saved_share(report.sequence_rows(rows), "scribbleprompt") == (0, 0, 0)
    by_position = report.position_table(rows)
    assert "| accepted before | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |" in by_position
    assert "| quick | 1.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 |" in by_position, "two lessons are enough, the seed is one"
    assert by_position.endswith("| tasks | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 1 |")
    report.plot_sequence(rows, tmp_path / "curve.png", "made")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_methods_are_compared_on_what_all_of_them_have_done(tmp_path):
    items, path = disks(4, per_subject=1), tmp_path / "rows.csv"
    first = list(run_sequences([Student("scribbleprompt", 99)], items, Robot(), 3, 2, path))
    second = list(run_sequences([Student("quick")], items, Robot(), 3, 1, path))
    assert "3 images" in report.sequence_table(first + second)


@pytest.mark.parametrize("ideal", [False, True])
def test_multiverseg_takes_what_was_accepted_or_the_truth_into_its_context(weights, ideal):
    (item, other), annotator = disks(2), Growing("cpu", weights["multiverseg"], ideal=ideal)
    assert not annotator.start(item.image).any(), "nothing is known yet"
    mask = annotator.add(Robot().prompt(item.truth, np.zeros(item.truth.shape, bool), np.random.default_rng(0))).copy()
    annotator.accept(item.truth)
    (entry,) = annotator._context.enabled()
    assert np.array_equal(entry.mask, item.truth if ideal else mask)
    annotator.start(other.image)
    annotator.begin()
    assert len(annotator._context) == 0


def test_soft_context_equals_the_cut_one_where_the_network_was_sure(weights):
    (item, other), soft = disks(2, size=128), Soft("cpu", weights["multiverseg"])
    soft.start(item.image)
    soft._logits = np.where(item.truth, 30.0, -30.0)
    soft.accept(item.truth)
    context = ContextSet()
    context.add(item.image, item.truth)
    cut = MultiverSeg("cpu", weights["multiverseg"]).predict(context.enabled(), other.image)
    assert np.array_equal(soft.start(other.image), cut)
    soft._pairs[0][1] *= 0.6
    assert not np.array_equal(soft.start(other.image), cut)
    assert soft.add(Robot().prompt(other.truth, ~other.truth, np.random.default_rng(0))).shape == other.truth.shape


def test_universeg_starts_scribbleprompt_from_five_examples_on(weights):
    annotator = UniverSegStart("cpu", weights["universeg"])
    started = []
    for item in disks(7):
        started.append(annotator.start(item.image).any())
        annotator._session.set_mask(item.truth)
        annotator.accept(item.truth)
    assert started[:5] == [False] * 5 and len(annotator._context) == 7
    assert any(started[5:]) or not annotator._universeg.predict(annotator._context.enabled()[:6], item.image).any()


def test_the_forest_learns_from_accepted_images_and_obeys_prompts():
    pytest.importorskip("sklearn")
    from InteractiveSegLib.evaluation.forest import PixelForest

    rows = list(annotate(PixelForest(), disks(4), Robot(), 10))
    assert rows[0]["dice_0"] == 0 and rows[0]["prompts"] >= 1
    assert min(row["dice_0"] for row in rows[1:]) > 0.8, "before any prompt"
    forest, item = PixelForest(), disks(1)[0]
    forest.start(item.image)
    robot, nothing = Robot(), np.zeros(item.truth.shape, bool)
    click = robot.prompt(item.truth, nothing, np.random.default_rng(0))
    assert forest.add(click)[click.position]


class Counter:
    """Better with every example, and best with the one that is nearest."""

    name = "multiverseg"

    def predict(self, examples, image, spacing=None):
        near = min(np.abs(entry.image - image).mean() for entry in examples)
        return image > 40 + (0 if near < 8 else 40 / len(examples))


def test_larger_contexts_hold_the_smaller_and_only_other_subjects(tmp_path):
    seen = []

    class Watcher(Counter):
        def predict(self, examples, image, spacing=None):
            seen.append([entry.info.id for entry in examples])
            return super().predict(examples, image, spacing)

    rows = list(run_contexts([Watcher()], disks(12), (1, 4, 10, 64), ("random",), 3, 2, tmp_path / "rows.csv"))
    assert [row["size"] for row in rows] == [1, 4, 10] * 6, "three targets, two draws, and nobody has 64"
    for small, large in zip(seen, seen[1:]):
        assert len(small) > len(large) or small == large[:len(small)]
    assert all(row["pool"] == 10 for row in rows), "twelve slices less the two of the target's subject"
    with (tmp_path / "rows.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    table = report.context_table(rows)
    assert "| 1 | 4 | 10 |" in table and "(1)" in table


def test_chosen_and_random_examples_are_compared_on_the_same_targets(tmp_path):
    rows = list(run_contexts([Counter()], disks(12), (2, 10), ("random", "chosen"), 3, 2, tmp_path / "rows.csv"))
    table = report.choice_table(rows)
    assert "| multiverseg | 2 |" in table
    assert "| multiverseg | 10 |" not in table, "ten of ten leaves no choice"


def test_the_command_runs_each_experiment(a_pack, weights, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--data", str(a_pack), "--weights", str(weights["multiverseg"]), "--universeg", str(weights["universeg"]),
              "--device", "cpu", "--out", str(out)]
    assert main(["experiment", "sequence", *common, "--images", "2", "--methods", "scribbleprompt,multiverseg"]) == 0
    printed = capsys.readouterr().out
    assert "| scribbleprompt |" in printed and "| multiverseg |" in printed and "| made/disk | 2 |" in printed
    record = json.loads((out / "run.json").read_text())
    assert {len(found) for found in record["weights_sha256"].values()} == {64}
    out = tmp_path / "sizes"
    common[-1] = str(out)
    for experiment in ("context-size", "selection"):
        assert main(["experiment", experiment, *common, "--sizes", "1,2", "--targets", "1", "--draws", "1"]) == 0
        printed = capsys.readouterr().out
        assert "multiverseg" in printed and "universeg" in printed
        assert (out / "curve.png").stat().st_size > 5000
        assert (out / "summary.md").read_text().strip() in printed


def test_volumes_are_answered_on_every_slice_and_on_key_slices(weights, tmp_path, capsys):
    index, arrays = [], {}
    for n, subject in enumerate(("ann", "bob", "cem")):
        truth = ellipsoid((10, 40, 40), (5, 18 + n, 20), (4, 9, 9))
        arrays[f"lab_{subject}"], arrays[f"img_{subject}"] = truth.astype(np.uint8), (40 + 150 * truth).astype(np.uint8)
        index.append({"key": subject, "subject": subject, "labels_present": [1], "spacing_zyx_mm": [3, 1, 1]})
    np.savez(tmp_path / "3d_balls.npz", index=json.dumps(index), labels=json.dumps({"1": "ball"}), **arrays)
    command = ["experiment", "volumes", "--data", str(tmp_path), "--targets", "2", "--device", "cpu",
               "--out", str(tmp_path / "out")]
    assert main([*command, "--weights", str(weights["multiverseg"])]) == 0
    printed = capsys.readouterr().out
    assert "every slice: Dice" in printed and "| 3d_balls/ball | 2 | 10 |" in printed and "| mean of tasks |" in printed
    with (tmp_path / "out" / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["subject"], row["way"]) for row in rows] == [
        (row, way) for row in dict.fromkeys(row["subject"] for row in rows) for way in ("every slice", "key slices, carried")]
    arrays = {name: stack for name, stack in arrays.items() if "ann" in name}
    np.savez(tmp_path / "3d_balls.npz", index=json.dumps(index[:1]), labels=json.dumps({"1": "ball"}), **arrays)
    assert main(command) == 1
    assert "volumes of two subjects" in capsys.readouterr().err


@pytest.mark.parametrize("extra, words", [
    (["sequence", "--methods", "magic"], "choose some of"),
    (["sequence", "--images", "0"], "count from 1"),
    (["context-size", "--sizes", "many"], "numbers from 1"),
    (["context-size", "--methods", "multiverseg", "--sizes", "500"], "smaller --sizes"),
])
def test_what_cannot_be_run_is_one_sentence(a_pack, weights, tmp_path, capsys, extra, words):
    command = ["experiment", *extra, "--data", str(a_pack), "--weights", str(weights["multiverseg"]), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert words in error.splitlines()[-1]


def test_the_context_command_checks_a_store_for_entries_that_disagree(weights, tmp_path, capsys, monkeypatch):
    from InteractiveSegLib.context import ContextStore, outliers

    context = ContextStore(tmp_path / "context.sqlite").open("study", "disk")
    for item in disks(5, size=128):
        context.add(item.image, item.truth)
    command = ["context", "check", str(tmp_path / "context.sqlite"), "--weights", str(weights["multiverseg"])]
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("0 of 5 entries disagree with the others\n"), "a random network is wrong everywhere"
    monkeypatch.setattr(outliers, "leave_one_out", lambda *found: np.array([0.9, 0.88, 0.2, 0.91, 0.9]))
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert context.infos()[2].id in printed and "1 of 5" in printed
    context.set_enabled(context.infos()[0].id, False)
    assert main(command) == 1
    assert "too few" in capsys.readouterr().err
