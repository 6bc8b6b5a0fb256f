-- Only ever run on a table that memctl created itself and that holds no memory.

DROP TABLE agent_memory;
