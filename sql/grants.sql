-- Who may enter: run last in every load, when everything is there.
--
-- Nobody may do anything that is not granted here. What can be, is read from the catalogue: the API's functions, which
-- of them only read, which functions the analysts' and operators' views stand on (a view reads its tables with its
-- owner's rights, but calls its functions with the reader's). Only the doors, which no route and no view names, are a
-- list. A grant that is there already is not made again, so that a load under traffic touches no more than it must.

grant usage on schema api to imi_api, imi_reader;
grant usage on schema logic to imi_api, imi_reader, imi_worker, imi_analyst, imi_operator;
grant usage on schema analytics to imi_analyst;
grant usage on schema ops to imi_operator, imi_subscriber;
grant usage on schema pgmq to imi_subscriber;

do $$
declare
  v_ours constant text[] := array['imi_api', 'imi_reader', 'imi_worker', 'imi_analyst', 'imi_operator', 'imi_subscriber'];
  v_step record;
begin
  for v_step in
    with recursive doors (role, name) as (
      values
        ('imi_api', 'logic.key_check'), ('imi_api', 'logic.once'),
        ('imi_api', 'logic.ticket_key'),
        ('imi_reader', 'logic.health'), ('imi_reader', 'logic.metrics'),
        ('imi_reader', 'logic.stream_read'),
        ('imi_worker', 'logic.relay_read'), ('imi_worker', 'logic.relay_move'), ('imi_worker', 'logic.relay_deliver'),
        ('imi_subscriber', 'ops.subscribe'), ('imi_subscriber', 'ops.unsubscribe'), ('imi_subscriber', 'ops.reject'),
        ('imi_subscriber', 'pgmq.format_table_name'), ('imi_subscriber', 'pgmq.read'), ('imi_subscriber', 'pgmq.read_with_poll'),
        ('imi_subscriber', 'pgmq.delete'), ('imi_subscriber', 'pgmq.archive'), ('imi_subscriber', 'pgmq.set_vt'),
        ('imi_worker', 'logic.intake'), ('imi_worker', 'logic.intake_refuse'),
        ('imi_worker', 'logic.subscriptions_waiting'), ('imi_worker', 'logic.subscription_run'), ('imi_worker', 'logic.subscription_try')
    ), routines as (
      select pg_proc.*, pg_namespace.nspname
      from pg_proc join pg_namespace on pg_namespace.oid = pg_proc.pronamespace
      where pg_namespace.nspname in ('logic', 'api', 'analytics', 'ops', 'pgmq')
    ), views (entrance, oid) as (
      select pg_namespace.nspname, pg_class.oid
      from pg_class join pg_namespace on pg_namespace.oid = pg_class.relnamespace
      where pg_class.relkind = 'v' and pg_namespace.nspname in ('analytics', 'ops')
      union
      select views.entrance, inner_view.oid
      from views
      join pg_rewrite on pg_rewrite.ev_class = views.oid
      join pg_depend on pg_depend.classid = 'pg_rewrite'::regclass and pg_depend.objid = pg_rewrite.oid
        and pg_depend.refclassid = 'pg_class'::regclass
      join pg_class as inner_view on inner_view.oid = pg_depend.refobjid and inner_view.relkind = 'v'
    ), called (entrance, oid) as (
      select views.entrance, routines.oid
      from views
      join pg_rewrite on pg_rewrite.ev_class = views.oid
      join pg_depend on pg_depend.classid = 'pg_rewrite'::regclass and pg_depend.objid = pg_rewrite.oid
        and pg_depend.refclassid = 'pg_proc'::regclass
      join routines on routines.oid = pg_depend.refobjid
      union
      select called.entrance, callee.oid
      from called
      join pg_proc as caller on caller.oid = called.oid and not caller.prosecdef
      join routines as callee on caller.prosrc ~ format('\m%s\.%s\(', callee.nspname, callee.proname)
    ), wanted (oid, role) as (
      select oid, 'imi_api' from routines where nspname = 'api'
      union
      select oid, 'imi_reader' from routines where nspname = 'api' and (provolatile = 's' or proname in ('event_list', 'workflow_events'))
      union
      select oid, 'imi_operator' from routines where nspname = 'ops'
      union
      select oid, case entrance when 'ops' then 'imi_operator' else 'imi_analyst' end from called
      union
      select routines.oid, doors.role from doors join routines on doors.name = nspname || '.' || proname
    ), held (oid, role) as (
      select pg_proc.oid, coalesce(pg_roles.rolname::text, 'public')
      from pg_proc
      join pg_namespace on pg_namespace.oid = pg_proc.pronamespace
      cross join lateral aclexplode(coalesce(pg_proc.proacl, acldefault('f', pg_proc.proowner))) as item
      left join pg_roles on pg_roles.oid = item.grantee
      where (
          item.grantee = 0 and pg_namespace.nspname in ('logic', 'api', 'analytics', 'ops', 'imi', 'bloodbank', 'pgmq')
          or pg_roles.rolname = any (v_ours) and pg_namespace.nspname in ('logic', 'api', 'analytics', 'ops', 'pgmq')
        )
        and not exists (  -- of an extension's functions the database's superuser is the owner
          select from pg_depend
          where pg_depend.classid = 'pg_proc'::regclass and pg_depend.objid = pg_proc.oid and pg_depend.deptype = 'e'
        )
    )
    select format('revoke execute on routine %s from %s', oid::regprocedure, role) as statement
    from (select * from held except select * from wanted) as surplus
    union all
    select format('grant execute on routine %s to %I', oid::regprocedure, role)
    from (select * from wanted except select * from held) as missing
    union all
    select format('grant select on %s to %s', pg_class.oid::regclass, reader.role)
    from pg_class
    join pg_namespace on pg_namespace.oid = pg_class.relnamespace
    join (values ('analytics', 'imi_analyst'), ('ops', 'imi_operator')) as reader (schema, role)
      on reader.schema = pg_namespace.nspname
    where pg_class.relkind = 'v' and not has_table_privilege(reader.role, pg_class.oid, 'select')
  loop
    execute v_step.statement;
  end loop;
end
$$;
