from . import frames as frames
from . import images as images
from . import sequences as sequences
