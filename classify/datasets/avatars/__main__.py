"""Draw a pool of avatars as a folder.

python -m classify.datasets.avatars FOLDER --pool GENERATOR --train 50000 --val 0 --test 0
"""

from jsonargparse import auto_cli

from classify.datasets.avatars.table import avatar_table

if __name__ == "__main__":
    auto_cli(avatar_table, as_positional=True)
