"""A file per trained model, and the building of bundles."""

# Before torch, see there.
import alt_ros.encoders  # noqa: F401  # pyright: ignore[reportUnusedImport]
