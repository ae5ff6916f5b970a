"""A file per trained model, and the building of bundles."""

import alt_ros.encoders  # noqa: F401  # before torch: see there
