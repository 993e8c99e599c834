"""How long a test waits for a process before it calls it hung. CI machines have been four times slower than others."""

WAIT = 1200.0
RUN = 3000.0
