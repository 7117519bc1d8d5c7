"""Operations on sets of points: what each means stands beside it in plain torch, a compiled path serves CPUs.

    sample.py       farthest point sampling            neighbours.py   nearest neighbours, balls, gathering
    chamfer.py      distances between two sets         interpolate.py  features from the three nearest points
    surface.py      points on meshes                   voxels.py       one point a voxel
    normals.py      normals from neighbourhoods        largest.py      a linear layer, and its maximum over a set
    compiled.py, compiled_largest.py, tree.py, kernel.py               the numba kernels
    triton_op.py, triton_launch.py, triton_farthest.py, triton_nearest.py  the Triton kernels, aot.py their record

Signatures and shapes are pytorch3d's where it has the operation. Everywhere

    impl = "auto"        "triton" on a GPU, "compiled" on a CPU, "reference" for what these do not serve (dispatch.py)
    impl = "reference"   torch alone: any device, readable; what the others are tested against
    impl = "compiled"    numba, CPU, float32 and float64; the same indices, bit for bit
    impl = "triton"      kernels for a GPU (farthest points, neighbours and so Chamfer), float32; the same indices
    impl = "pytorch3d"   pytorch3d's own, where it is installed; not exercised in CI, for it has no wheel

and an implementation that is asked for and can't serve raises, it is never replaced. Distances are squared.

B clouds, N and M points, K neighbours, D coordinates, F features. A ragged batch is padded and has `lengths` [B].
"""

from isoform.pointcloud.ops.chamfer import chamfer_distance, chamfer_l1, chamfer_l2
from isoform.pointcloud.ops.interpolate import interpolate_three_nearest
from isoform.pointcloud.ops.neighbours import KNN, ball_query, knn_gather, knn_points
from isoform.pointcloud.ops.normals import estimate_normals
from isoform.pointcloud.ops.sample import sample_farthest_points
from isoform.pointcloud.ops.surface import sample_surface
from isoform.pointcloud.ops.voxels import thin_to_voxels

__all__ = [
    "KNN",
    "ball_query",
    "chamfer_distance",
    "chamfer_l1",
    "chamfer_l2",
    "estimate_normals",
    "interpolate_three_nearest",
    "knn_gather",
    "knn_points",
    "sample_farthest_points",
    "sample_surface",
    "thin_to_voxels",
]
