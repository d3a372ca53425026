-- Remotes: what names a repository, in whichever spelling.
--
-- git@github.com:Org/Repo.git and https://user:secret@GitHub.com/org//repo/ are one repository. Its key is the canonical
-- host[:port]/path: without scheme, user, the scheme's own port, .git, doubled and trailing slashes, query and fragment.
-- Hosts ignore case; paths do on the three hosts that ignore it. What is kept of the spelling is kept without its
-- secrets, and nothing of a refused one goes into the error. What looks like a URL that lost a slash, or holds a
-- user:password@ where no user can stand, is refused: it would be kept.

create or replace function logic.percent_decode(p_text text) returns text
language plpgsql
immutable
as $$
begin
  return case when strpos(p_text, '%') = 0 then p_text else (
    select convert_from(string_agg(
      case when part[1] ~ '^%..' then decode(substr(part[1], 2), 'hex') else convert_to(part[1], 'UTF8') end, ''::bytea order by n), 'UTF8')
    from regexp_matches(p_text, '%[0-9A-Fa-f]{2}|[^%]+|%', 'g') with ordinality as parts (part, n)) end;
exception
  when character_not_in_repertoire then
    return null;
end
$$;
comment on function logic.percent_decode is 'The text with its %XX decoded, null where that is not UTF-8';

create or replace function logic.remote_parse(p_remote text, out remote_key text, out remote_origin text, out name text)
language plpgsql
immutable
as $$
declare
  v_url text[] := regexp_match(p_remote, '^([A-Za-z]+)://([^/?#]*)([^?#]*)');
  v_scp text[] := case when v_url is null then regexp_match(p_remote, '^(?:([^/@:[:space:]]+)@)?(\[[^]/]*\]|[^/@:[]+):(?!//)([^@]+)$') end;
  v_scheme text := lower(v_url[1] collate "C");
  v_authority text[];
  v_user text;
  v_host text;
  v_port text;
  v_path text;
begin
  if p_remote is null or char_length(p_remote) > 2048 or p_remote ~ '^-|[[:cntrl:]]' then
    v_url := null;
    v_scp := null;
  elsif v_scheme in ('https', 'http', 'ssh', 'git') then
    v_authority := regexp_match(v_url[2], '^(?:(.*)@)?(\[[0-9A-Fa-f:.]+\]|[^@:%[:space:]\[\]]+)(?::([0-9]*))?$');
    v_user := v_authority[1];
    v_host := v_authority[2];
    v_port := nullif(v_authority[3], '');
    v_path := logic.percent_decode(v_url[3]);
    -- ssh needs its user to work; a user of http(s) may be a token
    remote_origin := v_url[1] || '://'
      || case when v_scheme = 'ssh' and v_user <> '' then split_part(v_user, ':', 1) || '@' else '' end
      || v_host || coalesce(':' || v_port, '') || v_url[3];
  elsif v_scheme = 'file' and v_url[2] in ('', 'localhost') then
    v_host := 'file';
    v_path := logic.percent_decode(v_url[3]);
    remote_origin := 'file://' || v_url[3];
  elsif v_url is null and p_remote ~ '^/(?!/)' then
    v_host := 'file';
    v_path := p_remote;
    remote_origin := p_remote;
  elsif v_url is null and (v_scp[1] is not null or v_scp[3] ~ '/') and lower(v_scp[2] collate "C") not in ('http', 'https', 'ssh', 'git', 'file') then
    v_scheme := 'ssh';
    v_host := v_scp[2];
    v_path := v_scp[3];
    remote_origin := p_remote;
  end if;

  v_host := lower(v_host collate "C");
  if v_host = 'ssh.github.com' and v_port = '443' then
    v_host := 'github.com';
    v_port := null;
  end if;
  v_path := trim('/' from regexp_replace(v_path, '/+', '/', 'g'));
  if v_host in ('github.com', 'gitlab.com', 'bitbucket.org') then
    name := regexp_replace(v_path, '([^/])\.git$', '\1', 'i');
    v_path := lower(name collate "C");
  else
    name := regexp_replace(v_path, '([^/])\.git$', '\1');
    v_path := name;
  end if;
  if v_host is null or v_path is null or v_path = '' or v_host ~ '^-|[[:space:]]' or v_path ~ '[[:cntrl:]]'
    or v_path ~ '(^|/)\.{1,2}(/|$)|(^|/)[^/]*:[^/]*@' or v_port::numeric not between 1 and 65535
  then
    perform logic.fail(400, 'INVALID_REMOTE_ORIGIN', 'Not a git remote that iMi can tell apart', '{}',
      'Use https://host/path, ssh://[user@]host[:port]/path, git://…, user@host:path, file:///path or an absolute path');
  end if;
  name := regexp_replace(name, '^.*/', '');
  remote_key := v_host || coalesce(
    ':' || nullif(v_port::integer, case v_scheme when 'https' then 443 when 'http' then 80 when 'ssh' then 22 when 'git' then 9418 end),
    '') || '/' || v_path;
end
$$;
comment on function logic.remote_parse is 'A remote''s canonical key, the remote without its secrets, and the name it suggests';
