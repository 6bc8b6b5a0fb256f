-- Runs only on a table that memctl created and that contains no memories.

DROP TABLE agent_memory;
