"""`coordd` as anybody starts it, but for one number: whether segments of what was dropped are left, it asks
without waiting a minute. So a test sees a drop end.
"""

from functools import partial

from coordd.cli import main
from coordd.rootcoord import serving
from coordd.rootcoord.life import Means

if __name__ == "__main__":
    assert serving.Means is Means
    serving.Means = partial(Means, segments_every_s=0.2)
    main()
