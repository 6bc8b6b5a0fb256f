-- For Citus, after `memctl migrate`: the rows of an agent are kept on one node.
-- psql -f distribute.sql

SELECT create_distributed_table('agent_memory', 'agent_id');
SELECT create_distributed_table('archived_memories', 'agent_id', colocate_with => 'agent_memory');
SELECT create_distributed_table('memory_analytics', 'agent_id', colocate_with => 'agent_memory');
SELECT create_distributed_table('memory_events', 'agent_id', colocate_with => 'agent_memory');
SELECT create_distributed_table('memory_promotions', 'agent_id', colocate_with => 'agent_memory');
