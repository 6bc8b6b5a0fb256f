DROP TABLE memory_leases;
DROP TABLE memory_state;
DROP TABLE memory_promotions;
DROP TABLE memory_events;
DROP TABLE memory_runs;
DROP TABLE memory_analytics;
DROP TABLE archived_memories;
