-- Runs only if the table contains no memories.

DROP TABLE agent_memory;
