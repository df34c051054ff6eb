/*
 * Options of verbs that only look, by program: none runs, writes or opens anything, whichever of the verbs it stands
 * behind. A verb that doesn't have one of them says so itself.
 */

export const NPM = [
  "-g --global --json -l --long -p --parseable -s --silent -q --quiet --verbose -a --all --depth --omit --include",
  "--registry --loglevel --offline --prefer-offline --no-color --no-progress --no-update-notifier --searchlimit",
  "-w --workspace --workspaces --prefix -C --audit-level --sbom-format --sbom-type",
].join(" ");

/** A name in the registry: of a git source npm makes a clone, and may run its scripts. */
export const NPM_NAME = /^(?:@[^/:\\]+\/)?[^./:\\~][^/:\\]*$/;

/**
 * pip's general options, which every verb has. The rest goes verb by verb: pip takes abbreviations, so that `--local` is
 * `--local-log <file>` for a verb without a `--local` of its own. Nowhere --python, which runs another interpreter, or
 * --log, which writes a file.
 */
export const PIP = "-q --quiet -v --verbose --no-color --no-input --disable-pip-version-check --isolated";
export const PIP_LOCAL = `${PIP} -l --local --user --path`;
export const PIP_FREEZE = `${PIP_LOCAL} --all --exclude --exclude-editable`;
export const PIP_LIST = `${PIP_LOCAL} -o --outdated -u --uptodate -e --editable --pre --format --not-required --exclude --exclude-editable`;

/** Without anything that names another engine, store, helper program or file: podman takes those behind the verb too. */
export const CONTAINER = [
  "-a --all -q --quiet --no-trunc -n --last -l --latest -s --size -f --filter --follow --format --digests --since",
  "--until -t --timestamps --tail --type --no-stream --limit -v --verbose --sort --noheading --list-tags",
].join(" ");

export const NUGET =
  "-NonInteractive -AllVersions -Prerelease -PreRelease -Format -Verbosity -Take -IncludeDelisted";
