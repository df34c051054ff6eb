import type { ImageFacts } from "./doc-plan.ts";
import { type ImageConfig, platformName } from "./image-manifest.ts";

/*
 * What an image's configuration says of it, bounded for a plan. All of it is the word of whoever made the image.
 */

const MAX_TEXT = 1024;
const MAX_WORDS = 64;
const MAX_NAMES = 256;
const MAX_LABELS = 64;

const bounded = (text: string) => text.slice(0, MAX_TEXT).toWellFormed();

/** The facts of a configuration. */
export function imageFactsOf(config: ImageConfig): ImageFacts {
  const { User, Entrypoint, Cmd, ExposedPorts, Volumes, Labels } = config.config ?? {};
  const names = (of: Readonly<Record<string, unknown>> | null | undefined) =>
    Object.keys(of ?? {})
      .sort()
      .slice(0, MAX_NAMES)
      .map(bounded);
  const words = (of: readonly string[] | null | undefined) => (of ?? []).slice(0, MAX_WORDS).map(bounded);
  const labels = Object.entries(Labels ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, MAX_LABELS);
  return {
    platform: platformName(config),
    user: bounded(User ?? ""),
    starts_as_root: isRoot(User ?? ""),
    entrypoint: words(Entrypoint),
    command: words(Cmd),
    exposed_ports: names(ExposedPorts),
    volumes: names(Volumes),
    labels: Object.fromEntries(labels.map(([key, value]) => [bounded(key), bounded(value)])),
    created: timeOf(config.created ?? ""),
  };
}

/** RFC 3339 in UTC; null for what is no time, or none that can be. */
function timeOf(text: string): string | null {
  if (!/^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)$/.test(text)) return null;
  const time = Date.parse(text);
  return Number.isFinite(time) ? new Date(time).toISOString() : null;
}

/** Whether an image's process starts as root. `USER` is a name or a number, with or without a group. */
function isRoot(user: string): boolean {
  const [name = ""] = user.split(":", 1);
  return name === "" || name === "root" || /^0+$/.test(name);
}

/** What the facts tell that a person should not miss, as sentences. */
export function remarksOn(facts: ImageFacts): string[] {
  const { user, exposed_ports: ports, created, starts_as_root } = facts;
  const date = created?.slice(0, 10);
  return [
    ...(starts_as_root
      ? [`Its process starts as root${user === "" ? ": it names no user" : ` (USER ${user})`}.`]
      : []),
    ...(ports.length === 0 ? [] : [`It listens on ${ports.slice(0, 20).join(", ")}.`]),
    date === undefined
      ? "It doesn't say when it was made."
      : `It says that it was made on ${date}; nobody vouches for that.`,
  ];
}
