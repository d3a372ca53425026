-- After migrations 0001, 0002, 0003, 0004, 0005, 0006, 0007, 0008, 0009, as `imi db dump` writes it; not to be edited.

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

-- Name: bloodbank; Type: SCHEMA; Schema: -; Owner: -

CREATE SCHEMA bloodbank;

-- Name: SCHEMA bloodbank; Type: COMMENT; Schema: -; Owner: -

COMMENT ON SCHEMA bloodbank IS 'The event log of the bus: one append-only table, and everything that follows it';

-- Name: imi; Type: SCHEMA; Schema: -; Owner: -

CREATE SCHEMA imi;

-- Name: SCHEMA imi; Type: COMMENT; Schema: -; Owner: -

COMMENT ON SCHEMA imi IS 'Tables of the registry: projects, work, links, components, agents and keys';

-- Name: pg_trgm; Type: EXTENSION; Schema: -; Owner: -

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA imi;

-- Name: EXTENSION pg_trgm; Type: COMMENT; Schema: -; Owner: -

COMMENT ON EXTENSION pg_trgm IS 'text similarity measurement and index searching based on trigrams';

-- Name: refuse_update(); Type: FUNCTION; Schema: bloodbank; Owner: -

CREATE FUNCTION bloodbank.refuse_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception 'The event log is append-only' using errcode = '42501', hint = 'Publish another event that says what changed';
end
$$;

-- Name: FUNCTION refuse_update(); Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON FUNCTION bloodbank.refuse_update() IS 'The log is history: it takes no update';

SET default_tablespace = '';

SET default_table_access_method = heap;

-- Name: agent_sessions; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.agent_sessions (
    session_id uuid NOT NULL,
    agent_type text,
    agent_instance_id text,
    checkpoint_id text,
    workflow_id uuid,
    started_at timestamp with time zone NOT NULL,
    last_active_at timestamp with time zone NOT NULL,
    completed_at timestamp with time zone,
    status text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    marks jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT agent_type_is_short CHECK ((char_length(agent_type) <= 50)),
    CONSTRAINT session_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT session_status_is_known CHECK ((status = ANY (ARRAY['active'::text, 'completed'::text, 'blocked'::text])))
);

-- Name: TABLE agent_sessions; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.agent_sessions IS 'Sessions of agents that accepted a hand-off: a projection of the log, rebuildable from it';

-- Name: COLUMN agent_sessions.marks; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON COLUMN bloodbank.agent_sessions.marks IS 'By what each field was last set, {field: [rank…, position, value]}; the other columns are read from it';

-- Name: bindings; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.bindings (
    queue text NOT NULL COLLATE pg_catalog."C",
    pattern text NOT NULL COLLATE pg_catalog."C"
);

-- Name: TABLE bindings; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.bindings IS 'Which events go to which queue of the embedded bus';

-- Name: causes; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.causes (
    cause uuid NOT NULL,
    effect uuid NOT NULL
);

-- Name: TABLE causes; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.causes IS 'The edges of correlation_ids; no foreign keys, because an effect may arrive before its cause';

-- Name: cursors; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.cursors (
    name text NOT NULL COLLATE pg_catalog."C",
    "position" bigint DEFAULT 0 NOT NULL,
    leader text,
    moved_at timestamp with time zone DEFAULT now() NOT NULL
);

-- Name: TABLE cursors; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.cursors IS 'How far each follower of the log has come';

-- Name: dead_letters; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.dead_letters (
    id uuid DEFAULT uuidv7() NOT NULL,
    source text NOT NULL,
    event_id uuid,
    raw bytea,
    reason text NOT NULL,
    sqlstate text,
    attempts integer DEFAULT 1 NOT NULL,
    first_failed_at timestamp with time zone DEFAULT now() NOT NULL,
    last_failed_at timestamp with time zone DEFAULT now() NOT NULL,
    replayed_at timestamp with time zone,
    subscription text,
    CONSTRAINT dead_letter_source_is_known CHECK ((source = ANY (ARRAY['subscription'::text, 'intake'::text, 'relay'::text, 'projection'::text]))),
    CONSTRAINT subscription_is_named CHECK (((source = 'subscription'::text) = (subscription IS NOT NULL)))
);

-- Name: TABLE dead_letters; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.dead_letters IS 'What could not be stored or handled, with the reason, until somebody replays it';

-- Name: COLUMN dead_letters.subscription; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON COLUMN bloodbank.dead_letters.subscription IS 'Whose handler failed; no foreign key: the letter outlives the subscription';

-- Name: events; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.events (
    "position" bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL COLLATE pg_catalog."C",
    "timestamp" timestamp with time zone NOT NULL,
    version text NOT NULL,
    source jsonb NOT NULL,
    correlation_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    agent_context jsonb,
    payload jsonb NOT NULL,
    extra jsonb,
    ingested_at timestamp with time zone DEFAULT now() NOT NULL,
    arrived text NOT NULL,
    CONSTRAINT arrived_is_known CHECK ((arrived = ANY (ARRAY['local'::text, 'bus'::text]))),
    CONSTRAINT event_type_is_a_topic CHECK (((octet_length(event_type) <= 255) AND (event_type ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$'::text))),
    CONSTRAINT version_is_short CHECK ((char_length(version) <= 20))
);

-- Name: TABLE events; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.events IS 'Every event of the bus, once, in the order of position; history and outbox at once';

-- Name: COLUMN events.extra; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON COLUMN bloodbank.events.extra IS 'Unknown keys of the envelope, merged back when it is served';

-- Name: COLUMN events.arrived; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON COLUMN bloodbank.events.arrived IS 'local: made here or posted to the API, the relay sends it; bus: came from the bus';

-- Name: events_position_seq; Type: SEQUENCE; Schema: bloodbank; Owner: -

ALTER TABLE bloodbank.events ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME bloodbank.events_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: subscriptions; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.subscriptions (
    name text NOT NULL COLLATE pg_catalog."C",
    patterns text[] NOT NULL,
    handler text NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    CONSTRAINT attempts_is_not_negative CHECK ((attempts >= 0))
);

-- Name: TABLE subscriptions; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.subscriptions IS 'Handlers that follow the log: which events, which SQL function, how far';

-- Name: wake; Type: SEQUENCE; Schema: bloodbank; Owner: -

CREATE SEQUENCE bloodbank.wake
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

-- Name: workflow_state; Type: TABLE; Schema: bloodbank; Owner: -

CREATE TABLE bloodbank.workflow_state (
    workflow_id uuid NOT NULL,
    project_name text,
    current_phase text,
    current_agent text,
    started_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    completed_at timestamp with time zone,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    correlation_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    last_event_id uuid,
    marks jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT current_agent_is_short CHECK ((char_length(current_agent) <= 100)),
    CONSTRAINT current_phase_is_short CHECK ((char_length(current_phase) <= 50)),
    CONSTRAINT project_name_is_short CHECK ((char_length(project_name) <= 255)),
    CONSTRAINT workflow_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text))
);

-- Name: TABLE workflow_state; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON TABLE bloodbank.workflow_state IS 'Where each workflow stands: a projection of the log, rebuildable from it';

-- Name: COLUMN workflow_state.marks; Type: COMMENT; Schema: bloodbank; Owner: -

COMMENT ON COLUMN bloodbank.workflow_state.marks IS 'By what each field was last set, {field: [rank…, position, value]}; the other columns are read from it';

-- Name: activities; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.activities (
    id uuid NOT NULL,
    work_item_id uuid NOT NULL,
    agent_id text COLLATE pg_catalog."C",
    activity_type text NOT NULL COLLATE pg_catalog."C",
    path text COLLATE pg_catalog."C",
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    CONSTRAINT activity_details_are_an_object CHECK ((jsonb_typeof(details) = 'object'::text)),
    CONSTRAINT activity_type_is_not_empty CHECK ((activity_type <> ''::text))
);

-- Name: TABLE activities; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.activities IS 'What agents and people did to files and branches; the id is the reporter''s, so that a repeated report is one row';

-- Name: agents; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.agents (
    id text NOT NULL COLLATE pg_catalog."C",
    name text,
    type text,
    host text,
    last_seen timestamp with time zone DEFAULT now() NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT agent_id_is_not_empty CHECK ((id <> ''::text)),
    CONSTRAINT agent_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT agent_type_is_known CHECK ((type = ANY (ARRAY['human'::text, 'ai_code_writer'::text, 'ai_reviewer'::text, 'ai_tester'::text, 'orchestrator'::text, 'service'::text])))
);

-- Name: TABLE agents; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.agents IS 'People and programs that have reported or claimed something; the first word makes the row';

-- Name: api_keys; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.api_keys (
    id uuid DEFAULT uuidv7() NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL,
    scope text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_used_at timestamp with time zone,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT key_hash_is_sha256 CHECK ((octet_length(key_hash) = 32)),
    CONSTRAINT key_name_is_not_empty CHECK ((name <> ''::text)),
    CONSTRAINT scope_is_known CHECK ((scope = ANY (ARRAY['read'::text, 'write'::text, 'admin'::text])))
);

-- Name: TABLE api_keys; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.api_keys IS 'Keys of the HTTP API; only their SHA-256 is kept';

-- Name: claims; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.claims (
    work_item_id uuid NOT NULL,
    agent_id text COLLATE pg_catalog."C",
    claimed_at timestamp with time zone,
    lease_until timestamp with time zone,
    fencing_token bigint NOT NULL,
    CONSTRAINT claim_is_whole_or_released CHECK ((((agent_id IS NULL) = (lease_until IS NULL)) AND ((agent_id IS NULL) = (claimed_at IS NULL)))),
    CONSTRAINT fencing_token_is_positive CHECK ((fencing_token > 0))
);

-- Name: TABLE claims; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.claims IS 'Who may write on a work item, until when. The row outlives its release, so that no fencing token comes twice';

-- Name: component_relationships; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.component_relationships (
    id uuid DEFAULT uuidv7() NOT NULL,
    source_component_id uuid NOT NULL,
    target_component_id uuid NOT NULL,
    relationship_type text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT component_is_not_related_to_itself CHECK ((source_component_id <> target_component_id)),
    CONSTRAINT relationship_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT relationship_type_is_known CHECK ((relationship_type = ANY (ARRAY['depends_on'::text, 'produces_events_for'::text, 'consumes_events_from'::text])))
);

-- Name: TABLE component_relationships; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.component_relationships IS 'Directed edges between components; cycles are legal data';

-- Name: components; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.components (
    id uuid DEFAULT uuidv7() NOT NULL,
    parent_project_id uuid NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL,
    kind text NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    linked_project_id uuid,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT component_kind_is_known CHECK ((kind = ANY (ARRAY['submodule'::text, 'local'::text, 'external'::text]))),
    CONSTRAINT component_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT component_name_is_not_empty CHECK ((name <> ''::text))
);

-- Name: TABLE components; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.components IS 'The parts a meta-repository is made of';

-- Name: deploy_links; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.deploy_links (
    id uuid DEFAULT uuidv7() NOT NULL,
    work_item_id uuid NOT NULL,
    deploy_id text NOT NULL COLLATE pg_catalog."C",
    environment text NOT NULL COLLATE pg_catalog."C",
    commit_hash text NOT NULL COLLATE pg_catalog."C",
    deployed_at timestamp with time zone DEFAULT now() NOT NULL,
    evidence jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT commit_hash_is_not_empty CHECK ((commit_hash <> ''::text)),
    CONSTRAINT deploy_evidence_is_an_object CHECK ((jsonb_typeof(evidence) = 'object'::text)),
    CONSTRAINT deploy_id_is_not_empty CHECK ((deploy_id <> ''::text)),
    CONSTRAINT deploy_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT environment_is_not_empty CHECK ((environment <> ''::text))
);

-- Name: TABLE deploy_links; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.deploy_links IS 'Where and when a work item was deployed';

-- Name: COLUMN deploy_links.evidence; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON COLUMN imi.deploy_links.evidence IS 'How the link came to be: the rule, and the event that carried it';

-- Name: idempotency_keys; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.idempotency_keys (
    principal text NOT NULL COLLATE pg_catalog."C",
    operation text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    body_hash text NOT NULL COLLATE pg_catalog."C",
    status integer,
    reply json,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

-- Name: TABLE idempotency_keys; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.idempotency_keys IS 'Replies to requests that carried an Idempotency-Key, kept for 7 days';

-- Name: pr_links; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.pr_links (
    id uuid DEFAULT uuidv7() NOT NULL,
    work_item_id uuid NOT NULL,
    pr_number integer NOT NULL,
    pr_url text NOT NULL COLLATE pg_catalog."C",
    pr_state text DEFAULT 'open'::text NOT NULL,
    pr_title text,
    evidence jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT pr_evidence_is_an_object CHECK ((jsonb_typeof(evidence) = 'object'::text)),
    CONSTRAINT pr_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT pr_number_is_positive CHECK ((pr_number > 0)),
    CONSTRAINT pr_state_is_known CHECK ((pr_state = ANY (ARRAY['open'::text, 'merged'::text, 'closed'::text]))),
    CONSTRAINT pr_url_is_not_empty CHECK ((pr_url <> ''::text))
);

-- Name: TABLE pr_links; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.pr_links IS 'Which pull request a work item became; a number is not unique over projects, its URL is';

-- Name: COLUMN pr_links.evidence; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON COLUMN imi.pr_links.evidence IS 'How the link came to be: the rule, and the event that carried it';

-- Name: project_remotes; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.project_remotes (
    remote_key text NOT NULL COLLATE pg_catalog."C",
    project_id uuid NOT NULL,
    is_current boolean DEFAULT true NOT NULL
);

-- Name: TABLE project_remotes; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.project_remotes IS 'Every remote a project has or had, in canonical form; the primary key is the identity of projects';

-- Name: projects; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.projects (
    id uuid DEFAULT uuidv7() NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    remote_origin text NOT NULL,
    default_branch text DEFAULT 'main'::text NOT NULL,
    trunk_path text,
    description text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT default_branch_is_not_empty CHECK ((default_branch <> ''::text)),
    CONSTRAINT project_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT project_name_is_not_empty CHECK ((name <> ''::text))
);

-- Name: TABLE projects; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.projects IS 'One row a repository; its identity is in project_remotes';

-- Name: COLUMN projects.remote_origin; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON COLUMN imi.projects.remote_origin IS 'As the first registration (or the last move) spelled it, credentials removed';

-- Name: ticket_links; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.ticket_links (
    id uuid DEFAULT uuidv7() NOT NULL,
    work_item_id uuid NOT NULL,
    plane_ticket_id text NOT NULL COLLATE pg_catalog."C",
    ticket_title text,
    ticket_url text,
    ticket_state text,
    evidence jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ticket_evidence_is_an_object CHECK ((jsonb_typeof(evidence) = 'object'::text)),
    CONSTRAINT ticket_id_is_not_empty CHECK ((plane_ticket_id <> ''::text)),
    CONSTRAINT ticket_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text))
);

-- Name: TABLE ticket_links; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.ticket_links IS 'Which ticket a work item serves';

-- Name: COLUMN ticket_links.evidence; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON COLUMN imi.ticket_links.evidence IS 'How the link came to be: the rule, and the event that carried it';

-- Name: work_items; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.work_items (
    id uuid DEFAULT uuidv7() NOT NULL,
    project_id uuid NOT NULL,
    branch_name text NOT NULL COLLATE pg_catalog."C",
    work_type text DEFAULT 'feature'::text NOT NULL,
    source_type text DEFAULT 'manual'::text NOT NULL,
    source_ref text COLLATE pg_catalog."C",
    owner_id text NOT NULL COLLATE pg_catalog."C",
    worktree_path text,
    host text COLLATE pg_catalog."C",
    has_uncommitted_changes boolean DEFAULT false NOT NULL,
    uncommitted_files_count integer DEFAULT 0 NOT NULL,
    ahead_of_trunk integer DEFAULT 0 NOT NULL,
    behind_trunk integer DEFAULT 0 NOT NULL,
    last_commit_hash text COLLATE pg_catalog."C",
    last_commit_message text,
    last_sync_at timestamp with time zone,
    completed_at timestamp with time zone,
    completion_type text,
    completion_evidence jsonb,
    merge_commit_hash text COLLATE pg_catalog."C",
    merged_by text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    last_commit_at timestamp with time zone,
    CONSTRAINT ahead_is_not_negative CHECK ((ahead_of_trunk >= 0)),
    CONSTRAINT behind_is_not_negative CHECK ((behind_trunk >= 0)),
    CONSTRAINT branch_name_is_not_empty CHECK ((branch_name <> ''::text)),
    CONSTRAINT completed_work_is_not_active CHECK (((completed_at IS NULL) OR (NOT active))),
    CONSTRAINT completion_has_time_and_type CHECK (((completed_at IS NULL) = (completion_type IS NULL))),
    CONSTRAINT completion_type_is_known CHECK ((completion_type = ANY (ARRAY['merged'::text, 'abandoned'::text, 'superseded'::text]))),
    CONSTRAINT owner_is_not_empty CHECK ((owner_id <> ''::text)),
    CONSTRAINT source_type_is_known CHECK ((source_type = ANY (ARRAY['plane_ticket'::text, 'bloodbank_command'::text, 'agent_assignment'::text, 'manual'::text]))),
    CONSTRAINT uncommitted_files_is_not_negative CHECK ((uncommitted_files_count >= 0)),
    CONSTRAINT work_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT work_type_is_known CHECK ((work_type = ANY (ARRAY['feature'::text, 'fix'::text, 'experiment'::text, 'review'::text, 'devops'::text, 'aiops'::text])))
);

-- Name: TABLE work_items; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.work_items IS 'One row a branch somebody works on; its status is computed, never stored';

-- Name: COLUMN work_items.last_commit_at; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON COLUMN imi.work_items.last_commit_at IS 'When last_commit_hash was observed; last_sync_at moves with any sign of life';

-- Name: worktrees; Type: TABLE; Schema: imi; Owner: -

CREATE TABLE imi.worktrees (
    id uuid DEFAULT uuidv7() NOT NULL,
    project_id uuid NOT NULL,
    work_item_id uuid,
    name text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    host text NOT NULL COLLATE pg_catalog."C",
    branch_name text COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_accessed timestamp with time zone DEFAULT now() NOT NULL,
    removed_at timestamp with time zone,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT worktree_host_is_not_empty CHECK ((host <> ''::text)),
    CONSTRAINT worktree_metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT worktree_name_is_not_empty CHECK ((name <> ''::text)),
    CONSTRAINT worktree_path_is_not_empty CHECK ((path <> ''::text))
);

-- Name: TABLE worktrees; Type: COMMENT; Schema: imi; Owner: -

COMMENT ON TABLE imi.worktrees IS 'Folders on somebody''s disk that hold a branch; a removed one keeps its row';

-- Name: agent_sessions agent_sessions_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.agent_sessions
    ADD CONSTRAINT agent_sessions_pkey PRIMARY KEY (session_id);

-- Name: bindings bindings_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.bindings
    ADD CONSTRAINT bindings_pkey PRIMARY KEY (queue, pattern);

-- Name: causes causes_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.causes
    ADD CONSTRAINT causes_pkey PRIMARY KEY (cause, effect);

-- Name: cursors cursors_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.cursors
    ADD CONSTRAINT cursors_pkey PRIMARY KEY (name);

-- Name: dead_letters dead_letters_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);

-- Name: events events_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);

-- Name: events one_event_per_position; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.events
    ADD CONSTRAINT one_event_per_position UNIQUE ("position");

-- Name: subscriptions subscriptions_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (name);

-- Name: workflow_state workflow_state_pkey; Type: CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.workflow_state
    ADD CONSTRAINT workflow_state_pkey PRIMARY KEY (workflow_id);

-- Name: activities activities_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.activities
    ADD CONSTRAINT activities_pkey PRIMARY KEY (id);

-- Name: agents agents_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.agents
    ADD CONSTRAINT agents_pkey PRIMARY KEY (id);

-- Name: api_keys api_keys_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);

-- Name: claims claims_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.claims
    ADD CONSTRAINT claims_pkey PRIMARY KEY (work_item_id);

-- Name: component_relationships component_relationships_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.component_relationships
    ADD CONSTRAINT component_relationships_pkey PRIMARY KEY (id);

-- Name: components components_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.components
    ADD CONSTRAINT components_pkey PRIMARY KEY (id);

-- Name: deploy_links deploy_links_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.deploy_links
    ADD CONSTRAINT deploy_links_pkey PRIMARY KEY (id);

-- Name: idempotency_keys idempotency_keys_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (principal, operation, key);

-- Name: components one_component_per_name; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.components
    ADD CONSTRAINT one_component_per_name UNIQUE (parent_project_id, name);

-- Name: deploy_links one_link_per_deploy; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.deploy_links
    ADD CONSTRAINT one_link_per_deploy UNIQUE (work_item_id, deploy_id, environment);

-- Name: pr_links one_link_per_pr; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.pr_links
    ADD CONSTRAINT one_link_per_pr UNIQUE (work_item_id, pr_url);

-- Name: ticket_links one_link_per_ticket; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.ticket_links
    ADD CONSTRAINT one_link_per_ticket UNIQUE (work_item_id, plane_ticket_id);

-- Name: component_relationships one_relationship_per_type; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.component_relationships
    ADD CONSTRAINT one_relationship_per_type UNIQUE (source_component_id, target_component_id, relationship_type);

-- Name: api_keys one_row_per_key; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.api_keys
    ADD CONSTRAINT one_row_per_key UNIQUE (key_hash);

-- Name: pr_links pr_links_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.pr_links
    ADD CONSTRAINT pr_links_pkey PRIMARY KEY (id);

-- Name: project_remotes project_remotes_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.project_remotes
    ADD CONSTRAINT project_remotes_pkey PRIMARY KEY (remote_key);

-- Name: projects projects_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY (id);

-- Name: ticket_links ticket_links_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.ticket_links
    ADD CONSTRAINT ticket_links_pkey PRIMARY KEY (id);

-- Name: work_items work_items_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.work_items
    ADD CONSTRAINT work_items_pkey PRIMARY KEY (id);

-- Name: worktrees worktrees_pkey; Type: CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.worktrees
    ADD CONSTRAINT worktrees_pkey PRIMARY KEY (id);

-- Name: agent_sessions_by_checkpoint; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX agent_sessions_by_checkpoint ON bloodbank.agent_sessions USING btree (checkpoint_id);

-- Name: agent_sessions_by_status; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX agent_sessions_by_status ON bloodbank.agent_sessions USING btree (status, last_active_at DESC);

-- Name: agent_sessions_by_workflow; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX agent_sessions_by_workflow ON bloodbank.agent_sessions USING btree (workflow_id);

-- Name: causes_by_effect; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX causes_by_effect ON bloodbank.causes USING btree (effect);

-- Name: dead_letters_by_event; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX dead_letters_by_event ON bloodbank.dead_letters USING btree (event_id) WHERE (event_id IS NOT NULL);

-- Name: dead_letters_waiting; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX dead_letters_waiting ON bloodbank.dead_letters USING btree (last_failed_at DESC, id DESC) WHERE (replayed_at IS NULL);

-- Name: events_by_checkpoint; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX events_by_checkpoint ON bloodbank.events USING btree (((agent_context ->> 'checkpoint_id'::text))) WHERE ((agent_context ->> 'checkpoint_id'::text) IS NOT NULL);

-- Name: events_by_time; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX events_by_time ON bloodbank.events USING btree ("timestamp" DESC, "position" DESC);

-- Name: events_by_type; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX events_by_type ON bloodbank.events USING btree (event_type, "timestamp" DESC, "position" DESC);

-- Name: events_by_workflow; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX events_by_workflow ON bloodbank.events USING btree (lower((payload ->> 'workflow_id'::text)), "position") WHERE ((payload ->> 'workflow_id'::text) IS NOT NULL);

-- Name: workflow_state_by_phase; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX workflow_state_by_phase ON bloodbank.workflow_state USING btree (current_phase);

-- Name: workflow_state_by_project; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX workflow_state_by_project ON bloodbank.workflow_state USING btree (project_name);

-- Name: workflow_state_by_update; Type: INDEX; Schema: bloodbank; Owner: -

CREATE INDEX workflow_state_by_update ON bloodbank.workflow_state USING btree (updated_at DESC);

-- Name: activities_by_agent; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX activities_by_agent ON imi.activities USING btree (agent_id) WHERE (agent_id IS NOT NULL);

-- Name: activities_by_path; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX activities_by_path ON imi.activities USING btree (path, occurred_at) WHERE (path IS NOT NULL);

-- Name: activities_by_time; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX activities_by_time ON imi.activities USING btree (occurred_at) WHERE (path IS NOT NULL);

-- Name: activities_by_work_item; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX activities_by_work_item ON imi.activities USING btree (work_item_id, occurred_at);

-- Name: agents_by_last_seen; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX agents_by_last_seen ON imi.agents USING btree (last_seen DESC, id);

-- Name: claims_by_agent; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX claims_by_agent ON imi.claims USING btree (agent_id) WHERE (agent_id IS NOT NULL);

-- Name: component_relationships_by_target; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX component_relationships_by_target ON imi.component_relationships USING btree (target_component_id);

-- Name: components_by_age; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX components_by_age ON imi.components USING btree (created_at DESC, id DESC);

-- Name: components_by_linked_project; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX components_by_linked_project ON imi.components USING btree (linked_project_id) WHERE (linked_project_id IS NOT NULL);

-- Name: components_by_metadata; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX components_by_metadata ON imi.components USING gin (metadata jsonb_path_ops);

-- Name: deploy_links_by_commit; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX deploy_links_by_commit ON imi.deploy_links USING btree (commit_hash);

-- Name: deploy_links_by_deploy; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX deploy_links_by_deploy ON imi.deploy_links USING btree (deploy_id);

-- Name: deploy_links_by_time; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX deploy_links_by_time ON imi.deploy_links USING btree (deployed_at);

-- Name: idempotency_keys_by_age; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX idempotency_keys_by_age ON imi.idempotency_keys USING btree (created_at);

-- Name: one_active_item_per_branch; Type: INDEX; Schema: imi; Owner: -

CREATE UNIQUE INDEX one_active_item_per_branch ON imi.work_items USING btree (project_id, branch_name) WHERE active;

-- Name: one_worktree_per_name; Type: INDEX; Schema: imi; Owner: -

CREATE UNIQUE INDEX one_worktree_per_name ON imi.worktrees USING btree (project_id, host, name) WHERE (removed_at IS NULL);

-- Name: one_worktree_per_path; Type: INDEX; Schema: imi; Owner: -

CREATE UNIQUE INDEX one_worktree_per_path ON imi.worktrees USING btree (host, path) WHERE (removed_at IS NULL);

-- Name: pr_links_by_number; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX pr_links_by_number ON imi.pr_links USING btree (pr_number);

-- Name: pr_links_by_url; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX pr_links_by_url ON imi.pr_links USING btree (pr_url);

-- Name: project_has_one_current_remote; Type: INDEX; Schema: imi; Owner: -

CREATE UNIQUE INDEX project_has_one_current_remote ON imi.project_remotes USING btree (project_id) WHERE is_current;

-- Name: project_remotes_by_project; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX project_remotes_by_project ON imi.project_remotes USING btree (project_id);

-- Name: projects_by_age; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX projects_by_age ON imi.projects USING btree (created_at DESC, id DESC);

-- Name: projects_by_metadata; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX projects_by_metadata ON imi.projects USING gin (metadata jsonb_path_ops);

-- Name: projects_by_name_trigram; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX projects_by_name_trigram ON imi.projects USING gin (name imi.gin_trgm_ops);

-- Name: ticket_links_by_ticket; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX ticket_links_by_ticket ON imi.ticket_links USING btree (plane_ticket_id);

-- Name: work_in_flight_by_age; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_in_flight_by_age ON imi.work_items USING btree (created_at DESC, id DESC) INCLUDE (owner_id) WHERE (active AND (has_uncommitted_changes OR (ahead_of_trunk > 0) OR (behind_trunk > 0)));

-- Name: work_in_flight_by_project; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_in_flight_by_project ON imi.work_items USING btree (project_id, created_at DESC, id DESC) INCLUDE (owner_id) WHERE (active AND (has_uncommitted_changes OR (ahead_of_trunk > 0) OR (behind_trunk > 0)));

-- Name: work_items_by_age; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_age ON imi.work_items USING btree (created_at DESC, id DESC);

-- Name: work_items_by_branch; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_branch ON imi.work_items USING btree (branch_name);

-- Name: work_items_by_last_commit; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_last_commit ON imi.work_items USING btree (last_commit_hash) WHERE (last_commit_hash IS NOT NULL);

-- Name: work_items_by_merge_commit; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_merge_commit ON imi.work_items USING btree (merge_commit_hash) WHERE (merge_commit_hash IS NOT NULL);

-- Name: work_items_by_owner; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_owner ON imi.work_items USING btree (owner_id, created_at DESC, id DESC);

-- Name: work_items_by_project; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_project ON imi.work_items USING btree (project_id, created_at DESC, id DESC);

-- Name: work_items_by_source; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX work_items_by_source ON imi.work_items USING btree (source_ref) WHERE (source_ref IS NOT NULL);

-- Name: worktrees_by_age; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX worktrees_by_age ON imi.worktrees USING btree (created_at DESC, id DESC);

-- Name: worktrees_by_project; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX worktrees_by_project ON imi.worktrees USING btree (project_id, created_at DESC, id DESC);

-- Name: worktrees_by_work_item; Type: INDEX; Schema: imi; Owner: -

CREATE INDEX worktrees_by_work_item ON imi.worktrees USING btree (work_item_id) WHERE (work_item_id IS NOT NULL);

-- Name: events events_are_append_only; Type: TRIGGER; Schema: bloodbank; Owner: -

CREATE TRIGGER events_are_append_only BEFORE UPDATE ON bloodbank.events FOR EACH STATEMENT EXECUTE FUNCTION bloodbank.refuse_update();

-- Name: agent_sessions session_is_of_a_workflow; Type: FK CONSTRAINT; Schema: bloodbank; Owner: -

ALTER TABLE ONLY bloodbank.agent_sessions
    ADD CONSTRAINT session_is_of_a_workflow FOREIGN KEY (workflow_id) REFERENCES bloodbank.workflow_state(workflow_id);

-- Name: activities activity_is_by_an_agent; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.activities
    ADD CONSTRAINT activity_is_by_an_agent FOREIGN KEY (agent_id) REFERENCES imi.agents(id);

-- Name: activities activity_is_on_a_work_item; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.activities
    ADD CONSTRAINT activity_is_on_a_work_item FOREIGN KEY (work_item_id) REFERENCES imi.work_items(id);

-- Name: claims claim_is_held_by_an_agent; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.claims
    ADD CONSTRAINT claim_is_held_by_an_agent FOREIGN KEY (agent_id) REFERENCES imi.agents(id);

-- Name: claims claim_is_on_a_work_item; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.claims
    ADD CONSTRAINT claim_is_on_a_work_item FOREIGN KEY (work_item_id) REFERENCES imi.work_items(id);

-- Name: components component_belongs_to_a_project; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.components
    ADD CONSTRAINT component_belongs_to_a_project FOREIGN KEY (parent_project_id) REFERENCES imi.projects(id);

-- Name: components component_is_a_project; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.components
    ADD CONSTRAINT component_is_a_project FOREIGN KEY (linked_project_id) REFERENCES imi.projects(id);

-- Name: deploy_links deploy_link_is_on_a_work_item; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.deploy_links
    ADD CONSTRAINT deploy_link_is_on_a_work_item FOREIGN KEY (work_item_id) REFERENCES imi.work_items(id);

-- Name: pr_links pr_link_is_on_a_work_item; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.pr_links
    ADD CONSTRAINT pr_link_is_on_a_work_item FOREIGN KEY (work_item_id) REFERENCES imi.work_items(id);

-- Name: component_relationships relationship_has_a_source; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.component_relationships
    ADD CONSTRAINT relationship_has_a_source FOREIGN KEY (source_component_id) REFERENCES imi.components(id);

-- Name: component_relationships relationship_has_a_target; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.component_relationships
    ADD CONSTRAINT relationship_has_a_target FOREIGN KEY (target_component_id) REFERENCES imi.components(id);

-- Name: project_remotes remote_belongs_to_a_project; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.project_remotes
    ADD CONSTRAINT remote_belongs_to_a_project FOREIGN KEY (project_id) REFERENCES imi.projects(id);

-- Name: ticket_links ticket_link_is_on_a_work_item; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.ticket_links
    ADD CONSTRAINT ticket_link_is_on_a_work_item FOREIGN KEY (work_item_id) REFERENCES imi.work_items(id);

-- Name: work_items work_belongs_to_a_project; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.work_items
    ADD CONSTRAINT work_belongs_to_a_project FOREIGN KEY (project_id) REFERENCES imi.projects(id);

-- Name: worktrees worktree_belongs_to_a_project; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.worktrees
    ADD CONSTRAINT worktree_belongs_to_a_project FOREIGN KEY (project_id) REFERENCES imi.projects(id);

-- Name: worktrees worktree_serves_a_work_item; Type: FK CONSTRAINT; Schema: imi; Owner: -

ALTER TABLE ONLY imi.worktrees
    ADD CONSTRAINT worktree_serves_a_work_item FOREIGN KEY (work_item_id) REFERENCES imi.work_items(id);
