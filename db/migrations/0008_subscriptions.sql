-- migrate:up
alter table bloodbank.dead_letters add column subscription text;
update bloodbank.dead_letters
set subscription = split_part(reason, ': ', 1), reason = substr(reason, strpos(reason, ': ') + 2)
where source = 'subscription';
alter table bloodbank.dead_letters
  add constraint subscription_is_named check ((source = 'subscription') = (subscription is not null));
comment on column bloodbank.dead_letters.subscription is 'Whose handler failed; no foreign key: the letter outlives the subscription';

alter table imi.work_items add column last_commit_at timestamptz;
comment on column imi.work_items.last_commit_at is 'When last_commit_hash was observed; last_sync_at moves with any sign of life';

insert into bloodbank.subscriptions (name, patterns, handler) values
  ('imi.commands', '{imi.cmd.*}', 'logic.handle_commands'),
  ('imi.plane_events', '{plane.ticket.*}', 'logic.handle_plane'),
  ('imi.git_events', '{git.push,git.pr.*}', 'logic.handle_git'),
  ('imi.mutation_events', '{tool.mutation.*}', 'logic.handle_mutation'),
  ('imi.deploy_events', '{ci.deploy.*}', 'logic.handle_deploy');

-- so that a log which nobody relays is seen to be behind
insert into bloodbank.cursors (name) values ('relay') on conflict do nothing;

-- migrate:down
delete from bloodbank.subscriptions where name in (
  'imi.commands', 'imi.plane_events', 'imi.git_events', 'imi.mutation_events', 'imi.deploy_events');
alter table imi.work_items drop column last_commit_at;
alter table bloodbank.dead_letters drop column subscription;
