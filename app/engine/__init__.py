"""THE LOOPS: the scheduler, the worker and what keeps their promises."""
