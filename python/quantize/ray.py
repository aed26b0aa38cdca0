"""An executor whose calls are tasks of Ray: docs/scale.md."""

try:
    import ray  # noqa: F401
except ImportError as error:
    raise ImportError('quantize.ray needs the package ray: pip install "quantize-int4[ray]"') from error

from .adapters.ray_executor import RayExecutor

__all__ = ["RayExecutor"]
