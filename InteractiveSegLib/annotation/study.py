"""A study: a folder of cases, one structure to segment in each, and what is done so far. Prints nothing; files in, files out."""
from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..context import ContextEntry, ContextStore, check_task, make_entry, outliers
from ..io import LoadedImage, Segment, read_dicom_seg, read_image, read_mask, write_dicom_seg, write_segmentation
from ..models import find_family
from ..session import InteractiveSession
from ..terminology import find_name
from ..types import InteractiveSegError
from .actions import repeatable, write_prompts
from .case import OpenCase
from .cases import STATE, find_cases, find_reference
from .results import PROMPTS, TABLE, draw_curve, keep_outputs, make_folder, marked, sweep, write_table
from .state import ACCEPTED, EDITED, PROGRESS, SKIPPED, TODO, CaseRecord, StudyState

log = logging.getLogger(__name__)
RESULTS = "annotations"  # the results' folder inside the study, unless another one is given


def folder_of(task: str) -> str:
    """The name of a task's folder."""
    return task.strip().replace(" ", "_")


class Study:
    """Annotate one structure in the cases of a folder. Everything is on disk after each call; a new object goes on from there.

    folder: with NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF or DICOM, at any depth. task: the structure, such as "left atrium".
    output: where results go, by default `annotations` in the folder: TASK/CASE.seg.nrrd (and .dcm for DICOM), TASK/cases.csv,
    TASK/curve.png, the study's file and the context. references: a folder with masks that are called like the cases.
    label: which value of the references is the structure, any but 0 by default. context: another context store.
    frame: of images with several. options: of InteractiveSession, as model, weights, device, axis, window.
    """

    def __init__(self, folder: Path | str, task: str, output: Path | str | None = None, references: Path | str | None = None,
                 label: int | None = None, context: Path | str | None = None, frame: int | None = None,
                 every_slice: bool = False, **options: Any) -> None:
        self.folder, self.task = Path(folder), check_task(task)
        self.output = Path(output) if output is not None else self.folder / RESULTS
        self.results = self.output / folder_of(task)
        self.references = Path(references) if references is not None else None
        if self.references is not None and not self.references.is_dir():
            raise InteractiveSegError(f"{self.references} is not a folder: give the folder that holds the references.")
        self.family = find_family(options.get("model", "scribbleprompt"))
        self.label, self.frame, self.store, self.every_slice = label, frame, context, every_slice
        self.options = {**options, "targets": options.get("targets") or self._targets(options.get("weights"))}
        if self.output.resolve() == self.folder.resolve():
            raise InteractiveSegError(f"Results in {self.output} would lie among the images: give a folder of their own.")
        found = find_cases(self.folder, [path for path in (self.output, self.references) if path is not None])
        state = self.output / STATE
        if not found and not (state.is_file() and StudyState(state, self._rescue).records(task)):
            raise InteractiveSegError(f"{self.folder} holds no image: give a folder with NIfTI, NRRD, MHA, PNG or DICOM files.")
        make_folder(self.output)
        self.state = StudyState(state, self._rescue)
        for other in self.state.tasks():
            if other != task and folder_of(other).casefold() == folder_of(task).casefold():
                raise InteractiveSegError(f"The study has the task {other!r}, whose results lie where those of {task!r} would: "
                                          "write it like that, or take another name.")
        make_folder(self.results)
        self.state.put_files(found)
        store = ContextStore(self.store if self.store is not None else self.output / "context.sqlite")
        self.context = store.open(self.state.identity(), task)
        self.case: OpenCase | None = None
        self.make_session(LoadedImage(np.zeros((2, 2, 2)), np.eye(4), "", ""))  # so that a wrong option is said before any work
        self.forget()  # what was left by a process that was killed
        sweep(self.output)
        self.write_results()

    # what is there

    @property
    def cases(self) -> list[CaseRecord]:
        """All cases by name, 2 before 10."""
        return self.state.records(self.task)

    @property
    def segment(self) -> Segment:
        """How the structure is written: with title and codes where the model knows it by name, else as the task is called."""
        return Segment.of(*self.options["targets"], 1) if self.family.lists else Segment(self.task)

    def record(self, name: str) -> CaseRecord:
        """One of them."""
        return self.state.record(name, self.task)

    def next(self) -> CaseRecord | None:
        """The case to work on now: one in progress, else the first to do, after the open one first; None at the end."""
        cases = self.cases
        at = [c.name for c in cases].index(self.case.name) if self.case is not None else 0
        for wanted, among in ((PROGRESS, cases), (TODO, cases[at:] + cases[:at])):
            for case in among:
                if case.status == wanted and (self.case is None or case.name != self.case.name):
                    return case
        return None

    def previous(self) -> CaseRecord | None:
        """The case before the open one; without one, the case that was accepted last. `reopen` it to work on it again."""
        cases = self.cases
        if self.case is not None:
            at = [c.name for c in cases].index(self.case.name)
            return cases[at - 1] if at else None
        accepted = [case for case in cases if case.status == ACCEPTED]
        return max(accepted, key=lambda case: (case.changed, case.rank), default=None)

    def mask_file(self, name: str) -> Path:
        """Where the accepted mask of a case lies."""
        return self.results / f"{name}.seg.nrrd"

    def dicom_file(self, name: str) -> Path:
        """Where it lies as DICOM SEG, if the case is DICOM."""
        return self.results / f"{name}.dcm"

    def read(self, record: CaseRecord) -> LoadedImage:
        """A case's image."""
        return read_image(self.folder / record.source, record.series or None, self.frame, nested=False)

    def read_reference(self, record: CaseRecord, image: LoadedImage) -> np.ndarray | None:
        """Bool, the image's shape; None where the case has none."""
        path = find_reference(self.references, record.file) if self.references is not None else None
        if path is not None and path.resolve() == (self.folder / record.source).resolve():
            path = None  # the folder of the study was given for references, and this is the image itself
        if path is not None and path.suffix == ".dcm" and record.is_dicom:
            return read_dicom_seg(path, image, self.folder / record.source, record.series, self.frame, self.label)
        return read_mask(path, image, self.label) if path is not None else None

    # what a user does

    def open(self, name: str | None = None, session: InteractiveSession | None = None) -> OpenCase:
        """Open a case, by default the next one, with all that was done to it. The one that was open stays in progress.

        session: one on the same image, where the caller makes its own; otherwise the image is read.
        """
        record = self.record(name) if name is not None else self.next()
        if record is None:
            raise InteractiveSegError(f"Every case of {self.folder} is done: reopen one to change it.")
        if record.status == ACCEPTED:
            raise InteractiveSegError(f"{record.name} is accepted: reopen it to change it.")
        if session is None:
            image = self.read(record)
            session = self.make_session(image)
        else:
            image = LoadedImage(session.image, session.placement.affine, "", record.title)
        reference = self.read_reference(record, image)
        self.state.set_status(record.name, self.task, PROGRESS, note="")
        self.case = OpenCase(self.state, self.task, record, image, session, reference, self.every_slice)
        return self.case

    def make_session(self, image: LoadedImage) -> InteractiveSession:
        """A session on an image with the study's model and context."""
        context = self.context if self.family.contextual else None
        return InteractiveSession(image.array, affine=image.affine, context=context, **self.options)

    def _targets(self, weights: Path | str | None) -> tuple[str, ...] | None:
        """What the model calls the structure, where it knows some by name; None where it segments anything."""
        names = dict.fromkeys(name for names in self.family.lists for name in names)
        if not names:
            return None
        if weights is not None and self.family.named:  # the file knows names of its own, and says so
            return (self.task,)
        found = find_name(self.task, names)
        if found is None:
            raise InteractiveSegError(f"{self.family.title} knows {', '.join(names)}, got the task {self.task!r}: call it one of "
                                      "these, or choose a model that segments anything, such as multiverseg.")
        return (found,)

    def accept(self) -> CaseRecord:
        """Keep the open case's mask: files, context, table, curve. An empty mask says that the structure is not there.

        A case whose slices can be no examples is accepted without, and its note says why.
        """
        case = self._open_case()
        record = self.record(case.name)
        entries, notes = self._examples(case)
        path = self.mask_file(case.name)
        make_folder(path.parent)
        write_segmentation(path, case.mask, case.image.affine, [self.segment])
        notes += [EDITED] if case.by_hand else []
        if record.is_dicom:
            try:
                write_dicom_seg(self.dicom_file(case.name), case.mask, case.image.affine, self.folder / record.source,
                                record.series, self.frame, self.segment.name, self.family.title)
            except InteractiveSegError as error:  # the mask is safe in the other file
                notes.append(f"no DICOM SEG: {error}")
        note = self._relative("; ".join(note.rstrip(".") for note in notes))
        with self.state.changing(case.name, self.task, ACCEPTED, note=note, **case.results()):  # see `forget`
            if self.family.contextual:
                self._drop([case.name])
                self.context.put(entries)
        self.case = None
        doubted = self.doubt(case.name) if self.family.contextual else ""
        if doubted:
            self.state.set_status(case.name, self.task, ACCEPTED, note="; ".join(filter(None, [note, doubted])))
        self.write_results()
        return self.record(case.name)

    def doubt(self, name: str) -> str:
        """A sentence where an accepted case's mask is not what the other cases' examples predict, else "". See outliers.doubt."""
        case = self.context.digest(name)
        weights = {info.provenance.weights for info in self.context.infos() if info.provenance.case == case}
        options = {key: self.options[key] for key in ("weights", "device", "window") if key in self.options}
        words = json.dumps([self.family.name, sorted(weights), options.get("device"), options.get("window")])
        try:
            found = outliers.doubt(self.context, case, outliers.asking(self.family.name, **options), words)
        except InteractiveSegError as error:  # the case is accepted all the same
            log.warning("%s was not compared with the other cases: %s", name, error)
            return ""
        return "" if found is None else (f"its mask disagrees with what the other cases predict (Dice {found.dice:.2f}, where "
                                         f"{found.usual:.2f} is usual): look at it again")

    def skip(self, reason: str = "", name: str | None = None) -> CaseRecord:
        """Leave a case out, by default the open one; its mask and its examples are taken back."""
        name = name if name is not None else self._open_case().name
        self._take_back(name, SKIPPED, reason)
        for path in (self.mask_file(name), self.dicom_file(name)):
            path.unlink(missing_ok=True)
        return self.record(name)

    def reopen(self, name: str) -> CaseRecord:
        """Take an accepted or skipped case back into work, with all that was done to it."""
        record = self.record(name)
        if record.status in (ACCEPTED, SKIPPED):
            started = bool(self.state.journal(name, self.task)[0])
            self._take_back(name, PROGRESS if started else TODO, "")
        return self.record(name)

    def start_over(self, name: str) -> CaseRecord:
        """Forget all that was done to a case; an accepted mask's file stays until another one is accepted."""
        self.record(name)
        self.state.forget(name, self.task)
        self._take_back(name, TODO, "")
        return self.record(name)

    def put_off(self, name: str, status: str, reason: str) -> CaseRecord:
        """Note why a case could not be worked on. It keeps the status that it had, and nothing of it is deleted.

        Paths in the reason are noted as seen from the study's folder.
        """
        self.state.set_status(name, self.task, status, note=self._relative(reason))
        if self.case is not None and self.case.name == name:
            self.case = None
        self.write_results()
        return self.record(name)

    def forget(self) -> None:
        """Remove the examples of all cases that are not accepted from the context: an example counts only while its case is.

        No other process accepts a case meanwhile, so that nothing is removed that belongs to an accepted one.
        """
        with self.state.unaccepted(self.task) as names:
            self._drop(names)

    def write_results(self) -> None:
        """The table and the curve as files, from what is known of the cases."""
        cases = self.cases
        write_table(self.results / TABLE, cases)
        draw_curve(self.results / "curve.png", cases, self.task)

    def write_prompts(self, path: Path) -> None:
        """All that was said to the cases, as a file that `read_prompts` reads, so that it can be done again."""
        said = {case.name: repeatable(self.state.journal(case.name, self.task)[0]) for case in self.cases}
        write_prompts(path, {name: actions for name, actions in said.items() if actions})

    # how it is done

    def _open_case(self) -> OpenCase:
        if self.case is None:
            raise InteractiveSegError("No case is open: open one first.")
        return self.case

    def _examples(self, case: OpenCase) -> tuple[list[ContextEntry], list[str]]:
        """What a case teaches; none, and a sentence on it, where a slice can be no example."""
        try:
            return [make_entry(**example) for example in case.examples()] if self.family.contextual else [], []
        except InteractiveSegError as error:
            return [], [f"no example for other cases: {error}"]

    def _drop(self, names: Iterable[str]) -> None:
        digests = {self.context.digest(name) for name in names}
        gone = [info.id for info in self.context.infos() if info.provenance.case in digests]
        if gone:
            self.context.remove(*gone)

    def _relative(self, text: str) -> str:
        """A sentence with its paths as seen from the study's folder: tables and pages are handed on."""
        for root in (path for path in (self.folder, self.output, self.references) if path is not None):
            seen = os.path.relpath(root, self.folder)
            prefix = "" if seen == os.curdir else f"{seen}{os.sep}"
            for said in {str(root), str(root.absolute()), str(root.resolve())}:
                text = re.sub(rf"(?<![\w./\\-]){re.escape(said + os.sep)}", lambda _, prefix=prefix: prefix, text)
        return text

    def _rescue(self, mark: str) -> str:
        """Keep the outputs of a study whose file is damaged; how to do again what was said, in words."""
        keep_outputs(self.output, mark)
        said = marked(self.results / PROMPTS, mark)
        if not said.is_file():
            return ""
        options = {name: self.options.get(name) for name in ("model", "mode", "examples", "weights", "axis", "window")}
        options = {"references": self.references, "label": self.label, "context": self.store, "frame": self.frame, **options}
        words = ["interactive-seg", "annotate", self.folder, "--task", self.task, "-o", self.output, "--prompts", said]
        for name, value in options.items():
            words += [f"--{name}", ",".join(map(str, value)) if name == "window" else value] if value is not None else []
        words += ["--every-slice"] * self.every_slice
        return f"; `{shlex.join(map(str, words))}` says again all that was said, and accepts every case of that file"

    def _take_back(self, name: str, status: str, note: str) -> None:
        self.state.set_status(name, self.task, status, note=note, voxels=None, volume_ml=None, dice=None)
        self.forget()
        if self.case is not None and self.case.name == name:
            self.case = None
        self.write_results()
