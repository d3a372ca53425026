-- migrate:up
alter table bloodbank.dead_letters
  add column subscription text,
  add constraint subscription_is_named check ((source = 'subscription') = (subscription is not null));
comment on column bloodbank.dead_letters.subscription is 'Whose handler failed; no foreign key: the letter outlives the subscription';

-- migrate:down
alter table bloodbank.dead_letters drop column subscription;
