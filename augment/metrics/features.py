"""Features of image files: extracted once, and kept by what the image and the encoder are.

The cache holds a folder an encoder, named by its card's key; in it, shards of the features of a few
thousand images each, with the hashes of the files they are from. So a second run extracts nothing,
a set that grew only what is new, and a run that is killed goes on; names and folders do not matter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import batched
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm.auto import tqdm

from augment.atomic import write_bytes
from augment.metrics.encoder import Encoder
