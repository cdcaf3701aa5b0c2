"""The RBD store: images as block devices in a pool of a Ceph cluster."""

try:
    import rados
    import rbd
except ImportError as error:
    raise ImportError(
        "the Python modules rados and rbd are missing (apt-get install python3-rados python3-rbd, then make bootstrap)"
    ) from error
