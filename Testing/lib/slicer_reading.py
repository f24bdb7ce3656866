"""What Slicer itself makes of a file: its own readers, from slicer-core, tell where each voxel lies in RAS."""
import numpy as np


def segments_in_slicer(path):
    """{segment name: (colour, RAS of its voxels (n, 3))} of a .seg.nrrd, as vtkMRMLSegmentationStorageNode reads it."""
    import slicer
    import vtk

    node, _scene = read_node(slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode(), [path])
    segmentation, found = node.GetSegmentation(), {}
    for name in segmentation.GetSegmentIDs():
        labelmap = slicer.vtkOrientedImageData()
        assert node.GetBinaryLabelmapRepresentation(name, labelmap)
        array, first_kji = voxels(labelmap)
        place = vtk.vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(place)
        segment = segmentation.GetSegment(name)
        kji = np.argwhere(array) + first_kji
        found[segment.GetName()] = (segment.GetColor(), to_ras(kji, matrix(place)))
    return found


def volume_in_slicer(files):
    """(array (k, j, i), IJK to RAS 4x4) of an image file, or of DICOM files in the order of their slices."""
    import slicer
    import vtk

    node, _scene = read_node(slicer.vtkMRMLScalarVolumeNode(), slicer.vtkMRMLVolumeArchetypeStorageNode(), files)
    place = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(place)
    return voxels(node.GetImageData())[0], matrix(place)


def values_at(volume, ras):
    """The voxels of a volume_in_slicer at these points (n, 3), which must lie on voxel centres within 1e-3 of a voxel."""
    array, affine = volume
    ijk = (np.c_[ras, np.ones(len(ras))] @ np.linalg.inv(affine).T)[:, :3]
    assert np.abs(ijk - np.rint(ijk)).max() < 1e-3
    return array[tuple(np.rint(ijk).astype(int).T[::-1])]


def to_ras(kji, affine):
    """RAS (n, 3) of voxel indices (n, 3) in array order."""
    return (np.c_[kji[:, ::-1], np.ones(len(kji))] @ affine.T)[:, :3]


def read_node(node, storage, files):
    import slicer

    scene = slicer.vtkMRMLScene()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(files[0]))
    if len(files) > 1:
        for file in files:
            storage.AddFileName(str(file))
    assert storage.ReadData(node), f"Slicer cannot read {files[0]}"
    return node, scene


def voxels(image):
    """(array (k, j, i), index of its first voxel) of a vtkImageData."""
    from vtk.util.numpy_support import vtk_to_numpy

    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    return array, np.array([k0, j0, i0])


def matrix(vtk_matrix):
    return np.array([[vtk_matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
