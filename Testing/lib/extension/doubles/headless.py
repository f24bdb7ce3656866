"""Give slicer-core what slicer.util and our code expect of the application: a scene, module logics, messages."""
from __future__ import annotations

import tempfile
import types

import qt
import slicer
import vtk

LOGICS = {
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "plots": "vtkSlicerPlotsLogic",
    "markups": "vtkSlicerMarkupsLogic",
}


class ApplicationDouble:
    """slicer.app: what our code and slicer.util use of it. `start` and `quit` fire its signals."""

    applicationVersion = "5.8.1"
    layout = None  # there is no main window

    def __init__(self, application_logic):
        self._logic, self._slots = application_logic, {"startupCompleted()": [], "aboutToQuit()": []}
        self._folder = tempfile.TemporaryDirectory()

    @property
    def slicerUserSettingsFilePath(self):
        return f"{self._folder.name}/Slicer.ini"

    def applicationLogic(self):
        return self._logic

    def layoutManager(self):
        return self.layout

    def testingEnabled(self):
        return True

    def processEvents(self):
        qt.QApplication.instance().processEvents()

    def connect(self, signal, slot):
        if signal not in self._slots:
            return False
        self._slots[signal].append(slot)
        return True

    def start(self):
        for slot in self._slots["startupCompleted()"]:
            slot()

    def quit(self):
        for slot in self._slots["aboutToQuit()"]:
            slot()


class Headless:
    """One MRML scene with an application logic; becomes slicer.mrmlScene."""

    def __init__(self):
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.application_logic.SetMRMLScene(self.scene)
        colors = self.application_logic.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()
        self.application_logic.SetModuleLogic("Colors", colors)
        self.application_logic.SetSliceLogics(vtk.vtkCollection())
        self.application_logic.SetViewLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.logics = {name: self._logic(name, cls) for name, cls in LOGICS.items()}

    def _logic(self, name, class_name):
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(tempfile.gettempdir())
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self.application_logic)
        self.application_logic.SetModuleLogic(name.capitalize(), logic)
        return logic

    def prepare_files(self, cache_folder):
        """What reading an .mrb file needs; after each closing of the scene again."""
        remote = slicer.vtkMRMLRemoteIOLogic()
        remote.SetMRMLScene(self.scene)
        remote.SetMRMLApplicationLogic(self.application_logic)
        remote.GetCacheManager().SetRemoteCacheDirectory(str(cache_folder))
        data = slicer.vtkDataIOManagerLogic()
        data.SetMRMLScene(self.scene)
        data.SetMRMLApplicationLogic(self.application_logic)
        data.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        self._files = remote, data


def install() -> Headless:
    """A fresh scene under the names that the application gives it."""
    application = Headless()
    slicer.mrmlScene = application.scene
    slicer.modules = types.SimpleNamespace(
        **{name: types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in application.logics.items()}
    )
    slicer.app = ApplicationDouble(application.application_logic)
    return application
