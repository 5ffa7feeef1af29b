"""From seeds to a folder of PNG files with its table: the only writer of images.

Seeds are generated in blocks of `batch_size`, always the same ones together, so that a run that was
killed and started again writes byte for byte what an uninterrupted one writes. A file is named by
its seed and carries it, with the settings, in its text chunks. Images are those of the seeds asked
for and no others: nothing is made only to fill a batch and thrown away.
"""

from augment.generate.config import SamplerConfig
from augment.generate.files import generate

__all__ = ["SamplerConfig", "generate"]
