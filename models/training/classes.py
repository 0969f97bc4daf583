"""What the detector tells apart, in its order. Apart from the network, so that measuring needs no torch."""

CLASSES = (
    "building",
    "blue_roof",
    "vehicle",
    "heavy_machine",
    "earthwork",
    "garbage",
    "floating_debris",
    "burning",
)
