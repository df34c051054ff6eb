import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { type CredentialsOf, registryCredentials } from "./eco-credentials.ts";
import type { Comparison, HostState, RunDriver, RunSubject } from "./eco-driver.ts";
import { AegisError } from "./errors.ts";
import { imagesIn, otherThan } from "./image-docker-store.ts";
import { isImageConfig } from "./image-manifest.ts";
import { DOCKER_HUB, normalizeReference } from "./image-reference.ts";
import { createFileExclusive, readText } from "./sys-files.ts";
import { type RunResult, resolveProgram, run } from "./sys-spawn.ts";

/*
 * Runs signed pulls with docker. Its engine fetches the image itself, over a network of its own and by its own settings: the digest
 * is what protects. Afterwards the engine's store is compared with the signed plan.
 */

const ROOT = "/var/lib/docker";
const SOCKET = "unix:///var/run/docker.sock";
const LIMIT_MS = 30 * 60_000;
const READY_MS = 30_000;
const MAX_INFO = 4 * 1024 * 1024;
/** docker's settings in its HOME. */
const SETTINGS = "config.json";
/** Docker Hub in docker's settings, and where it asks for passwords. */
const HUB_KEY = "https://index.docker.io/v1/";
const HUB_HOSTS: readonly string[] = ["auth.docker.io", "registry-1.docker.io"];
/** Created by whoever stops the run. */
const STOPPED = "stopped";

const Info = v.looseObject({
  DockerRootDir: v.optional(v.string(), ""),
  Driver: v.optional(v.string(), ""),
  DriverStatus: v.nullish(v.array(v.array(v.string())), []),
  ServerErrors: v.nullish(v.array(v.string()), []),
});

/** What tests replace. */
interface DockerHost {
  root: string;
  /** `docker info --format {{json .}}`, or null without docker. */
  info(): Promise<RunResult | null>;
  credentials: CredentialsOf;
}

export function dockerDriver(host: Partial<DockerHost> = {}): RunDriver {
  const { root = ROOT, info = askEngine, credentials = registryCredentials() } = host;
  return {
    user: "root",
    roots: [root],
    hold: () => Promise.resolve(null),
    async ready() {
      refuseUnready(await info(), root);
    },

    async prepare(_plan, argv, { directory, archives }) {
      const program = resolveProgram(argv[0] ?? "");
      if (program === null) throw new AegisError("unavailable", `${argv[0]} is not installed`);
      const home = join(directory, "home");
      for (const path of [directory, archives, home]) mkdirSync(path, { mode: 0o700 });
      const settings = passwordFor(argv.at(-1) ?? "", credentials);
      if (settings !== null) writeFileSync(join(home, SETTINGS), settings, { mode: 0o600, flag: "wx" });
      // No settings of anybody else's: another engine, a helper for passwords or a plug-in would be named there.
      return { directory, program, environment: environment(home), cwd: home, facts: { engine: SOCKET } };
    },

    observe: () => imagesIn(root),
    progress: () => null,
    mayStop: (directory) => createFileExclusive(join(directory, STOPPED), ""),
    wasStopped: (directory) =>
      readText(join(directory, STOPPED)) === null ? null : "before the image was there",
    limitMs: () => LIMIT_MS,
    isAlive: () => false,
    witness(directory, subject) {
      // The run is over, and what it was given for the registry is of no more use.
      rmSync(join(directory, "home", SETTINGS), { force: true });
      if (imagesIn(root)[imageOf(subject)] === undefined)
        return { verdict: "absent", reason: "docker's store has nothing under the signed digest" };
      const why = otherThan(configOf(subject), imageOf(subject), root);
      return why === null
        ? { verdict: "vouched" }
        : { verdict: "refused", code: "evidence_mismatch", reason: why };
    },
    compare: compareImages,
    watchBesides: () => () => [],
    advice: () => Promise.resolve({ text: "", facts: {} }),
  };
}

/**
 * docker's settings with the executor's own password for the image's registry; null without one. docker sends it to its engine, which
 * sends it to that registry, or to whom that names for tokens.
 */
function passwordFor(image: string, credentials: CredentialsOf): string | null {
  const { domain } = normalizeReference(image);
  const [key, hosts] = domain === DOCKER_HUB ? [HUB_KEY, HUB_HOSTS] : [domain, [domain]];
  for (const host of hosts) {
    const [, auth] =
      /^Basic (\S+)$/.exec(credentials(new URL(`https://${host}/`))["authorization"] ?? "") ?? [];
    if (auth !== undefined) return JSON.stringify({ auths: { [key]: { auth } } });
  }
  return null;
}

function environment(home: string): Record<string, string> {
  const common = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8", HOME: home };
  return { ...common, DOCKER_CONFIG: home, DOCKER_HOST: SOCKET };
}

function askEngine(): Promise<RunResult | null> {
  const program = resolveProgram("docker");
  if (program === null) return Promise.resolve(null);
  const options = { env: environment("/nonexistent"), cwd: "/", timeoutMs: READY_MS, maxBytes: MAX_INFO };
  return run(program, ["info", "--format", "{{json .}}"], options);
}

/** @throws AegisError `unavailable` */
function refuseUnready(result: RunResult | null, root: string): void {
  const refuse = (why: string, hint: string) => new AegisError("unavailable", why, hint);
  if (result === null)
    throw refuse(
      "docker is not installed",
      "Install docker.io, on Debian 13 docker-cli as well, then apply it again.",
    );
  const tree = result.status === 0 ? tried(() => parseJson(result.stdout.toString("utf8"))) : null;
  const parsed = v.safeParse(Info, tree);
  if (!parsed.success || (parsed.output.ServerErrors ?? []).length > 0)
    throw refuse("docker's engine doesn't answer", "See: systemctl status docker");
  const { DockerRootDir, DriverStatus } = parsed.output;
  if (DockerRootDir !== root)
    throw refuse(
      `docker's engine keeps its images in ${DockerRootDir}, and what it pulls can be compared in ${root} only`,
      "Take data-root out of /etc/docker/daemon.json, or pull with another host.",
    );
  if ((DriverStatus ?? []).some((pair) => pair.some((word) => word.startsWith("io.containerd.snapshotter"))))
    throw refuse(
      "docker's engine keeps its images in containerd's store, where what it pulls can't be compared afterwards",
      'Set "features": { "containerd-snapshotter": false } in /etc/docker/daemon.json and restart docker (it won\'t see the images of that store then), or pull with another host.',
    );
}

function tried<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/** The complete reference that is pulled. */
function imageOf({ argv }: RunSubject): string {
  return argv.at(-1) ?? "";
}

/** The digest of the configuration, which is the image's id. */
function configOf({ transaction }: RunSubject): string {
  return transaction.find(({ media_type }) => isImageConfig(media_type ?? ""))?.to_version ?? "";
}

function compareImages(subject: RunSubject, before: HostState, after: HostState): Comparison {
  const [image, expected] = [imageOf(subject), configOf(subject)];
  const difference = (key: string, wanted: string | null, found: string | null) => ({
    ...{ package: key, architecture: "all", expected: wanted, found },
  });
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  const changed = keys.filter((key) => before[key] !== after[key]);
  const found = after[image] ?? null;
  return {
    not_as_planned: found === expected ? [] : [difference(image, expected, found)],
    changed_besides: changed
      .filter((key) => key !== image)
      .map((key) => difference(key, before[key] ?? null, after[key] ?? null)),
    inverse: changed.map((key) => ({
      ...{ package: key, architecture: "all", before: before[key] ?? null, left: after[key] ?? null },
    })),
  };
}
