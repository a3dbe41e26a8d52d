"""The strategies that `compare` knows, one module a family; `worker.offline.compare.registry` lists them all."""
