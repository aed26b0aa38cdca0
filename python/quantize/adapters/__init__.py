"""What other libraries ask of arrays, and how they are answered. Nothing here is imported before it is used.

The modules ``quantize.arrow``, ``dask``, ``numcodecs``, ``ray`` and ``zarr`` are the doors: they have the
public names, and say what to install where a library is missing.
"""
