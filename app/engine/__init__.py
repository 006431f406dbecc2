"""THE LOOPS: scheduler, worker, lease keeper, reaper and janitor."""
