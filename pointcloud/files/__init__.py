"""Clouds in and out of files: every row of a file is a point of the cloud, and stays one.

cloud.py    what a file holds: coordinates in its own frame, fields by their names, faces
read.py     a file of any kind as a `Cloud`
las.py ply.py pcd.py text.py arrays.py mesh.py     one kind of file each
write.py    a cloud with new fields, as .ply, .las or .laz
"""

from isoform.pointcloud.files.cloud import Cloud
from isoform.pointcloud.files.read import SUFFIXES, read_cloud
from isoform.pointcloud.files.write import write_cloud

__all__ = ["SUFFIXES", "Cloud", "read_cloud", "write_cloud"]
