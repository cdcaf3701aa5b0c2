"""All errors that are raised on purpose.

    TransshipError
    ├── ConfigurationRefused      a setting cannot be used; the service does not start
    │   └── SeveralRefused        several settings; all are named
    ├── ValueRefused              the value of a setting; becomes a ConfigurationRefused
    ├── RequestRefused            the caller must act: 4xx
    ├── TransferFailed            an import failed; `retryable` says whether a retry may help
    │   └── ImportStopped         cancelled or interrupted from outside, or out of time
    ├── LockLost                  another worker took over; stop and touch nothing
    ├── ParametersUnknown         another release wrote a flow run's parameters
    └── Superseded                the flow run has nothing left to do

A class declares its facts as fields and its texts as two templates over them (`TransshipError`): ``brief`` says what
happened and to what, ``remedy`` what to do about it, ``str(error)`` both. No text holds a secret, or the user name or
query of a URL. ``docs/errors.md`` lists all errors.
"""

from __future__ import annotations

from transship.domain.errors.base import *
from transship.domain.errors.operating import *
from transship.domain.errors.refusals import *
from transship.domain.errors.site import *
from transship.domain.errors.sources import *
from transship.domain.errors.staged import *
from transship.domain.errors.stores import *
from transship.domain.errors.transfers import *
