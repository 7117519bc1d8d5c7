"""Faults at random into real trainings, until the time is over: `python -m soak --minutes 30 --seed 0`.

Every tiny app is trained undisturbed once, and then again and again with faults: killed, told to stop, out of disk, a
checkpoint truncated or a bit of it flipped, a loader process killed, one of two processes killed. Each disturbed run is
taken up until it is finished, and its weights are compared with the undisturbed run's, bit for bit.

A fault counts as survived where its exit code and sentence are those that docs/reliability.md promises, and where the
run then went on from the newest checkpoint that was whole, which was at most so old as the time between two.

    python -m soak --minutes 30 --seed 0            the table of docs/reliability.md
    python -m soak --points 50 --app vision/vit-mnist-tiny    kill -9 at 50 random places of one run each
"""
