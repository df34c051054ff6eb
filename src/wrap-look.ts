/*
 * Options of verbs that only look, by program: none runs, writes or opens anything, whichever of the verbs it stands
 * behind. A verb that doesn't have one of them says so itself.
 */

export const APT_LOOK = [
  "-q --quiet -v --verbose -a --all-versions --installed --upgradable --upgradeable --manual-installed",
  "-n --names-only -f --full -i --important --recurse --no-recommends --no-suggests",
].join(" ");

export const NPM_LOOK = [
  "-g --global --json -l --long -p --parseable -s --silent -q --quiet --verbose -a --all --depth --omit --include",
  "--registry --loglevel --offline --prefer-offline --no-color --no-progress --no-update-notifier --searchlimit",
  "-w --workspace --workspaces --prefix -C --audit-level --sbom-format --sbom-type",
].join(" ");

/** A name in the registry: of a git source npm makes a clone, and may run its scripts. */
export const NPM_NAME = /^(?:@[^/:\\]+\/)?[^./:\\~][^/:\\]*$/;

/** Without --python, which runs another interpreter, and --log, which writes a file. */
export const PIP_LOOK = [
  "-q --quiet -v --verbose -o --outdated -u --uptodate -e --editable -l --local --user --path --pre --format --json",
  "--not-required --exclude-editable --include-editable --exclude -f --files --all -a --algorithm --no-color",
  "--no-input --disable-pip-version-check --isolated",
].join(" ");

/** Without anything that names another engine, store, helper program or file: podman takes those behind the verb too. */
export const CONTAINER_LOOK = [
  "-a --all -q --quiet --no-trunc -n --last -l --latest -s --size -f --filter --follow --format --digests --since",
  "--until -t --timestamps --tail --type --no-stream --limit -v --verbose --sort --noheading --list-tags",
].join(" ");

export const NUGET_LOOK =
  "-NonInteractive -AllVersions -Prerelease -PreRelease -Format -Verbosity -Take -IncludeDelisted";
