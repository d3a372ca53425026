-- The behaviour lane, in the order in which its files need each other. `imi db migrate` loads it in one transaction,
-- drops what no file names any more, and then runs the last file, which says who may enter. By hand:
--   imi db psql -- --single-transaction -f sql/load.sql
\ir prelude.sql
\ir log.sql
\ir events.sql
\ir publish.sql
\ir projections.sql
\ir projections_rebuild.sql
\ir workflows.sql
\ir causation.sql
\ir dead_letters.sql
\ir queues.sql
\ir relay.sql
\ir intake.sql
\ir subscriptions.sql
\ir stream.sql
\ir keys.sql
\ir remotes.sql
\ir work.sql
\ir git_state.sql
\ir claims.sql
\ir projects.sql
\ir worktrees.sql
\ir links.sql
\ir pull_requests.sql
\ir trace.sql
\ir components.sql
\ir agents.sql
\ir handlers.sql
\ir commands.sql
\ir stats.sql
\ir analytics.sql
\ir reports.sql
\ir ops.sql
\ir retention.sql
\ir dictionary.sql
\ir grants.sql
