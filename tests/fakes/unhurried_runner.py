"""The runner, but that it looks at limits by itself so seldom that what it knows soon, it was told of."""

import sys

from transship.runner import __main__ as runner
from transship.runner import dispatcher

LIMITS_EVERY_S = 120.0

if __name__ == "__main__":
    dispatcher.LIMITS_EVERY_S = LIMITS_EVERY_S  # type: ignore[misc]  # final in the product
    sys.exit(runner.main())
