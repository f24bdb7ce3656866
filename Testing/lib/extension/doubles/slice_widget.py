"""Stand-ins for a slice view and its widget, around a real slice node and a real offscreen render window."""
from __future__ import annotations

import slicer
import vtk
from strict import Strict


class SliceViewDouble(Strict):
    """qMRMLSliceView: the part that draws."""

    QT_CLASS = "qMRMLSliceView"

    def __init__(self, interactor):
        self._interactor = interactor

    def interactor(self):
        return self._interactor

    def renderWindow(self):
        return self._interactor.GetRenderWindow()

    def scheduleRender(self):
        pass

    def forceRender(self):
        self.renderWindow().Render()


class SliceWidgetDouble(Strict):
    """qMRMLSliceWidget: a view with its slice node and slice logic."""

    QT_CLASS = "qMRMLSliceWidget"
    PROPERTIES = {"sliceViewName": str}

    def __init__(self, application_logic, scene, name, size=(300, 240)):
        self._values = {"sliceViewName": name}
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        self._node = self._logic.AddSliceNode(name)
        self._node.SetDimensions(*size, 1)
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetSize(*size)
        self._renderer = vtk.vtkRenderer()
        window.AddRenderer(self._renderer)
        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetRenderWindow(window)
        interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._view = SliceViewDouble(interactor)

    def mrmlSliceNode(self):
        return self._node

    def sliceLogic(self):
        return self._logic

    def sliceView(self):
        return self._view
