"""A module that starts a thread when it is imported, after which its process is not forked."""

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
