"""The store contract, and each kind's own tests. One worker runs them: some stop daemons of the Ceph they share."""
