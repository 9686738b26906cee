"""ZooKeeper sessions told truly and brought back, over kazoo."""
