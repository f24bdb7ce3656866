"""Pictures of slice and 3D views of slicer-core, with what Slicer's own displayable managers draw in them."""
from __future__ import annotations

import slicer
import vtk

MANAGERS_2D = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLModelSliceDisplayableManager")
MANAGERS_3D = (
    "vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager", "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)


def _managers(factory_class, names, renderer, node):
    factory = factory_class.GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    return group


def write_png(window, path) -> None:
    """What a render window shows."""
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


class SlicePicture:
    """The view of a slice widget double, filled with its background volume and the segmentations of the scene."""

    def __init__(self, widget) -> None:
        self._widget = widget
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        widget._renderer.AddActor2D(actor)
        slicer.app.applicationLogic().GetSliceLogics().AddItem(widget.sliceLogic())
        self._group = _managers(
            slicer.vtkMRMLSliceViewDisplayableManagerFactory, MANAGERS_2D, widget._renderer, widget.mrmlSliceNode()
        )

    def write(self, volume, path) -> None:
        logic = self._widget.sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self._mapper.SetInputConnection(logic.GetImageDataConnection())
        write_png(self._widget.sliceView().renderWindow(), path)


def write_surface(segmentation, path, size=(500, 400)) -> None:
    """The segmentation's closed surface, seen from the front."""
    segmentation.CreateClosedSurfaceRepresentation()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode", "Tour")
    node.SetBackgroundColor(0.1, 0.1, 0.15)
    node.SetBackgroundColor2(0.3, 0.3, 0.4)
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    group = _managers(slicer.vtkMRMLThreeDViewDisplayableManagerFactory, MANAGERS_3D, renderer, node)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0, 500, 120)
    camera.SetViewUp(0, 0, 1)
    window.Render()
    renderer.ResetCamera()
    write_png(window, path)
    group.SetMRMLDisplayableNode(None)
    slicer.mrmlScene.RemoveNode(node)
