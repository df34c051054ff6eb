/*
 * Options of read-only verbs, by program. None runs, writes or opens anything after any of these verbs. A verb that lacks
 * one of them reports that itself.
 */

export const NPM = [
  "-g --global --json -l --long -p --parseable -s --silent -q --quiet --verbose -a --all --depth --omit --include",
  "--registry --loglevel --offline --prefer-offline --no-color --no-progress --no-update-notifier --searchlimit",
  "-w --workspace --workspaces --prefix -C --audit-level --sbom-format --sbom-type",
].join(" ");

/** A registry name. npm would clone a git source and may run its scripts. */
export const NPM_NAME = /^(?:@[^/:\\]+\/)?[^./:\\~][^/:\\]*$/;

/**
 * pip's general options. The others are listed per verb: pip accepts abbreviations, so `--local` means `--local-log <file>`
 * for a verb without `--local`. Without --python, which runs another interpreter, and --log, which writes a file.
 */
export const PIP = "-q --quiet -v --verbose --no-color --no-input --disable-pip-version-check --isolated";
export const PIP_LOCAL = `${PIP} -l --local --user --path`;
export const PIP_FREEZE = `${PIP_LOCAL} --all --exclude --exclude-editable`;
export const PIP_LIST = `${PIP_LOCAL} -o --outdated -u --uptodate -e --editable --pre --format --not-required --exclude --exclude-editable`;

/** Without options that name another engine, store, helper program or file, which podman also accepts after the verb. */
export const CONTAINER = [
  "-a --all -q --quiet --no-trunc -n --last -l --latest -s --size -f --filter --follow --format --digests --since",
  "--until -t --timestamps --tail --type --no-stream --limit -v --verbose --sort --noheading --list-tags",
].join(" ");

export const NUGET =
  "-NonInteractive -AllVersions -Prerelease -PreRelease -Format -Verbosity -Take -IncludeDelisted";
